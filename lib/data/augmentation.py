"""The augmentation of training pictures (released code): a random crop, no flip."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def random_crop(images: Tensor, smallest: float, rng: np.random.Generator) -> Tensor:
    """RandomResizedCrop (bicubic) of each image (B, 3, H, W): `smallest` to 1 of its area, aspect 3:4 to 4:3."""
    count = len(images)
    area = rng.uniform(smallest, 1, count)
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), count) / 2)
    wide, high = np.minimum(np.sqrt(area) * ratio, 1), np.minimum(np.sqrt(area) / ratio, 1)
    x, y = rng.uniform(-1, 1, (2, count)) * (1 - np.stack([wide, high]))
    zero = np.zeros(count)
    maps = np.stack([np.stack([wide, zero, x], 1), np.stack([zero, high, y], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(torch.from_numpy(maps).to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
