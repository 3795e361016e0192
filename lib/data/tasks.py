"""Tasks: the sequence of data sets that a study learns, each as uint8 pictures at the backbone's resolution.

A source makes the tasks of a study: `mini` renders and cuts them, `folder` reads anybody's own pictures. They are
decoded once into one safetensors file a task, so that training never waits for a decoder.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.data.folders import TaskError, class_folders, class_names, decode, picture_files
from lib.files import whole
from lib.study.params import Study, Tasks
from lib.study.paths import DATA, ROOT

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Pictures:
    """Pictures of one split: images (N, 3, H, W) uint8 and labels (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Task:
    """A data set to learn: class names, prompts (the training template first), and two splits.

    places: where the classes are not the task's own (lib/data/label_spaces.py), for each task number the places (C,) of its.
    """

    name: str
    classes: list[str]
    templates: list[str]
    train: Pictures
    test: Pictures
    places: dict[int, Tensor] = field(default_factory=dict)

    def prompts(self, template: str) -> list[str]:
        """One prompt for each class."""
        return [template.format(name) for name in self.classes]

    def places_or_own(self, number: int) -> dict[int, Tensor]:
        """`places`, or the task's own classes as those of task number `number`."""
        return self.places or {number: torch.arange(len(self.classes))}


def make(name: str, params: Tasks, size: int) -> Task:
    """Task `name` from the study's source, at size x size pixels. Raises TaskError where it cannot be made."""
    return SOURCES[params.source](name, params, size)


def _mini(name: str, params: Tasks, size: int) -> Task:
    from tools.miniworld import mini_tasks as mini

    if name not in mini.MINI:
        raise TaskError(f"the mini study has no task {name!r}; it has: {', '.join(mini.MINI)}")
    if size != mini.SIZE:
        raise TaskError(f"the mini tasks have {mini.SIZE} pixels a side, the backbone wants {size}")
    splits = []
    for split, count in zip(SPLITS, (params.train_per_class, params.test_per_class), strict=True):
        pictures, labels = mini.draw(name, split, count, params.seed)
        splits.append(Pictures(_channels_first(pictures), torch.from_numpy(labels)))
    return Task(name, mini.MINI[name].classes, mini.MINI[name].templates, splits[0], splits[1])


def _channels_first(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def _folder(name: str, params: Tasks, size: int) -> Task:
    root = ROOT / params.root / name
    found = {split: class_folders(root / split) for split in SPLITS}
    names = {split: [f.name for f in folders] for split, folders in found.items()}
    if names["train"] != names["test"]:
        odd = sorted(set(names["train"]) ^ set(names["test"]))
        raise TaskError(f"{root}: train and test must have the same classes; only in one of them: {', '.join(odd)}")
    if not params.templates:
        raise TaskError('params tasks.templates is empty; a folder study needs prompts, such as "a photo of a {}."')
    classes = class_names(root, names["train"])
    limits = (params.train_per_class, params.test_per_class)
    splits = [_read(found[s], most, size, params.seed) for s, most in zip(SPLITS, limits, strict=True)]
    return Task(name, classes, params.templates, splits[0], splits[1])


def check_prompts(task: Task, tokenizer: Callable[[list[str]], Tensor]) -> None:
    """Raises TaskError for a class whose prompts the backbone cannot read to their end, or not tell from another's."""
    for template in task.templates:
        prompts = [prompt.rstrip() for prompt in task.prompts(template)]
        known: dict[bytes, str] = {}
        for name, prompt in zip(task.classes, prompts, strict=True):
            tokens, shorter = tokenizer([prompt, prompt[:-1]])
            if torch.equal(tokens, shorter):  # where a prompt is cut, its last letter is not read
                raise TaskError(
                    f"task {task.name}: the prompt of class {name[:40]!r} has more than the backbone's "
                    f"{len(tokens)} tokens; give the folder a shorter name"
                )
            if known.setdefault(tokens.numpy().tobytes(), name) != name:
                raise TaskError(
                    f"task {task.name}: the backbone reads classes {name!r} and "
                    f"{known[tokens.numpy().tobytes()]!r} as the same; rename a folder"
                )


def _read(folders: list[Path], most: int, size: int, seed: int) -> Pictures:
    """All pictures of the class folders, or a seeded draw of at most `most` of each."""
    images, labels = [], []
    for label, folder in enumerate(folders):
        files = picture_files(folder)
        if 0 < most < len(files):
            picked = np.random.default_rng([seed, label]).permutation(len(files))[:most]
            files = [files[i] for i in sorted(picked)]
        images += [decode(file, size) for file in files]
        labels += [label] * len(files)
    return Pictures(_channels_first(np.stack(images)), torch.tensor(labels))


def _datasets(name: str, params: Tasks, size: int) -> Task:
    from tools.datasets import decoded

    return load(decoded.ensure(name, params, size))


SOURCES: dict[str, Callable[[str, Tasks, int], Task]] = {
    "mini": _mini,
    "folder": _folder,
    "datasets": _datasets,
}


def path(study: str, task: str) -> Path:
    """Where a prepared task lies."""
    return DATA / study / "tasks" / f"{task}.safetensors"


def save(task: Task, file: Path) -> None:
    """Writes a prepared task. Raises DiskError for a full or read-only disk."""
    about = {"name": task.name, "classes": task.classes, "templates": task.templates}
    tensors = {
        f"{split}_{part}": getattr(getattr(task, split), part) for split in SPLITS for part in ("images", "labels")
    }
    with whole(file) as partial:
        save_file(tensors, partial, {"task": json.dumps(about)})


def load(file: Path) -> Task:
    """A prepared task. Raises TaskError if the file is missing, damaged, or holds no task."""
    try:
        with safe_open(file, "pt") as opened:
            about = json.loads(opened.metadata()["task"])
            splits = [Pictures(opened.get_tensor(f"{s}_images"), opened.get_tensor(f"{s}_labels")) for s in SPLITS]
        made = Task(about["name"], about["classes"], about["templates"], splits[0], splits[1])
        _check(made)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise TaskError(f"{file} is no prepared task ({error}); the stage `tasks` makes it again") from error
    return made


def _check(task: Task) -> None:
    """Raises ValueError if a task's parts do not go together; looks at no picture."""
    texts = [task.classes, task.templates]
    if not isinstance(task.name, str) or any(not isinstance(t, str) for part in texts for t in part):
        raise ValueError("its name, classes and templates are no texts")
    for part in (task.train, task.test):
        images, labels = part.images, part.labels
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"its pictures are {images.dtype} {tuple(images.shape)}, not uint8 (N, 3, H, W)")
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1] or not len(labels):
            raise ValueError(f"its labels are {labels.dtype} {tuple(labels.shape)} for {len(images)} pictures")
        if not 0 <= int(labels.min()) <= int(labels.max()) < len(task.classes):
            raise ValueError(f"it has labels outside of its {len(task.classes)} classes")


