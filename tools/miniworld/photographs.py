"""Grey crops of photographs from installed packages, for the tasks `surfaces` and `scenes`.

A photograph is cut into cells, and each cell belongs to one split: train and test share no pixel.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from tools.miniworld.drawing import SIZE

PHOTOS = {  # file in a package, height in pixels before it is cut into cells
    "brick wall": ("skimage/data/brick.png", 512),
    "grass": ("skimage/data/grass.png", 512),
    "gravel": ("skimage/data/gravel.png", 512),
    "coins": ("skimage/data/coins.png", 303),
    "moon": ("skimage/data/moon.png", 512),
    "stars": ("skimage/data/hubble_deep_field.jpg", 872),
    "printed text": ("skimage/data/page.png", 384),
    "tissue": ("skimage/data/ihc.png", 512),
    "blood vessels": ("skimage/data/retina.jpg", 706),
    "astronaut": ("skimage/data/astronaut.png", 300),
    "cameraman": ("skimage/data/camera.png", 300),
    "cat": ("skimage/data/chelsea.png", 300),
    "cup of coffee": ("skimage/data/coffee.png", 300),
    "motorcycle": ("skimage/data/motorcycle_left.png", 300),
    "rocket": ("skimage/data/rocket.jpg", 300),
    "tower": ("sklearn/datasets/images/china.jpg", 300),
    "flower": ("sklearn/datasets/images/flower.jpg", 300),
    "officer": ("matplotlib/mpl-data/sample_data/grace_hopper.jpg", 384),
}
CELL = 96  # pixels a side of the cells that a photograph is cut into; every fourth belongs to the test split


def cells(height: int, width: int, split: str) -> list[tuple[int, int]]:
    """The top left corners of a split's cells."""
    corners = [(r, c) for r in range(height // CELL) for c in range(width // CELL)]
    return [(r * CELL, c * CELL) for r, c in corners if ((r + 2 * c) % 4 == 1) == (split == "test")]


@cache
def photograph(name: str) -> Image.Image:
    """The grey photograph of a class, scaled to its height in PHOTOS."""
    path, height = PHOTOS[name]
    package, _, rest = path.partition("/")
    picture = Image.open(Path(str(files(package))) / rest).convert("L")
    return picture.resize((round(picture.width * height / picture.height), height), Image.Resampling.LANCZOS)


def crop(name: str, split: str, rng: np.random.Generator) -> np.ndarray:
    """A random grey crop (SIZE, SIZE, 3) uint8 from one of the split's cells, perhaps mirrored, brighter or darker."""
    picture = photograph(name)
    where = cells(picture.height, picture.width, split)
    while True:
        top, left = where[int(rng.integers(len(where)))]
        side = int(rng.integers(CELL * 2 // 3, CELL + 1))
        y, x = (int(rng.integers(0, CELL - side + 1)) for _ in range(2))
        cut = picture.crop((left + x, top + y, left + x + side, top + y + side))
        small = np.asarray(cut.resize((SIZE, SIZE), Image.Resampling.LANCZOS), dtype=np.float64)
        if small.std() > 8:  # not a piece of empty sky
            break
    small = small[:, :: int(rng.choice([-1, 1]))] * rng.uniform(0.85, 1.15)
    return np.repeat(np.clip(np.rint(small), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
