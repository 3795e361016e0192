"""Crops of photographs: the two splits never share a pixel."""

import numpy as np
import pytest
from PIL import Image

from tools.miniworld import photographs


@pytest.mark.parametrize("name", photographs.PHOTOS)
def test_the_splits_of_a_photograph_share_no_pixel(name: str) -> None:
    picture = photographs.photograph(name)
    assert picture.height == photographs.PHOTOS[name][1]
    covered = np.zeros((picture.height, picture.width), dtype=int)
    for mark, split in ((1, "train"), (10, "test")):
        corners = photographs.cells(picture.height, picture.width, split)
        assert corners
        for top, left in corners:
            cell = covered[top : top + photographs.CELL, left : left + photographs.CELL]
            assert cell.shape == (photographs.CELL, photographs.CELL)
            cell += mark
    assert set(np.unique(covered)) <= {0, 1, 10}  # no pixel in two cells


def test_a_photographs_crops_stay_in_the_cells_of_their_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """A photograph whose pixels say which split they belong to gives crops of that split alone."""
    marked = np.zeros((photographs.CELL * 3, photographs.CELL * 4), dtype=np.uint8)
    stripes = (np.arange(photographs.CELL) // 8 % 2 * 40).astype(np.uint8)
    for split, base in (("train", 60), ("test", 180)):
        for top, left in photographs.cells(*marked.shape, split):
            marked[top : top + photographs.CELL, left : left + photographs.CELL] = base + stripes
    monkeypatch.setattr(photographs, "photograph", lambda name: Image.fromarray(marked))
    for split, low, high in (("train", 35, 130), ("test", 135, 255)):
        rng = np.random.default_rng(0)
        crops = np.stack([photographs.crop("any", split, rng) for _ in range(40)])
        assert low <= crops.min() <= crops.max() <= high
