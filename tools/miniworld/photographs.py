"""Grey crops of photographs from installed packages, for the task `surfaces`.

A photograph is cut into small cells with a margin between them, and each cell belongs to one split: train and test
share no pixel, and are one distribution.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from tools.miniworld.drawing import SIZE

PHOTOS = {  # file in a package, height in pixels before it is cut into cells
    "brick wall": ("skimage/data/brick.png", 360),
    "grass": ("skimage/data/grass.png", 360),
    "gravel": ("skimage/data/gravel.png", 360),
    "coins": ("skimage/data/coins.png", 303),
    "moon": ("skimage/data/moon.png", 360),
    "stars": ("skimage/data/hubble_deep_field.jpg", 600),
    "printed text": ("skimage/data/page.png", 288),
    "tissue": ("skimage/data/ihc.png", 360),
    "blood vessels": ("skimage/data/retina.jpg", 500),
}
CELL, MARGIN = 48, 8  # pixels a side of a cell, and between two cells; every third cell belongs to the test split


def cells(height: int, width: int, split: str) -> list[tuple[int, int]]:
    """The top left corners of a split's cells."""
    rows, columns = ((side + MARGIN) // (CELL + MARGIN) for side in (height, width))
    mine = [(r, c) for r in range(rows) for c in range(columns) if ((r + c) % 3 == 1) == (split == "test")]
    return [(r * (CELL + MARGIN), c * (CELL + MARGIN)) for r, c in mine]


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
