"""The reference set: pictures with captions that belong to none of the tasks.

ZSCL and LwF-VR distil on it. The selector can have an autoencoder for it, which stands for "none of the tasks".
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.data.folders import TaskError
from lib.files import whole
from lib.settings import Count, Positive


@dataclass(frozen=True)
class ReferenceSettings:
    """The reference set of a study (params `reference`).

    source: `mini` (held-out pictures of the pre-training world), `folder` (<root>/<class>/*.png) or `datasets` (training
    pictures of data set `name`). Captions use the first template. pictures: how many are drawn, by the seed.
    """

    source: Literal["mini", "folder", "datasets"]
    root: str
    pictures: Positive
    seed: Count
    name: str = ""


@dataclass(frozen=True)
class ReferenceSet:
    """Images (N, 3, H, W) uint8, and the tokens (N, L) of their captions."""

    images: Tensor
    tokens: Tensor


def draw(settings: ReferenceSettings, count: int) -> list[int]:
    """The places of the pictures that are drawn from `count`, ascending."""
    return sorted(np.random.default_rng(settings.seed).permutation(count)[: settings.pictures].tolist())


def save(images: np.ndarray, tokens: Tensor, file: Path) -> None:
    """Writes a reference set of images (N, H, W, 3) uint8. Raises DiskError for a full or read-only disk."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    with whole(file) as partial:
        save_file({"images": pixels, "tokens": tokens}, partial)


def load(file: Path) -> ReferenceSet:
    """What `save` wrote. Raises TaskError if the file is missing or damaged."""
    try:
        held = load_file(file)
        return ReferenceSet(held["images"], held["tokens"])
    except (OSError, SafetensorError, KeyError) as error:
        raise TaskError(f"{file} is no reference set ({error}); the stage `tasks` makes it again") from error
