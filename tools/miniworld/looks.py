"""Looks: what a drawing is drawn with, and on what. Pre-training has one family of them, and the tasks have others.

A look takes a mask of FINE x FINE pixels and gives a picture (SIZE, SIZE, 3) uint8.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from tools.miniworld.drawing import FINE, X, Y, blurred, cloudy, finished, ink, outline, sheet, weight

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 40, 40), "green": (45, 150, 60), "blue": (45, 80, 200), "yellow": (235, 205, 50),
    "orange": (235, 130, 35), "purple": (130, 60, 165), "pink": (240, 150, 185), "brown": (125, 80, 45),
    "black": (20, 20, 20), "white": (242, 242, 242), "grey": (128, 128, 128), "cyan": (60, 190, 205),
}  # fmt: skip
LUMINANCE = np.array([0.299, 0.587, 0.114])
GROUNDS = {"plain": 0.44, "cloudy": 0.18, "shaded": 0.14, "striped": 0.12, "rough": 0.12}  # with their shares
Colour = tuple[str, np.ndarray]


def _contrast(rng: np.random.Generator, least: float) -> tuple[Colour, Colour]:
    """Ink and ground: two named colours, each a little off, whose luminance differs by at least so much of 255."""
    while True:
        pair = [(str(name), np.array(COLOURS[name])) for name in rng.choice(list(COLOURS), 2, replace=False)]
        ink_, ground = ((n, np.clip(c + rng.uniform(-18, 18, 3) + rng.uniform(-12, 12), 0, 255)) for n, c in pair)
        if abs((ink_[1] - ground[1]) @ LUMINANCE) > least:
            return ink_, ground


def _ground(texture: str, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    along = (X * np.cos(angle) + Y * np.sin(angle))[..., None]
    change = {
        "plain": lambda: np.zeros(1),
        "cloudy": lambda: cloudy(rng, int(rng.integers(3, 9))) * rng.uniform(15, 35),
        "shaded": lambda: along * rng.uniform(15, 35),
        "striped": lambda: np.sin(along * rng.uniform(8, 30)) * rng.uniform(10, 22),
        "rough": lambda: cloudy(rng, FINE // 2) * rng.uniform(20, 40),
    }[texture]
    return sheet(colour) + change()


def flat(mask: Image.Image, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """The easiest look of pre-training, with words for it: one colour on another, and nothing else."""
    (name, colour), (ground_name, ground) = _contrast(rng, 130)
    return finished(ink(sheet(ground), weight(mask), colour), rng, 0), f"solid in {name} on plain {ground_name}"


def varied(mask: Image.Image, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Any look of pre-training, with words for it: the line, its colour, the ground and its colour."""
    (name, colour), (ground_name, ground) = _contrast(rng, 80)
    texture = str(rng.choice(list(GROUNDS), p=list(GROUNDS.values())))
    picture, line, pen, effect = _ground(texture, ground, rng), "solid", rng.random(), rng.random()
    if pen < 0.3:
        mask, line = outline(mask), "outlined"
    elif pen < 0.47:
        mask = mask.filter(ImageFilter.MaxFilter(3) if pen < 0.4 else ImageFilter.MinFilter(3))
    if effect < 0.12:
        line, away = f"shadowed {line}", rng.integers(2, 5, 2) * rng.choice([-1, 1], 2)
        shadow = np.roll(weight(blurred(mask, rng.uniform(0.5, 2))), tuple(away), (0, 1))
        picture = ink(picture, 0.6 * shadow, 0.4 * ground)
    elif effect < 0.24:
        line, colour = f"faded {line}", colour + cloudy(rng, int(rng.integers(2, 6))) * 35
    picture = ink(picture, weight(mask), colour)
    if 0.24 < effect < 0.36:
        line, sharp = f"blurred {line}", Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
        picture = np.asarray(sharp.filter(ImageFilter.GaussianBlur(rng.uniform(1, 2))), dtype=np.float64)
    return finished(picture, rng, float(rng.choice([0, 4, 10]))), f"{line} in {name} on {texture} {ground_name}"


def _pen(rng: np.random.Generator, *codes: str) -> np.ndarray:
    code = str(rng.choice(codes))
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], dtype=np.float64)


