"""Random crops: of which share of a picture, and the same by seed."""

import numpy as np
import torch
from torch import Tensor

from lib.data.augmentation import random_crop


class Still:
    """Draws the middle of every range: no crop, no change of sides, no shift."""

    def uniform(self, low: float, high: float, size: object) -> np.ndarray:
        return np.full(size, (low + high) / 2)  # type: ignore[arg-type]


def test_a_crop_of_all_the_picture_is_the_picture(images: Tensor) -> None:
    same = random_crop(images, 1.0, Still())  # type: ignore[arg-type]
    torch.testing.assert_close(same, images, atol=1e-4, rtol=0)


def test_a_crop_shows_a_part_of_at_least_the_share_asked_for() -> None:
    # brightness tells the place: what is seen spans side * 64 columns, so the crop's area is (wide * high)
    ramp = torch.arange(64.0).expand(200, 1, 64, 64)
    places = torch.cat([ramp, ramp.mT, ramp], dim=1)
    seen = random_crop(places, 0.5, np.random.default_rng(0))[:, :, 8:-8, 8:-8]  # the rim may be reflected
    wide = (seen[:, 0, 0, -1] - seen[:, 0, 0, 0]) / 47
    high = (seen[:, 1, -1, 0] - seen[:, 1, 0, 0]) / 47
    area = wide * high
    assert 0.43 < area.min() < 0.55  # a side longer than the picture is cut: a little below the share
    assert 0.95 < area.max() < 1.001
    assert (wide / high).min() > 0.74
    assert (wide / high).max() < 1.34
    assert (seen[:, 0, 0, 0] < seen[:, 0, 0, -1]).all()  # no flip


def test_crops_are_the_same_by_seed(images: Tensor) -> None:
    first, again, other = (random_crop(images, 0.9, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
