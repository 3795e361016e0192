"""A task: a data set to learn, with its class names, its prompts and its pictures at the backbone's resolution.

A prepared task is one safetensors file, written once, so that training never waits for a picture decoder. Beside the
tasks lies the reference set: captioned pictures of none of them, on which ZSCL and LwF-VR distil. With
`selector.reference` it has an autoencoder of its own, for "none of the tasks".
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.data.task_settings import TaskSettings
from lib.files import whole

SPLITS, PARTS = ("train", "test"), ("images", "labels")


class TaskError(ValueError):
    """A task that cannot be used; the message names the folder or file and what is expected."""


@dataclass(frozen=True)
class ReferenceSet:
    """Images (N, 3, H, W) uint8, tokens (N, L) of their captions, and which captions name a class of a task (N,)."""

    images: Tensor
    tokens: Tensor
    named: Tensor

    def without_names(self) -> "ReferenceSet":
        """The pictures whose captions name no class of a task. Raises TaskError if there is none."""
        if self.named.all():
            raise TaskError("every caption of the reference set names a class of a task; set task_names to true")
        return ReferenceSet(self.images[~self.named], self.tokens[~self.named], self.named[~self.named])


@dataclass(frozen=True)
class Pictures:
    """The pictures of one split: images (N, 3, H, W) uint8 and labels (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, places: Tensor, first: int = 0) -> "Pictures":
        """The pictures at some places, with `first` taken off their labels."""
        return Pictures(self.images[places], self.labels[places] - first)


@dataclass(frozen=True)
class Task:
    """A data set to learn: class names, prompt templates (the training template first), and two splits.

    Only for tests (lib.data.scenarios): places, of a task that is tested among the classes of several tasks, are the
    places (C,) in `classes` of every task's own classes, by task number. nearest_task (N,): of each test picture, the
    number of the task to which the class belongs that the frozen CLIP finds among the classes of all tasks. listed: the
    number of the first task whose own classes are exactly the candidates, if there is one.
    """

    name: str
    classes: list[str]
    templates: list[str]
    train: Pictures
    test: Pictures
    places: dict[int, Tensor] = field(default_factory=dict)
    nearest_task: Tensor | None = None
    listed: int | None = None

    def prompts(self, template: str) -> list[str]:
        """One prompt for each class."""
        return [template.format(name) for name in self.classes]

    def places_or_own(self, number: int) -> dict[int, Tensor]:
        """`places`; for a task that is tested among its own classes, all of them as the classes of task `number`."""
        return self.places or {number: torch.arange(len(self.classes))}


