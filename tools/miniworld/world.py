"""The pre-training world: pictures the project renders, with captions, from which the tiny CLIP learns its words.

Every picture is one thing of one kind, drawn with a random look. Most captions name the content alone: where all
captions named the colours, the contrastive loss could be solved by colour, and nothing else was learned.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tools.miniworld.drawing import (
    COLOURS,
    SHAPES,
    cloudy,
    coarse,
    compose,
    finish,
    glyph,
    ink,
    outline,
    placement,
    plain,
    shape,
)
from tools.miniworld.symbols import CHARTS, HOURS, ICONS, chart, clock
from tools.miniworld.textures import MATERIALS, PATTERNS, material, pattern

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LETTERS = [chr(ord("a") + i) for i in range(26)]
FONTS = [
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
    "cmr10",
    "cmss10",
    "cmtt10",
]
FRAMES = ["a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}", "{}", "this is {}"]
Picture = np.ndarray  # (SIZE, SIZE, 3) uint8


class Kind(NamedTuple):
    """One kind of content: its classes, how a class is named in a caption, and how it is drawn."""

    classes: list[str]
    phrase: str
    share: float  # of the world's pictures
    draw: Callable[[str, np.random.Generator, "Look"], np.ndarray]


class Look(NamedTuple):
    """What a picture looks like apart from its content: two colours of enough contrast, and whether it is grey."""

    ink: str
    ground: str
    grey: bool
    coloured: bool  # the caption names the colours


def _look(rng: np.random.Generator) -> Look:
    light = {name: float(np.dot(rgb, (0.299, 0.587, 0.114))) for name, rgb in COLOURS.items()}
    while True:
        first, second = (str(c) for c in rng.choice(list(COLOURS), 2, replace=False))
        if abs(light[first] - light[second]) > 60:  # visible in grey too
            grey = bool(rng.random() < 0.4)
            return Look(first, second, grey, not grey and bool(rng.random() < 0.3))


def _ground(look: Look, rng: np.random.Generator) -> np.ndarray:
    ground = plain(COLOURS[look.ground])
    if rng.random() < 0.5:
        ground = ground + cloudy(rng, int(rng.integers(2, 7)))[..., None] * rng.uniform(5, 25)
    return ground


def _shape(name: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    strokes = shape(name)
    if rng.random() < 0.4:
        strokes = outline(strokes, rng.uniform(0.1, 0.25))
    return compose(_ground(look, rng), ink(strokes, placement(rng)), COLOURS[look.ink])


def _icon(name: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    strokes = ICONS[name]
    place = placement(rng, turn=0.15) @ np.diag([rng.choice([-1.0, 1.0]), 1, 1])
    return compose(_ground(look, rng), ink(strokes, place), COLOURS[look.ink])


def _glyph(text: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    place = placement(rng, turn=0.2, scale=(0.7, 1.05), slant=float(rng.uniform(-0.1, 0.15)))
    return compose(_ground(look, rng), glyph(text, str(rng.choice(FONTS)), place), COLOURS[look.ink])


def _digit(name: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    return _glyph(str(DIGITS.index(name)), rng, look)


def _letter(name: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    return _glyph(name.upper(), rng, look)


def _clock(name: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    strokes = clock(HOURS.index(name) + 1, rng.uniform(0.09, 0.14))
    place = placement(rng, turn=0.08, scale=(0.8, 1.0))
    return compose(_ground(look, rng), ink(strokes, place), COLOURS[look.ink])


def _chart(name: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    strokes = chart(name, rng, rng.uniform(0.06, 0.1))
    place = placement(rng, turn=0.05, scale=(0.8, 1.0))
    return compose(_ground(look, rng), ink(strokes, place), COLOURS[look.ink])


def _pattern(name: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    mask = pattern(name, rng)[..., None]
    return mask * plain(COLOURS[look.ink]) + (1 - mask) * plain(COLOURS[look.ground])


def _material(name: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    return np.repeat(material(name, rng)[..., None], 3, axis=2)


WORLD: dict[str, Kind] = {
    "shapes": Kind(list(SHAPES), "a {}", 0.15, _shape),
    "digits": Kind(DIGITS, "the digit {}", 0.15, _digit),
    "letters": Kind(LETTERS, "the letter {}", 0.25, _letter),
    "clocks": Kind(HOURS, "a clock showing {}", 0.1, _clock),
    "charts": Kind(CHARTS, "a {}", 0.08, _chart),
    "icons": Kind(list(ICONS), "a {}", 0.1, _icon),
    "patterns": Kind(list(PATTERNS), "{}", 0.07, _pattern),
    "materials": Kind(list(MATERIALS), "{}", 0.1, _material),
}


class Example(NamedTuple):
    """A picture, its caption, and its content: the (kind, class) pair that content-only captions describe."""

    picture: Picture
    caption: str
    content: tuple[str, str]
    coloured: bool


def example(seed: int, index: int, split: str = "train") -> Example:
    """Picture `index` of the world of `seed`; the splits train and held_out never share a random stream."""
    rng = np.random.default_rng([seed, ["train", "held_out"].index(split), index])
    shares = np.array([kind.share for kind in WORLD.values()])
    kind = str(rng.choice(list(WORLD), p=shares / shares.sum()))
    name = str(rng.choice(WORLD[kind].classes))
    look = _look(rng)
    if kind == "materials":
        look = look._replace(grey=True, coloured=False)
    drawn = WORLD[kind].draw(name, rng, look)
    picture = finish(drawn, rng, noise=float(rng.choice([0, 4, 10])), grey=look.grey)
    if rng.random() < 0.15:
        picture = coarse(picture, int(rng.integers(10, 25)))
    return Example(picture, caption(kind, name, look, rng), (kind, name), look.coloured)


def examples_of(seed: int, indices: range, split: str = "train") -> list[Example]:
    """Several pictures of the world, for a worker process."""
    return [example(seed, index, split) for index in indices]


def caption(kind: str, name: str, look: Look, rng: np.random.Generator) -> str:
    """A caption of the content, and of the colours where the look says so."""
    phrase = WORLD[kind].phrase.format(name)
    if look.coloured:
        phrase = f"{phrase} in {look.ink} on {look.ground}"
    return str(rng.choice(FRAMES)).format(phrase) + ("." if rng.random() < 0.5 else "")


def vocabulary() -> list[str]:
    """Captions that between them use every word of the world."""
    names = [kind.phrase.format(name) for kind in WORLD.values() for name in kind.classes]
    return [frame.format(name) + "." for frame in FRAMES for name in names] + [f"in {c} on" for c in COLOURS]