def chalk(mask: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Chalk on a board: the line breaks where the board is rough."""
    board = sheet(np.array([38, 62, 52]) + rng.uniform(-12, 12, 3)) + 16 * cloudy(rng, 5)
    drawn = weight(outline(mask) if rng.random() < 0.5 else mask) * np.clip(0.75 + 0.9 * cloudy(rng, FINE // 2), 0, 1)
    return finished(ink(board, drawn, _pen(rng, "ebebe1", "f5e196", "f0b4b4", "aad2f0")), rng, 4)


def neon(mask: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Tubes of light on a dark wall."""
    tube, colour = outline(mask), _pen(rng, "ff3c78", "3cdcff", "78ff5a", "ffaa32", "be5aff")
    wall = sheet(rng.uniform(5, 40, 3)) + 8 * cloudy(rng, 4)
    glow = wall + 1.1 * colour * weight(blurred(tube, rng.uniform(2, 4)))
    return finished(ink(glow, 0.9 * weight(tube), (colour + 255) / 2), rng, 3)


def blueprint(mask: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A white outline on blue squared paper."""
    paper, pitch = sheet(np.array([30, 70, 150]) + rng.uniform(-15, 15, 3)), int(rng.integers(7, 12))
    down, across = rng.integers(0, pitch, 2)
    paper[down::pitch] += 26
    paper[:, across::pitch] += 26
    return finished(ink(paper, weight(outline(mask)) * rng.uniform(0.75, 1), (225, 235, 250)), rng, 4)


def stamp(mask: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A worn rubber stamp on paper."""
    paper = sheet(np.array([232, 222, 200]) + rng.uniform(-12, 8, 3)) + 8 * cloudy(rng, 7)
    worn = np.clip(0.8 + 0.9 * cloudy(rng, 12), 0, 1)
    return finished(ink(paper, weight(mask) * worn, _pen(rng, "aa2832", "3c328c", "1e6450", "28282d")), rng, 5)


def relief(mask: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Carved into stone, or standing out of it: only light and shadow tell."""
    stone, soft = sheet(rng.uniform(110, 170) + rng.uniform(-14, 14, 3)), weight(blurred(mask, rng.uniform(0.8, 1.6)))
    angle = rng.uniform(0.3, 1.2) + np.pi * rng.integers(2)
    steep = np.gradient(soft, axis=1) * np.cos(angle) + np.gradient(soft, axis=0) * np.sin(angle)
    grain = 9 * cloudy(rng, FINE // 2) + 10 * cloudy(rng, 4)
    return finished(stone + grain + soft * rng.uniform(-12, 12) + steep * rng.uniform(280, 420), rng, 3)


def halftone(mask: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Printed in dots that are larger where the drawing is."""
    pitch, angle = rng.uniform(0.13, 0.16), rng.uniform(0.2, 1.2)
    u, v = (X * np.cos(angle) - Y * np.sin(angle)) / pitch, (X * np.sin(angle) + Y * np.cos(angle)) / pitch
    apart = np.hypot(u - np.rint(u), v - np.rint(v))[..., None]
    dots = np.clip(4 * (0.62 * weight(blurred(mask, 1)) + 0.1 - apart) + 0.5, 0, 1)
    paper = sheet(np.array([245, 238, 220]) + rng.uniform(-10, 8, 3))
    return finished(ink(paper, dots, _pen(rng, "c82846", "146eaa", "1e1e28", "783c96")), rng, 3)


def mosaic(mask: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Square tiles, each of one colour, with joints."""
    tile = 4
    share = (
        np.asarray(mask.resize((FINE // tile, FINE // tile), Image.Resampling.BOX), dtype=np.float64)[..., None] / 255
    )
    tiles = ink(np.array([215, 205, 185]), share, _pen(rng, "c85a32", "286e8c", "967828", "82325a"))
    picture = np.kron(tiles + rng.normal(0, 14, share.shape), np.ones((tile, tile, 1)))
    picture[::tile] *= 0.8
    picture[:, ::tile] *= 0.8
    return finished(picture, rng, 3)


def painted(mask: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Thick paint on a wooden sign, with a shadow."""
    wood = sheet(np.array([150, 105, 65]) + rng.uniform(-20, 20, 3))
    wood += 14 * np.sin(Y[..., None] * rng.uniform(14, 22) + 3 * cloudy(rng, 4))
    shaded = ink(wood, 0.6 * np.roll(weight(blurred(mask, 1)), (2, 2), (0, 1)), (50, 30, 20))
    paint = weight(mask) * np.clip(0.92 + 0.25 * cloudy(rng, FINE // 2), 0, 1)
    return finished(ink(shaded, paint, _pen(rng, "f0ebdc", "facd46", "c83c32", "468c5a")), rng, 4)


def engraved(mask: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Parallel cuts in paper or copper, which swell where the drawing is."""
    pitch, angle = rng.uniform(0.11, 0.14), rng.uniform(-0.6, 0.6)
    across = (Y * np.cos(angle) - X * np.sin(angle)) / pitch
    apart = np.abs(across - np.rint(across))[..., None]
    cuts = np.clip(6 * (0.08 + 0.36 * weight(blurred(mask, 0.7)) - apart) + 0.5, 0, 1)
    plate = _pen(rng, "f2ecd8", "d8b48c", "dfe4e8") + 5 * cloudy(rng, 5)
    return finished(ink(plate, cuts, _pen(rng, "23202b", "472c20", "203a34")), rng, 3)


LOOKS: dict[str, Callable[[Image.Image, np.random.Generator], np.ndarray]] = {
    look.__name__: look for look in (chalk, neon, blueprint, stamp, relief, halftone, mosaic, painted, engraved)
}
