"""The tasks of the default study: drawings by hands and in looks that the backbone never saw, handwriting, photographs.

Two kinds of things share each look, so that the selector can confuse them. Train and test are one distribution and
share no picture: drawings come from different random streams, handwriting is split at random, and photographs are cut
into cells that belong to one split. There is a task of every kind of things in every look: <kind>_<look>.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from lib.data.task_settings import ReferenceSettings, TaskSettings
from lib.data.tasks import SPLITS, Pictures, Task, TaskError, channels_first, save
from tools.miniworld import glyphs, photographs
from tools.miniworld.drawing import SIZE, placed
from tools.miniworld.looks import LOOKS
from tools.miniworld.world import FRAMES, PHRASE, example

# A drawing is turned by up to so many radians and scaled: more than in pre-training, or a linear probe would do it all.
TURN, SCALE = 0.6, (0.45, 1.0)
TEMPLATES = [frame.format(PHRASE) + "." for frame in FRAMES[:3]] + [PHRASE]  # the training template first


class Recipe(NamedTuple):
    """How a task is made: its classes, and how a picture of a class is drawn for a split, (SIZE, SIZE, 3) uint8."""

    classes: list[str]
    draw: Callable[[str, str, np.random.Generator], np.ndarray]


def _drawn(kind: str, look: str, name: str, split: str, rng: np.random.Generator) -> np.ndarray:
    drawings = glyphs.of_kind(kind, seen=False)[name]
    mask = placed(drawings[int(rng.integers(len(drawings)))], rng, TURN, SCALE)
    return LOOKS[look](mask, rng)


@cache
def _handwriting() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Handwritten digits (N, 8, 8), their labels (N,), and which of them are for tests (N,), a third, at random."""
    flat, target = load_digits(return_X_y=True)
    return np.asarray(flat).reshape(-1, 8, 8), np.asarray(target), np.random.default_rng(0).random(len(target)) < 1 / 3


def _digits(name: str, split: str, rng: np.random.Generator) -> np.ndarray:
    images, target, for_test = _handwriting()
    mine = np.flatnonzero((target == glyphs.DIGITS.index(name)) & (for_test == (split == "test")))
    pixels = Image.fromarray((255 - images[mine[int(rng.integers(len(mine)))]] * 15.9).astype(np.uint8))
    return np.repeat(np.asarray(pixels.resize((SIZE, SIZE), Image.Resampling.BICUBIC))[..., None], 3, axis=2)


def recipe(task: str) -> Recipe:
    """The recipe of a task: a kind of things in a look, or real pictures."""
    if task in REAL:
        return REAL[task]
    kind, look = task.split("_")
    return Recipe(list(glyphs.things()[kind]), partial(_drawn, kind, look))


REAL = {
    "digits": Recipe(glyphs.DIGITS, _digits),
    "surfaces": Recipe(list(photographs.PHOTOS), photographs.crop),
}
*_FIRST, _LATER = LOOKS
# A task's place draws its pictures, so the tasks of a look that came later stand at the end.
NAMES = [
    *(f"{kind}_{look}" for kind in glyphs.things() for look in _FIRST),
    *REAL,
    *(f"{kind}_{_LATER}" for kind in glyphs.things()),
]


def draw(task: str, split: str, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of a split, (N, SIZE, SIZE, 3) uint8, and labels (N,): `per_class` of each class, no two alike."""
    made, pictures, labels = recipe(task), {}, []  # pictures by their bytes
    for label, name in enumerate(made.classes):
        rng = np.random.default_rng([seed, NAMES.index(task), SPLITS.index(split), label])
        wanted = len(pictures) + per_class
        for _ in range(50 * per_class):
            if len(pictures) < wanted:
                picture = made.draw(name, split, rng)
                pictures.setdefault(picture.tobytes(), picture)
        if len(pictures) < wanted:
            raise ValueError(f"task {task}, class {name}: {per_class} {split} pictures wanted, fewer differ")
        labels += [label] * per_class
    return np.stack(list(pictures.values())), np.array(labels)


def prepare(name: str, settings: TaskSettings, size: int, root: Path, file: Path) -> None:
    """Draws a task's pictures and writes the prepared task. Raises TaskError for an unknown name or a wrong size."""
    if name not in NAMES:
        raise TaskError(f"there is no task {name!r}; there are: {', '.join(NAMES)}")
    if size != SIZE:
        raise TaskError(f"the tasks have {SIZE} pixels a side, the backbone wants {size}")
    splits = []
    for split, count in zip(SPLITS, settings.per_class(name), strict=True):
        pictures, labels = draw(name, split, count, settings.seed)
        splits.append(Pictures(channels_first(pictures), torch.from_numpy(labels)))
    save(Task(name, recipe(name).classes, TEMPLATES, splits[0], splits[1]), file)


def reference(settings: ReferenceSettings, template: str, size: int, root: Path) -> tuple[np.ndarray, list[str]]:
    """Held-out pictures (N, H, W, 3) of the pre-training world and their own captions."""
    held_out = [example(settings.seed, index, "held_out") for index in range(settings.pictures)]
    return np.stack([e.picture for e in held_out]), [template.format(e.name) for e in held_out]