def channels_first(pictures: np.ndarray) -> Tensor:
    """Pictures (N, H, W, 3) as a tensor (N, 3, H, W)."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def random_crop(images: Tensor, smallest: float, rng: np.random.Generator) -> Tensor:
    """The augmentation of training pictures (released code), which has no flip: RandomResizedCrop, bicubic.

    Of each image (B, 3, H, W) `smallest` to 1 of its area is kept, at an aspect ratio of 3:4 to 4:3.
    """
    count = len(images)
    area = rng.uniform(smallest, 1, count)
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), count) / 2)
    wide, high = np.minimum(np.sqrt(area) * ratio, 1), np.minimum(np.sqrt(area) / ratio, 1)
    x, y = rng.uniform(-1, 1, (2, count)) * (1 - np.stack([wide, high]))
    maps = np.zeros((count, 2, 3))
    maps[:, 0, 0], maps[:, 1, 1], maps[:, 0, 2], maps[:, 1, 2] = wide, high, x, y
    grid = F.affine_grid(torch.from_numpy(maps).to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False)


def write_tensors(file: Path, tensors: Mapping[str, Tensor], about: dict[str, str] | None = None) -> None:
    """Writes tensors by name, and texts about them. Raises DiskError for a full or read-only disk."""
    with whole(file) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, about)


def names_any(caption: str, classes: Iterable[str]) -> bool:
    """True if a caption holds one of the class names as whole words."""
    return any(re.search(rf"\b{re.escape(name)}\b", caption) for name in classes)


def save_reference(reference: ReferenceSet, file: Path) -> None:
    """Writes a reference set. Raises DiskError for a full or read-only disk."""
    write_tensors(file, vars(reference))


def load_reference(file: Path) -> ReferenceSet:
    """The reference set that `save_reference` wrote. Raises TaskError if the file is missing or damaged."""
    return ReferenceSet(**read_tensors(file, [part.name for part in fields(ReferenceSet)], "reference set"))


def read_tensors(file: Path, names: Sequence[str], what: str) -> dict[str, Tensor]:
    """Tensors by name. what: for the TaskError if the file is missing or damaged, what it should be."""
    try:
        held = load_file(file)
        return {name: held[name] for name in names}
    except (OSError, SafetensorError, KeyError) as error:
        raise TaskError(f"{file} holds no {what} ({error}); delete it and run the study again") from error


def save(task: Task, file: Path) -> None:
    """Writes a prepared task. Raises DiskError for a full or read-only disk."""
    about = {"name": task.name, "classes": task.classes, "templates": task.templates}
    tensors = {f"{s}_{part}": getattr(getattr(task, s), part) for s in SPLITS for part in PARTS}
    write_tensors(file, tensors, {"task": json.dumps(about)})


def load(file: Path) -> Task:
    """A prepared task. Raises TaskError if the file is missing or damaged, or holds no task."""
    try:
        with safe_open(file, "pt") as opened:
            about = json.loads(opened.metadata()["task"])
            train, test = (Pictures(*(opened.get_tensor(f"{split}_{part}") for part in PARTS)) for split in SPLITS)
        task = Task(about["name"], about["classes"], about["templates"], train, test)
        _check(task)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise TaskError(f"{file} is no prepared task ({error}); the stage `tasks` makes it again") from error
    return task


def _check(task: Task) -> None:
    """Raises ValueError if the parts of a task contradict each other. Reads labels, but no picture."""
    if any(not isinstance(text, str) for text in (task.name, *task.classes, *task.templates)):
        raise ValueError("its name, classes and templates must be texts")
    for images, labels in ((part.images, part.labels) for part in (task.train, task.test)):
        shapes = images.ndim == 4 and images.shape[1] == 3 and labels.shape == images.shape[:1] and len(labels)
        if not shapes or (images.dtype, labels.dtype) != (torch.uint8, torch.int64):
            both = [f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in (images, labels)]
            raise ValueError(f"its {len(images)} pictures and labels are {both}, not uint8 (N, 3, H, W) and int64 (N,)")
        if not 0 <= int(labels.min()) <= int(labels.max()) < len(task.classes):
            raise ValueError(f"it has labels outside of its {len(task.classes)} classes")


def check_prompts(task: Task, tokenizer: Callable[[list[str]], Tensor]) -> None:
    """Raises TaskError if a prompt is too long for the backbone, or if two classes have the same tokens."""
    for template in task.templates:
        first: dict[bytes, str] = {}  # the first class with these tokens
        for name, prompt in zip(task.classes, task.prompts(template), strict=True):
            tokens, shorter = tokenizer([prompt.rstrip(), prompt.rstrip()[:-1]])
            if torch.equal(tokens, shorter):  # the prompt is cut before its last letter
                limit = f"the backbone's {len(tokens)} tokens; give the folder a shorter name"
                raise TaskError(f"task {task.name}: a prompt of class {name[:40]!r} is empty or has more than {limit}")
            if (other := first.setdefault(tokens.numpy().tobytes(), name)) != name:
                same = f"the backbone reads classes {other!r} and {name!r} as the same prompts; rename a folder"
                raise TaskError(f"task {task.name}: {same}")


def arranged(task: Task, settings: TaskSettings) -> Task:
    """A prepared task with the study's templates, if it has any, and its classes in the study's order."""
    order = settings.class_order or list(range(len(task.classes)))
    if sorted(order) != list(range(len(task.classes))):
        raise TaskError(f"tasks.class_order must have each of 0 to {len(task.classes) - 1} once, for task {task.name}")
    place = torch.tensor(order).argsort()
    train, test = (Pictures(split.images, place[split.labels]) for split in (task.train, task.test))
    return Task(task.name, [task.classes[i] for i in order], settings.templates or task.templates, train, test)


def names(settings: TaskSettings) -> list[str]:
    """All tasks of a study: those of the first order. Raises TaskError if another order names a task that it lacks."""
    (first, listed), *others = settings.orders.items()
    for order, other in others:
        if strange := sorted(set(other) - set(listed)):
            allowed = f"it can have those of {first}: {', '.join(listed)}"
            raise TaskError(f"tasks.orders.{order} has {', '.join(strange)}; {allowed}")
    return listed
