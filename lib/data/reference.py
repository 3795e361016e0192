"""The reference set: pictures with captions that belong to none of the tasks.

ZSCL and LwF-VR distil on it. With `selector.reference` it has an autoencoder of its own, for "none of the tasks".
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors.torch import save_file
from torch import Tensor

from lib.data.tasks import channels_first, read_tensors
from lib.files import whole
from lib.settings import Count, Positive


@dataclass(frozen=True)
class ReferenceSettings:
    """The reference set of a study (params `reference`): how many pictures are drawn from where, by the seed.

    `mini`: held-out pictures of the pre-training world, with their own captions; `folder`: <root>/<class>/*.png;
    `datasets`: training pictures of data set `name`. Captions of these two are the first template with the class name.
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


def choose(settings: ReferenceSettings, count: int) -> list[int]:
    """Which of `count` pictures are drawn: their places, ascending."""
    return sorted(np.random.default_rng(settings.seed).permutation(count)[: settings.pictures].tolist())


def save(images: np.ndarray, tokens: Tensor, file: Path) -> None:
    """Writes a reference set of images (N, H, W, 3) uint8. Raises DiskError for a full or read-only disk."""
    with whole(file) as partial:
        save_file({"images": channels_first(images), "tokens": tokens}, partial)


def load(file: Path) -> ReferenceSet:
    """The reference set that `save` wrote. Raises TaskError if the file is missing or damaged."""
    return ReferenceSet(**read_tensors(file, ("images", "tokens"), "reference set"))
