"""The tasks of the default study: two kinds of real pictures, and five kinds of drawings that the backbone never saw.

In two pairs of tasks the pictures look alike, so that the selector can confuse them: `outlines` and `letters` (the same
ink on the same paper), `surfaces` and `scenes` (grey crops of photographs). Train and test share no picture: drawings
come from different random streams, and photographs are cut into cells that belong to one split.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits

from lib.data.tasks import SPLITS, Pictures, ReferenceSettings, Task, TaskError, TaskSettings, channels_first, save
from tools.miniworld import drawing
from tools.miniworld.drawing import FINE, SHAPES, SIZE, Stroke, X, Y, cloudy, compose, finish, ink, placement, sheet
from tools.miniworld.photographs import PHOTOS, crop
from tools.miniworld.symbols import CHARTS, HOURS, chart, clock
from tools.miniworld.world import DIGITS, LETTERS, examples

HANDS = ["DejaVuSerif-Italic", "STIXGeneralItalic", "cmti10", "DejaVuSansMono-Oblique", "STIXGeneralBolIta"]
FLAGS = {
    "France": "| 0055a4 ffffff ef4135",
    "Italy": "| 009246 ffffff ce2b37",
    "Belgium": "| 000000 fae042 ed2939",
    "Ireland": "| 169b62 ffffff ff883e",
    "Germany": "- 000000 dd0000 ffce00",
    "Netherlands": "- ae1c28 ffffff 21468b",
    "Russia": "- ffffff 0039a6 d52b1e",
    "Hungary": "- cd2a3e ffffff 436f4d",
    "Austria": "- ed2939 ffffff ed2939",
    "Poland": "- ffffff dc143c",
    "Ukraine": "- 0057b7 ffd700",
    "Japan": "o ffffff bc002d",
    "Sweden": "+ 006aa7 fecc00",
    "Finland": "+ ffffff 003580",
    "Denmark": "+ c60c30 ffffff",
    "Switzerland": "x d52b1e ffffff",
}


class Recipe(NamedTuple):
    """How a task is made: its classes, its prompts, and how a picture is drawn."""

    classes: list[str]
    templates: list[str]  # the training template first
    draw: Callable[[str, str, np.random.Generator], np.ndarray]  # a class, a split -> (SIZE, SIZE, 3) uint8


def paper(rng: np.random.Generator) -> np.ndarray:
    """Ruled, slightly uneven paper (FINE, FINE, 3): the ground of both `outlines` and `letters`."""
    ground = sheet((238, 232, 214)) + 5 * cloudy(rng, 4)[..., None] + rng.normal(0, 3, (FINE, FINE, 1))
    pitch, first = int(rng.integers(14, 20)), int(rng.integers(0, 14))
    ground[first::pitch] = ground[first::pitch] * 0.6 + np.array([170, 190, 225]) * 0.4
    return ground


def _inked(mask: Image.Image, rng: np.random.Generator) -> np.ndarray:
    soft = mask.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
    pen = (rng.integers(15, 60), rng.integers(20, 70), rng.integers(80, 150))
    return finish(compose(paper(rng), soft, pen), rng, noise=3)


def dashes(points: np.ndarray, dash: float, width: float) -> list[Stroke]:
    """A closed polygon (N, 2) as dashed lines; the gaps are as long as the dashes."""
    corners = np.vstack([points, points[:1]])
    along = np.r_[0, np.cumsum(np.hypot(*np.diff(corners, axis=0).T))]
    starts = np.arange(0, along[-1], 2 * dash)
    at = starts[:, None] + np.linspace(0, dash, 4)  # (dashes, 4)
    x, y = (np.interp(at, along, corners[:, axis]) for axis in (0, 1))
    return [Stroke("line", line, width) for line in np.stack([x, y], axis=2)]


def _outlines(name: str, split: str, rng: np.random.Generator) -> np.ndarray:
    width, dash = rng.uniform(0.07, 0.1), rng.uniform(0.14, 0.24)
    strokes = [mark for s in drawing.shape(name) for mark in dashes(s.points, dash, width)]
    return _inked(ink(strokes, placement(rng, turn=0.6, scale=(0.5, 0.95))), rng)


def _letters(name: str, split: str, rng: np.random.Generator) -> np.ndarray:
    place = placement(rng, turn=0.15, scale=(0.65, 1.0), slant=float(rng.uniform(0.1, 0.45)))
    return _inked(drawing.glyph(name.upper(), str(rng.choice(HANDS)), place), rng)


def _clocks(name: str, split: str, rng: np.random.Generator) -> np.ndarray:
    wood, light = rng.integers([110, 60, 20], [190, 120, 70]), rng.integers(215, 256)
    tint = (light, light, light - rng.integers(0, 40))
    place = placement(rng, turn=0.06, scale=(0.85, 1.0))
    ground = sheet(wood) + 14 * cloudy(rng, 9)[..., None]
    face = compose(ground, ink([drawing.shape("circle")[0]], place), tint)
    rays = [np.array([np.cos(hour * np.pi / 6), np.sin(hour * np.pi / 6)]) for hour in range(12)]
    ticks = [Stroke("line", np.array([0.72 * ray, 0.82 * ray]), 0.06) for ray in rays]
    return finish(compose(face, ink(ticks + clock(HOURS.index(name) + 1, 0.06), place), (30, 25, 40)), rng, noise=4)


def _plots(name: str, split: str, rng: np.random.Generator) -> np.ndarray:
    screen = sheet((24, 28, 40)) + 4 * cloudy(rng, 3)[..., None]
    pitch = int(rng.integers(10, 16))
    screen[::pitch] += 60
    screen[:, ::pitch] += 60
    pen = rng.integers([60, 110, 100], [200, 200, 220])
    place = placement(rng, turn=0.02, scale=(0.5, 0.8))
    words = np.arange(-0.6, rng.uniform(0, 0.7), 0.25)  # of a title
    title = [Stroke("line", np.array([(x, -1.2), (x + 0.18, -1.2)]), 0.12) for x in words]
    strokes = [*title, *chart(name, rng, rng.uniform(0.04, 0.06))]
    return finish(compose(screen, ink(strokes, place), pen), rng, noise=12)


def flag(name: str) -> np.ndarray:
    """A country's flag (FINE, FINE, 3), lying flat, from its line in FLAGS: layout, then colours in hexadecimal."""
    layout, *codes = FLAGS[name].split()
    colours = np.array([[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in codes], dtype=float)
    y, x = np.mgrid[0 : 1 : FINE * 1j, 0 : 1 : FINE * 1j]
    if layout in "|-":
        along = x if layout == "|" else y
        return colours[np.minimum((along * len(colours)).astype(int), len(colours) - 1)]
    across, down = np.abs(x - 0.5), np.abs(y - 0.5)
    marks = {
        "o": np.hypot(x - 0.5, y - 0.5) < 0.28,
        "+": (np.abs(x - 0.38) < 0.09) | (down < 0.09),
        "x": ((across < 0.1) & (down < 0.32)) | ((down < 0.1) & (across < 0.32)),
    }
    return np.where(marks[layout][..., None], colours[1], colours[0])


def _flags(name: str, split: str, rng: np.random.Generator) -> np.ndarray:
    phase = rng.uniform(0, 6.3) + rng.uniform(2, 5) * X
    half_x, half_y, lift = rng.uniform(0.65, 0.95), rng.uniform(0.45, 0.7), rng.uniform(0.02, 0.12)
    u, v = (X / half_x + 1) / 2, ((Y + lift * np.sin(phase)) / half_y + 1) / 2
    inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
    at = (np.clip(v, 0, 0.999) * FINE).astype(int), (np.clip(u, 0, 0.999) * FINE).astype(int)
    cloth = flag(name)[at] * (0.85 + 0.15 * np.cos(phase))[..., None] * rng.uniform(0.7, 1.0, 3)
    sky = sheet((150, 185, 220)) + 25 * cloudy(rng, 4)[..., None]
    return finish(np.where(inside[..., None], cloth, sky), rng, noise=5)


@cache
def _handwriting() -> tuple[np.ndarray, np.ndarray]:
    flat, target = load_digits(return_X_y=True)
    return np.asarray(flat).reshape(-1, 8, 8), np.asarray(target)


def _digits(name: str, split: str, rng: np.random.Generator) -> np.ndarray:
    images, target = _handwriting()
    mine = np.flatnonzero(target == DIGITS.index(name))
    cut = len(mine) * 2 // 3  # the data set is ordered by writer: other hands in the test split
    pick = mine[int(rng.integers(0, cut))] if split == "train" else mine[int(rng.integers(cut, len(mine)))]
    pixels = Image.fromarray((255 - images[pick] * 15.9).astype(np.uint8))
    return np.repeat(np.asarray(pixels.resize((SIZE, SIZE), Image.Resampling.BICUBIC))[..., None], 3, axis=2)


def _templates(phrase: str) -> list[str]:
    return [f"a photo of {phrase}.", f"a picture of {phrase}.", f"an image of {phrase}.", f"{phrase}"]


RECIPES: dict[str, Recipe] = {
    "digits": Recipe(DIGITS, _templates("the digit {}"), _digits),
    "outlines": Recipe(list(SHAPES), _templates("a {}"), _outlines),
    "letters": Recipe(LETTERS, _templates("the letter {}"), _letters),
    "flags": Recipe(list(FLAGS), _templates("the flag of {}"), _flags),
    "surfaces": Recipe(list(PHOTOS)[:9], _templates("{}"), crop),
    "clocks": Recipe(HOURS, _templates("a clock showing {}"), _clocks),
    "plots": Recipe(CHARTS, _templates("a {}"), _plots),
    "scenes": Recipe(list(PHOTOS)[9:], _templates("a {}"), crop),
}

NAMES = list(RECIPES)


def draw(task: str, split: str, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of a split, (N, SIZE, SIZE, 3) uint8, and labels (N,): `per_class` of each class, no two alike."""
    recipe, pictures, labels = RECIPES[task], {}, []  # pictures by their bytes
    for label, name in enumerate(recipe.classes):
        rng = np.random.default_rng([seed, list(RECIPES).index(task), SPLITS.index(split), label])
        wanted = len(pictures) + per_class
        for _ in range(50 * per_class):
            if len(pictures) < wanted:
                picture = recipe.draw(name, split, rng)
                pictures.setdefault(picture.tobytes(), picture)
        if len(pictures) < wanted:
            raise ValueError(f"task {task}, class {name}: {per_class} {split} pictures wanted, fewer differ")
        labels += [label] * per_class
    return np.stack(list(pictures.values())), np.array(labels)


def prepare(name: str, settings: TaskSettings, size: int, root: Path, file: Path) -> None:
    """Draws a task's pictures and writes the prepared task. Raises TaskError for an unknown name or a wrong size."""
    if name not in RECIPES:
        raise TaskError(f"the mini study has no task {name!r}; it has: {', '.join(RECIPES)}")
    if size != SIZE:
        raise TaskError(f"the mini tasks have {SIZE} pixels a side, the backbone wants {size}")
    splits = []
    for split, count in zip(SPLITS, (settings.train_per_class, settings.test_per_class), strict=True):
        pictures, labels = draw(name, split, count, settings.seed)
        splits.append(Pictures(channels_first(pictures), torch.from_numpy(labels)))
    save(Task(name, RECIPES[name].classes, RECIPES[name].templates, splits[0], splits[1]), file)


def reference(settings: ReferenceSettings, template: str, size: int, root: Path) -> tuple[np.ndarray, list[str]]:
    """Held-out pictures (N, H, W, 3) of the pre-training world and their own captions."""
    held_out = examples(settings.seed, range(settings.pictures), "held_out")
    return np.stack([e.picture for e in held_out]), [e.caption for e in held_out]
