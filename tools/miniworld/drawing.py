"""Drawing with strokes: what the pre-training world and the rendered tasks share.

A drawing is a list of strokes in unit coordinates (x right, y down, the frame is -1 to 1). `ink` turns strokes into a
mask, `glyph` does so with text, `compose` lays one colour over a ground through a mask. Everything is drawn at twice
the resolution and averaged down. Every random choice comes from the generator that is passed in.
"""

from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

SIZE = 48  # pixels a side of every picture of the mini study
FINE = 2 * SIZE  # pixels a side while drawing

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 40, 40), "green": (45, 150, 60), "blue": (45, 80, 200), "yellow": (235, 205, 50),
    "orange": (235, 130, 35), "purple": (130, 60, 165), "pink": (240, 150, 185), "brown": (125, 80, 45),
    "black": (20, 20, 20), "white": (242, 242, 242), "grey": (128, 128, 128), "cyan": (60, 190, 205),
}  # fmt: skip
Y, X = np.mgrid[-1 : 1 : FINE * 1j, -1 : 1 : FINE * 1j]  # unit coordinates of the pixels (FINE, FINE)
Mark = Literal["fill", "line", "hole"]


class Stroke(NamedTuple):
    """A filled polygon, a line of a width (unit coordinates), or a hole that is cut out of the strokes before it."""

    kind: Mark
    points: np.ndarray  # (N, 2)
    width: float = 0.0


def _arc(radius: float, start: float, stop: float, count: int, centre: tuple[float, float] = (0, 0)) -> np.ndarray:
    turn = np.linspace(start, stop, count)
    return np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius + np.asarray(centre)


def disc(radius: float = 0.85, centre: tuple[float, float] = (0, 0)) -> np.ndarray:
    """A circle as a polygon (N, 2)."""
    return _arc(radius, 0, 2 * np.pi, 40, centre)


def regular(corners: int, radius: float = 0.9, turn: float = -np.pi / 2) -> np.ndarray:
    """A regular polygon (corners, 2), one corner up."""
    return _arc(radius, turn, turn + 2 * np.pi, corners + 1)[:-1]


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 48)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 18, -y / 18], axis=1)


_HALF_CROSS = np.array([(-0.28, -0.85), (0.28, -0.85), (0.28, -0.28), (0.85, -0.28), (0.85, 0.28), (0.28, 0.28)])
_INSIDE = _arc(0.72, 2 * np.pi - 0.85, 0.85, 24, (0.22, 0))  # of the crescent
SHAPES: dict[str, np.ndarray] = {
    "circle": disc(),
    "square": np.array([[-0.75, -0.75], [0.75, -0.75], [0.75, 0.75], [-0.75, 0.75]]),
    "triangle": regular(3),
    "diamond": np.array([[0, -0.95], [0.6, 0], [0, 0.95], [-0.6, 0]]),
    "pentagon": regular(5),
    "hexagon": regular(6, turn=0),
    "star": regular(10) * np.tile([[1], [0.42]], (5, 1)),
    "heart": _heart(),
    "cross": np.concatenate([_HALF_CROSS, -_HALF_CROSS]),
    "arrow": np.array([[-0.9, -0.2], [0.1, -0.2], [0.1, -0.6], [0.9, 0], [0.1, 0.6], [0.1, 0.2], [-0.9, 0.2]]),
    "crescent": np.concatenate([_arc(0.85, 0.6, 2 * np.pi - 0.6, 30), _INSIDE]),
    "ring": disc(),  # `shape` cuts the hole
}


def shape(name: str) -> list[Stroke]:
    """The strokes of a named shape, filled."""
    strokes = [Stroke("fill", SHAPES[name])]
    return [*strokes, Stroke("hole", disc(0.45))] if name == "ring" else strokes


def outline(strokes: list[Stroke], width: float) -> list[Stroke]:
    """The outlines of strokes: every polygon as a line of `width` (unit coordinates)."""
    return [s if s.kind == "line" else Stroke("line", np.vstack([s.points, s.points[:1]]), width) for s in strokes]