def sequence(study: Study, order: str) -> list[Task]:
    """The prepared tasks of a study in one of its orders."""
    if order not in study.tasks.orders:
        raise TaskError(f"study {study.study} has no order {order!r}; it has: {', '.join(study.tasks.orders)}")
    return [_as_asked(load(path(study.study, name)), study.tasks) for name in study.tasks.orders[order]]


def _as_asked(task: Task, params: Tasks) -> Task:
    """A prepared task with the study's templates, if it has any, and its classes in the study's order."""
    order = params.class_order or list(range(len(task.classes)))
    if sorted(order) != list(range(len(task.classes))):
        raise TaskError(f"tasks.class_order must have 0 to {len(task.classes) - 1} once each, for {task.name}")
    place = torch.tensor(order).argsort()
    splits = [Pictures(split.images, place[split.labels]) for split in (task.train, task.test)]
    classes, templates = [task.classes[i] for i in order], params.templates or task.templates
    return Task(task.name, classes, templates, splits[0], splits[1])


def names(study: Study) -> list[str]:
    """Every task of a study: those of the first order. Another order may leave some out, but has no others."""
    first, *others = study.tasks.orders.items()
    for order, listed in others:
        strange = set(listed) - set(first[1])
        if strange:
            raise TaskError(
                f"order {order} of study {study.study} has {', '.join(sorted(strange))}; "
                f"it can have the tasks of {first[0]}: {', '.join(first[1])}"
            )
    return first[1]


def prepare(study: Study) -> list[Task]:
    """Makes and writes all tasks of a study, and its reference set."""
    from lib.clip.backbone import load_clip
    from lib.data import reference
    from tools.datasets import decoded

    backbone = load_clip(study.backbone.model, study.backbone.pretrained)
    for name in names(study):
        file = path(study.study, name)
        if study.tasks.source == "datasets":  # 15 GB of pictures get a second name, not a copy
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            os.link(decoded.ensure(name, study.tasks, backbone.image_size), file)
        else:
            made = make(name, study.tasks, backbone.image_size)
            if study.tasks.source == "folder":  # the user's own names
                check_prompts(made, backbone.tokenizer)
            save(made, file)
    reference.prepare(study, backbone.image_size, backbone.tokenizer)
    return sequence(study, next(iter(study.tasks.orders)))


def ensure(study: Study) -> list[Task]:
    """All tasks, made now if some are not there (as when a notebook is opened by itself)."""
    if not all(path(study.study, name).exists() for name in names(study)):
        prepare(study)
    return sequence(study, next(iter(study.tasks.orders)))
