"""The pre-training world: pictures that the project renders, with captions, to train the tiny CLIP on.

Every picture shows one thing of one kind, drawn in a random look. Most captions name the content alone: when all
captions named the colours, the contrastive loss could be solved by colour, and the model learned nothing else.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from tools.miniworld import drawing
from tools.miniworld.drawing import COLOURS, SHAPES, compose, glyph, ink, placement, sheet
from tools.miniworld.symbols import CHARTS, HOURS, ICONS, chart, clock
from tools.miniworld.textures import MATERIALS, PATTERNS, material, pattern

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LETTERS = [chr(ord("a") + i) for i in range(26)]
FONTS = ["DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Bold"]
FONTS += ["STIXGeneral", "STIXGeneralBol", "cmr10", "cmss10", "cmtt10"]
FRAMES = ["a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}", "{}", "this is {}"]


class Look(NamedTuple):
    """How a picture looks, whatever it shows: two colours that contrast, and whether it is grey."""

    ink: str
    ground: str
    grey: bool
    coloured: bool  # the caption names the colours


class Kind(NamedTuple):
    """One kind of content: its classes, how a caption names a class, and how it is drawn."""

    classes: list[str]
    phrase: str
    share: float  # of the world's pictures
    draw: Callable[[str, np.random.Generator, Look], np.ndarray]  # a class -> (FINE, FINE, 3)


def _look(rng: np.random.Generator) -> Look:
    light = {name: float(np.dot(rgb, (0.299, 0.587, 0.114))) for name, rgb in COLOURS.items()}
    while True:
        first, second = (str(c) for c in rng.choice(list(COLOURS), 2, replace=False))
        if abs(light[first] - light[second]) > 60:  # they contrast in grey too
            grey = bool(rng.random() < 0.4)
            return Look(first, second, grey, not grey and bool(rng.random() < 0.3))


def _ground(look: Look, rng: np.random.Generator) -> np.ndarray:
    ground = sheet(COLOURS[look.ground])
    if rng.random() < 0.5:
        ground = ground + drawing.cloudy(rng, int(rng.integers(2, 7)))[..., None] * rng.uniform(5, 25)
    return ground


def _drawn(mask: Image.Image, rng: np.random.Generator, look: Look) -> np.ndarray:
    return compose(_ground(look, rng), mask, COLOURS[look.ink])


def _shape(name: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    strokes = drawing.shape(name)
    if rng.random() < 0.4:
        strokes = drawing.outline(strokes, rng.uniform(0.1, 0.25))
    ground = _ground(look, rng)
    return compose(ground, ink(strokes, placement(rng)), COLOURS[look.ink])


def _icon(name: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    place = placement(rng, turn=0.15) @ np.diag([rng.choice([-1.0, 1.0]), 1, 1])
    return _drawn(ink(ICONS[name], place), rng, look)


def _clock(name: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    strokes = clock(HOURS.index(name) + 1, rng.uniform(0.09, 0.14))
    return _drawn(ink(strokes, placement(rng, turn=0.08, scale=(0.8, 1.0))), rng, look)


def _chart(name: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    strokes = chart(name, rng, rng.uniform(0.06, 0.1))
    return _drawn(ink(strokes, placement(rng, turn=0.05, scale=(0.8, 1.0))), rng, look)


def _glyph(text: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    place, ground = placement(rng, 0.2, (0.7, 1.05), slant=float(rng.uniform(-0.1, 0.15))), _ground(look, rng)
    return compose(ground, glyph(text, str(rng.choice(FONTS)), place), COLOURS[look.ink])


def _pattern(name: str, rng: np.random.Generator, look: Look) -> np.ndarray:
    mask = pattern(name, rng)[..., None]
    return mask * sheet(COLOURS[look.ink]) + (1 - mask) * sheet(COLOURS[look.ground])


KINDS: dict[str, Kind] = {
    "shapes": Kind(list(SHAPES), "a {}", 0.15, _shape),
    "digits": Kind(DIGITS, "the digit {}", 0.15, lambda name, rng, look: _glyph(str(DIGITS.index(name)), rng, look)),
    "letters": Kind(LETTERS, "the letter {}", 0.25, lambda name, rng, look: _glyph(name.upper(), rng, look)),
    "clocks": Kind(HOURS, "a clock showing {}", 0.1, _clock),
    "charts": Kind(CHARTS, "a {}", 0.08, _chart),
    "icons": Kind(list(ICONS), "a {}", 0.1, _icon),
    "patterns": Kind(list(PATTERNS), "{}", 0.07, _pattern),
    "materials": Kind(list(MATERIALS), "{}", 0.1, lambda name, rng, look: sheet([0]) + material(name, rng)[..., None]),
}


class Example(NamedTuple):
    """A picture (SIZE, SIZE, 3) uint8, its caption, and its content (kind, class)."""

    picture: np.ndarray
    caption: str
    content: tuple[str, str]
    coloured: bool  # the caption names the colours too


def example(seed: int, index: int, split: str = "train") -> Example:
    """Picture `index` of the world of `seed`; the splits train and held_out never share a random stream."""
    rng = np.random.default_rng([seed, ["train", "held_out"].index(split), index])
    shares = np.array([kind.share for kind in KINDS.values()])
    kind = str(rng.choice(list(KINDS), p=shares / shares.sum()))
    name = str(rng.choice(KINDS[kind].classes))
    look = _look(rng)
    if kind == "materials":
        look = look._replace(grey=True, coloured=False)
    drawn = KINDS[kind].draw(name, rng, look)
    picture = drawing.finish(drawn, rng, noise=float(rng.choice([0, 4, 10])), grey=look.grey)
    if rng.random() < 0.15:  # soft, without fine detail
        pixels = int(rng.integers(10, 25))
        small = Image.fromarray(picture).resize((pixels, pixels), Image.Resampling.BOX)
        picture = np.asarray(small.resize((drawing.SIZE, drawing.SIZE), Image.Resampling.BICUBIC))
    return Example(picture, _caption(kind, name, look, rng), (kind, name), look.coloured)


def examples(seed: int, indices: range, split: str = "train") -> list[Example]:
    """Several pictures of the world."""
    return [example(seed, index, split) for index in indices]


def _caption(kind: str, name: str, look: Look, rng: np.random.Generator) -> str:
    phrase = KINDS[kind].phrase.format(name)
    if look.coloured:
        phrase = f"{phrase} in {look.ink} on {look.ground}"
    return str(rng.choice(FRAMES)).format(phrase) + ("." if rng.random() < 0.5 else "")


def vocabulary() -> list[str]:
    """Captions that together contain every word of the world."""
    names = [kind.phrase.format(name) for kind in KINDS.values() for name in kind.classes]
    return [frame.format(name) + "." for frame in FRAMES for name in names] + [f"in {c} on" for c in COLOURS]
