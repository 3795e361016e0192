"""Grey materials, drawn by rules: so that pre-training has read the words that the task `surfaces` asks for."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tools.iconworld.drawing import SIZE
from tools.iconworld.glyphs import print_folder
from tools.miniworld import textures
from tools.miniworld.drawing import FINE, cloudy


def _printed_text(rng: np.random.Generator) -> np.ndarray:
    size, picture = int(rng.integers(6, 11)), Image.new("L", (FINE, FINE))
    draw = ImageDraw.Draw(picture)
    face = ImageFont.truetype(str(print_folder() / f"{rng.choice(['DejaVuSans', 'DejaVuSerif', 'cmr10'])}.ttf"), size)
    for row in np.arange(-size, FINE, 1.6 * size):
        draw.text((-size, row), "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz   "), 40)), 255, face)
    turned = picture.rotate(float(rng.uniform(-6, 6)), Image.Resampling.BILINEAR)
    return rng.uniform(160, 225) * (1 - 0.85 * np.asarray(turned, dtype=np.float64) / 255)


MATERIALS = textures.MATERIALS | {"printed text": _printed_text}


def material(name: str, rng: np.random.Generator) -> np.ndarray:
    """A material (one of MATERIALS) in uneven light, (SIZE, SIZE, 3) uint8 and grey."""
    tone = MATERIALS[name](rng) * rng.uniform(0.75, 1.1) + rng.uniform(-15, 15)
    lit = tone * (1 + 0.15 * cloudy(rng, 3)) + 6 * cloudy(rng, FINE // 2)
    small = np.clip(lit, 0, 255).reshape(SIZE, 3, SIZE, 3).mean(axis=(1, 3))
    return np.repeat(np.rint(small).astype(np.uint8)[..., None], 3, axis=2)
