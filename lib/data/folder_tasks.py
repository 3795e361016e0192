"""Tasks from anybody's pictures: <root>/<task>/{train,test}/<class>/*.png or .jpg."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.data.folders import TaskError, class_folders, class_names, decode, picture_files
from lib.data.reference import ReferenceSettings, draw
from lib.data.tasks import SPLITS, Pictures, Task, TaskSettings, save


def prepare(name: str, settings: TaskSettings, size: int, root: Path, file: Path) -> None:
    """Reads a task's pictures and writes the prepared task."""
    save(make(name, settings, size, root), file)


def make(name: str, settings: TaskSettings, size: int, root: Path) -> Task:
    """The task of a folder, at size x size pixels. Raises TaskError for folders or pictures that cannot be used."""
    home = root / settings.root / name
    folders = {split: class_folders(home / split) for split in SPLITS}
    listed = {split: [f.name for f in folders[split]] for split in SPLITS}
    if listed["train"] != listed["test"]:
        odd = sorted(set(listed["train"]) ^ set(listed["test"]))
        raise TaskError(f"{home}: train and test must have the same classes; only in one of them: {', '.join(odd)}")
    if not settings.templates:
        raise TaskError('params tasks.templates is empty; a folder study needs prompts, such as "a photo of a {}."')
    limits = (settings.train_per_class, settings.test_per_class)
    train, test = (_read(folders[s], most, size, settings.seed) for s, most in zip(SPLITS, limits, strict=True))
    return Task(name, class_names(home, listed["train"]), settings.templates, train, test)


def _read(folders: list[Path], most: int, size: int, seed: int) -> Pictures:
    """All pictures of the class folders, or a seeded draw of at most `most` of each class."""
    images, labels = [], []
    for label, folder in enumerate(folders):
        files = picture_files(folder)
        if 0 < most < len(files):
            picked = np.random.default_rng([seed, label]).permutation(len(files))[:most]
            files = [files[i] for i in sorted(picked)]
        images += [decode(file, size) for file in files]
        labels += [label] * len(files)
    return Pictures(channels_first(np.stack(images)), torch.tensor(labels))


def channels_first(pictures: np.ndarray) -> Tensor:
    """Pictures (N, H, W, 3) as a tensor (N, 3, H, W)."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def check_prompts(task: Task, tokenizer: Callable[[list[str]], Tensor]) -> None:
    """Raises TaskError for a class whose prompt the backbone cannot read to its end, or not tell from another's."""
    for template in task.templates:
        prompts = [prompt.rstrip() for prompt in task.prompts(template)]
        names: dict[bytes, str] = {}
        for name, prompt in zip(task.classes, prompts, strict=True):
            tokens, shorter = tokenizer([prompt, prompt[:-1]])
            if torch.equal(tokens, shorter):  # where a prompt is cut, its last letter is not read
                raise TaskError(
                    f"task {task.name}: the prompt of class {name[:40]!r} has more than the backbone's "
                    f"{len(tokens)} tokens; give the folder a shorter name"
                )
            other = names.setdefault(tokens.numpy().tobytes(), name)
            if other != name:
                raise TaskError(
                    f"task {task.name}: the backbone reads classes {name!r} and {other!r} as the same; rename a folder"
                )


def reference(settings: ReferenceSettings, template: str, size: int, root: Path) -> tuple[np.ndarray, list[str]]:
    """Pictures (N, H, W, 3) and captions drawn from <root>/<class>/*.png or .jpg."""
    files = [file for folder in class_folders(root / settings.root) for file in picture_files(folder)]
    chosen = [files[i] for i in draw(settings, len(files))]
    captions = [template.format(file.parent.name.replace("_", " ")) for file in chosen]
    return np.stack([decode(file, size) for file in chosen]), captions
