"""How a drawing becomes a picture: what all looks share.

A drawing is a mask. `placed` puts it in the frame, `ink` lays a colour over a ground through it, `finished` averages
the result down. Every random choice comes from the generator that is passed in.
"""

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageFilter

SIZE = 32  # pixels a side of every picture of the mini study
FINE = 2 * SIZE  # pixels a side while drawing
Y, X = np.mgrid[-1 : 1 : FINE * 1j, -1 : 1 : FINE * 1j]  # unit coordinates of the pixels (FINE, FINE)


def placed(
    drawing: np.ndarray, rng: np.random.Generator, turn: float = 0.15, scale: tuple[float, float] = (0.75, 1.05)
) -> Image.Image:
    """A drawing (H, W) uint8 turned by up to `turn` radians, scaled, slanted and shifted: a mask of FINE x FINE."""
    angle, size, slant = rng.uniform(-turn, turn), rng.uniform(*scale), rng.uniform(-0.1, 0.1)
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    place = rotate @ np.array([[1, slant], [0, 1]]) @ np.diag(rng.uniform(0.9, 1.1, 2) * size)
    room = max(0.0, 1 - size) + 0.06
    back, half = np.linalg.inv(place), FINE / 2  # Pillow wants the inverse map
    shift = half - back @ (half + half * rng.uniform(-room, room, 2))
    upright = Image.fromarray(drawing).resize((FINE, FINE), Image.Resampling.BILINEAR)
    data = (back[0, 0], back[0, 1], shift[0], back[1, 0], back[1, 1], shift[1])
    return upright.transform((FINE, FINE), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


def weight(mask: Image.Image) -> np.ndarray:
    """A mask as numbers from 0 to 1, (FINE, FINE, 1)."""
    return np.asarray(mask, dtype=np.float64)[..., None] / 255


def blurred(mask: Image.Image, pixels: float) -> Image.Image:
    """A soft mask."""
    return mask.filter(ImageFilter.GaussianBlur(pixels))


def outline(mask: Image.Image) -> Image.Image:
    """The edges of a mask, three pixels wide."""
    wide, thin = mask.filter(ImageFilter.MaxFilter(3)), mask.filter(ImageFilter.MinFilter(3))
    return Image.fromarray(np.asarray(wide) - np.asarray(thin))


def sheet(colour: ArrayLike) -> np.ndarray:
    """A ground of one colour (FINE, FINE, 3), 0 to 255."""
    return np.broadcast_to(np.asarray(colour, dtype=np.float64), (FINE, FINE, 3)).copy()


def cloudy(rng: np.random.Generator, cells: int, side: int = FINE) -> np.ndarray:
    """Smooth noise (side, side, 1), about -1 to 1: a coarse random grid of cells x cells, interpolated."""
    grid = Image.fromarray(rng.normal(0, 0.5, (cells, cells)).astype(np.float32), mode="F")
    return np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64)[..., None]


def ink(ground: np.ndarray, share: np.ndarray, colour: ArrayLike) -> np.ndarray:
    """A colour (or a picture) laid over a ground (FINE, FINE, 3); share: how much of it each pixel takes, 0 to 1."""
    return ground * (1 - share) + np.asarray(colour) * share


def finished(picture: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """Averages (FINE, FINE, 3) down to (SIZE, SIZE, 3) uint8. noise: deviation of the pixel noise, of 255."""
    small = picture.reshape(SIZE, 2, SIZE, 2, 3).mean(axis=(1, 3)) + rng.normal(0, noise, (SIZE, SIZE, 3))
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)