def placement(
    rng: np.random.Generator, turn: float = 0.25, scale: tuple[float, float] = (0.6, 0.95), slant: float = 0.0
) -> np.ndarray:
    """A random affine map (2, 3): turns by up to `turn` radians, scales, slants, and shifts within the frame."""
    angle, size = rng.uniform(-turn, turn), rng.uniform(*scale)
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.diag(rng.uniform(0.88, 1.12, 2)) * size
    shift = rng.uniform(-1, 1, 2) * max(0.0, 1 - size) * 0.8
    return np.column_stack([rotate @ np.array([[1, -slant], [0, 1]]) @ stretch, shift])


def ink(strokes: list[Stroke], place: np.ndarray) -> Image.Image:
    """Strokes placed by an affine map (2, 3), as a mask of FINE x FINE pixels."""
    mask = Image.new("L", (FINE, FINE))
    draw = ImageDraw.Draw(mask)
    zoom = float(np.sqrt(abs(np.linalg.det(place[:, :2]))))
    for kind, points, width in strokes:
        at = [tuple(p) for p in ((points @ place[:, :2].T + place[:, 2]) + 1) * (FINE / 2)]
        if kind == "line":
            draw.line(at, fill=255, width=max(1, round(width * zoom * FINE / 2)), joint="curve")
        else:
            draw.polygon(at, fill=255 if kind == "fill" else 0)
    return mask


@cache
def _font(name: str, pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), pixels)


def glyph(text: str, font: str, place: np.ndarray) -> Image.Image:
    """Text, centred and placed by an affine map (2, 3), as a mask of FINE x FINE pixels."""
    upright = Image.new("L", (FINE, FINE))
    face = _font(font, FINE)
    left, top, right, bottom = face.getbbox(text)
    ImageDraw.Draw(upright).text((FINE / 2 - (left + right) / 2, FINE / 2 - (top + bottom) / 2), text, 255, face)
    back = np.linalg.inv(place[:, :2])  # Pillow wants the inverse map
    half = FINE / 2
    shift = half - back @ (half + place[:, 2] * half)
    data = (back[0, 0], back[0, 1], shift[0], back[1, 0], back[1, 1], shift[1])
    return upright.transform((FINE, FINE), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


def sheet(colour: ArrayLike) -> np.ndarray:
    """A ground of one colour (FINE, FINE, 3), float, 0 to 255."""
    return np.broadcast_to(np.asarray(colour, dtype=np.float64), (FINE, FINE, 3)).copy()


def cloudy(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise (FINE, FINE), mean 0, about -1 to 1: a coarse random grid of cells x cells, interpolated."""
    grid = Image.fromarray(rng.normal(0, 0.5, (cells, cells)).astype(np.float32), mode="F")
    return np.asarray(grid.resize((FINE, FINE), Image.Resampling.BICUBIC), dtype=np.float64)


def compose(ground: np.ndarray, mask: Image.Image, colour: ArrayLike) -> np.ndarray:
    """Ink of one colour laid over a ground (FINE, FINE, 3) through a mask."""
    weight = np.asarray(mask, dtype=np.float64)[..., None] / 255
    return ground * (1 - weight) + np.asarray(colour) * weight


def finish(picture: np.ndarray, rng: np.random.Generator, noise: float = 0.0, grey: bool = False) -> np.ndarray:
    """Averages (FINE, FINE, 3) down to (SIZE, SIZE, 3) uint8. noise: deviation of the pixel noise, of 255."""
    small = picture.reshape(SIZE, 2, SIZE, 2, 3).mean(axis=(1, 3))
    if grey:
        small = np.repeat(small @ np.array([[0.299], [0.587], [0.114]]), 3, axis=2)
    if noise:
        small = small + rng.normal(0, noise, (SIZE, SIZE, 1 if grey else 3))
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)
