"""Grey materials, drawn by rules: so that pre-training has read the words that the task `surfaces` asks for."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tools.miniworld import drawing
from tools.miniworld.drawing import SIZE
from tools.miniworld.glyphs import print_folder

FINE = 3 * SIZE  # pixels a side while a material is drawn
Y, X = np.mgrid[-1 : 1 : FINE * 1j, -1 : 1 : FINE * 1j]  # unit coordinates of the pixels (FINE, FINE)


def cloudy(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise (FINE, FINE), as in drawing.cloudy."""
    return drawing.cloudy(rng, cells, FINE)[..., 0]


def _frame(rng: np.random.Generator, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates x, y (FINE, FINE) each, about -1 to 1, turned by up to `turn` radians."""
    angle = rng.uniform(-turn, turn)
    return X * np.cos(angle) - Y * np.sin(angle), X * np.sin(angle) + Y * np.cos(angle)


def _draw(tone: float) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("L", (FINE, FINE), round(tone))
    return picture, ImageDraw.Draw(picture)


def _brick_wall(rng: np.random.Generator) -> np.ndarray:
    x, y = _frame(rng, 1.6)
    tall = rng.uniform(0.22, 0.4)
    row = np.floor(y / tall + rng.uniform())
    across = x / (tall * rng.uniform(2, 3)) + 0.5 * (row % 2) + rng.uniform()
    joint = (y / tall + 0.5) % 1 < 0.15
    joint = (np.abs(y / tall - np.round(y / tall)) < 0.08) | (across % 1 < 0.08) if rng.random() < 0.8 else joint
    shade = rng.normal(0, 12, 400)[(row.astype(int) * 31 + np.floor(across).astype(int) * 7) % 400]
    return np.where(joint, rng.uniform(130, 200), rng.uniform(70, 115) + shade)


def _grass(rng: np.random.Generator) -> np.ndarray:
    picture, draw = _draw(70)
    for _ in range(rng.integers(120, 260)):
        x, y = rng.uniform(0, FINE, 2)
        angle, length = rng.normal(0, 0.9), rng.uniform(6, 24)
        end = (x + length * np.sin(angle), y - length * np.cos(angle))
        draw.line([(x, y), end], fill=int(rng.integers(40, 230)), width=int(rng.integers(1, 3)))
    return np.asarray(picture, dtype=np.float64)


def _gravel(rng: np.random.Generator) -> np.ndarray:
    count = int(rng.integers(30, 90))
    seeds = rng.uniform(-1.1, 1.1, (count, 2))
    apart = np.sqrt((X[..., None] - seeds[:, 0]) ** 2 + (Y[..., None] - seeds[:, 1]) ** 2)
    near = np.partition(apart, 1, axis=-1)
    edge = np.clip((near[..., 1] - near[..., 0]) * 9, 0, 1)
    stone = apart.argmin(-1)
    lit = (X - seeds[stone, 0]) * rng.uniform(-200, 200) + (Y - seeds[stone, 1]) * -150
    return edge * (rng.uniform(90, 190, count)[stone] + lit) + (1 - edge) * 35


def _coins(rng: np.random.Generator) -> np.ndarray:
    picture, draw = _draw(rng.uniform(30, 80))
    step = rng.uniform(34, 60)
    shift, radius = rng.uniform(-step, 0, 2), step * rng.uniform(0.36, 0.46)
    for i in range(5):
        for j in range(5):
            x, y = shift + step * np.array([i, j]) + rng.normal(0, 2, 2)
            r, tone = radius * rng.uniform(0.85, 1.1), int(rng.integers(120, 200))
            draw.ellipse([x - r, y - r, x + r, y + r], fill=tone)
            head = r * 0.5
            draw.ellipse([x - head, y - head, x + head * 0.6, y + head], fill=tone - int(rng.integers(25, 60)))
    return np.asarray(picture, dtype=np.float64)


def _moon(rng: np.random.Generator) -> np.ndarray:
    tone = rng.uniform(95, 150) + 22 * cloudy(rng, 5)
    for _ in range(rng.integers(2, 7)):
        a, b, r = *rng.uniform(-1, 1, 2), rng.uniform(0.06, 0.35)
        far = np.hypot(X - a, Y - b) / r
        tone = tone + np.exp(-((far - 0.9) ** 2) * 8) * ((X - a) / r) * 70 * (far < 1.8)
    return tone


def _stars(rng: np.random.Generator) -> np.ndarray:
    tone = np.full((FINE, FINE), rng.uniform(5, 25))
    for _ in range(rng.integers(12, 40)):
        a, b, r = *rng.uniform(-1, 1, 2), rng.uniform(0.015, 0.06)
        tone = tone + rng.uniform(80, 240) * np.exp(-((X - a) ** 2 + (Y - b) ** 2) / r**2)
    return tone


def _printed_text(rng: np.random.Generator) -> np.ndarray:
    size, picture = int(rng.integers(6, 11)), Image.new("L", (FINE, FINE))
    draw = ImageDraw.Draw(picture)
    face = ImageFont.truetype(str(print_folder() / f"{rng.choice(['DejaVuSans', 'DejaVuSerif', 'cmr10'])}.ttf"), size)
    for row in np.arange(-size, FINE, 1.6 * size):
        draw.text((-size, row), "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz   "), 40)), 255, face)
    turned = picture.rotate(float(rng.uniform(-6, 6)), Image.Resampling.BILINEAR)
    return rng.uniform(160, 225) * (1 - 0.85 * np.asarray(turned, dtype=np.float64) / 255)


def _tissue(rng: np.random.Generator) -> np.ndarray:
    body = np.clip(cloudy(rng, 5) * 4 + rng.uniform(-0.5, 0.5), -1, 1)
    picture, draw = _draw(0)
    for _ in range(rng.integers(25, 60)):
        x, y, r = *rng.uniform(0, FINE, 2), rng.uniform(2, 5)
        draw.ellipse([x - r, y - 0.7 * r, x + r, y + 0.7 * r], fill=255)
    nuclei = np.asarray(picture, dtype=np.float64) / 255
    return 165 + 45 * body - 75 * nuclei + 12 * cloudy(rng, 30)


def _blood_vessels(rng: np.random.Generator) -> np.ndarray:
    picture, draw = _draw(0)
    for _ in range(rng.integers(3, 7)):
        at, angle, wide = rng.uniform(0, FINE, 2), rng.uniform(0, 6.3), rng.uniform(2, 5)
        for _ in range(24):
            angle += rng.normal(0, 0.3)
            step = at + 7 * np.array([np.cos(angle), np.sin(angle)])
            draw.line([tuple(at), tuple(step)], fill=255, width=max(1, round(wide)))
            at, wide = step, wide * 0.97
    return rng.uniform(120, 175) + 20 * cloudy(rng, 3) - rng.uniform(30, 60) * np.asarray(picture) / 255


MATERIALS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    draw.__name__.strip("_").replace("_", " "): draw
    for draw in (_brick_wall, _grass, _gravel, _coins, _moon, _stars, _printed_text, _tissue, _blood_vessels)
}


def material(name: str, rng: np.random.Generator) -> np.ndarray:
    """A material (one of MATERIALS) in uneven light, (SIZE, SIZE, 3) uint8 and grey."""
    tone = MATERIALS[name](rng) * rng.uniform(0.75, 1.1) + rng.uniform(-15, 15)
    lit = tone * (1 + 0.15 * cloudy(rng, 3)) + 6 * cloudy(rng, FINE // 2)
    small = np.clip(lit, 0, 255).reshape(SIZE, 3, SIZE, 3).mean(axis=(1, 3))
    return np.repeat(np.rint(small).astype(np.uint8)[..., None], 3, axis=2)
