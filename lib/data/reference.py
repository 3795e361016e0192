"""The reference set: pictures with captions that belong to none of the tasks.

ZSCL and LwF-VR distil on it, and a selector can have an autoencoder for it ("none of the tasks"). `mini` takes
held-out pictures and captions of the pre-training world; a folder of `<class>/*.png` gives captions by its class names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.data.folders import TaskError, class_folders, decode, fitted, picture_files
from lib.files import whole
from lib.study.params import Reference, Study
from lib.study.paths import DATA, ROOT

SPLIT = "held_out"  # of the pre-training world


@dataclass(frozen=True)
class ReferenceSet:
    """Images (N, 3, H, W) uint8 and the tokens (N, L) of their captions."""

    images: Tensor
    tokens: Tensor


def path(study: str) -> Path:
    """Where the prepared set lies: beside the tasks."""
    return DATA / study / "tasks" / "_reference.safetensors"


def prepare(study: Study, size: int, tokenizer: Callable[[list[str]], Tensor]) -> None:
    """Makes and writes the study's reference set, if it has one, at size x size pixels."""
    wanted = study.reference
    if wanted is None:
        return
    make = {"mini": _mini, "folder": _folder, "datasets": _dataset}[wanted.source]
    images, captions = make(study, wanted, size)
    if images.shape[1] != size:
        raise TaskError(f"the reference pictures have {images.shape[1]} pixels a side, the backbone wants {size}")
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    with whole(path(study.study)) as partial:
        save_file({"images": pixels, "tokens": tokenizer(captions)}, partial)


def _mini(study: Study, wanted: Reference, size: int) -> tuple[np.ndarray, list[str]]:
    from tools.miniworld.world import examples_of

    examples = examples_of(wanted.seed, range(wanted.pictures), SPLIT)
    return np.stack([e.picture for e in examples]), [e.caption for e in examples]


def _folder(study: Study, wanted: Reference, size: int) -> tuple[np.ndarray, list[str]]:
    files = [file for folder in class_folders(ROOT / wanted.root) for file in picture_files(folder)]
    chosen = [files[i] for i in _drawn(wanted, len(files))]
    captions = [_template(study).format(file.parent.name.replace("_", " ")) for file in chosen]
    return np.stack([decode(file, size) for file in chosen]), captions


def _dataset(study: Study, wanted: Reference, size: int) -> tuple[np.ndarray, list[str]]:
    from tools.datasets.catalogue import catalogue, open_split

    split, names = open_split(wanted.name, ROOT / wanted.root, "train"), catalogue(wanted.name).names
    chosen = _drawn(wanted, len(split))
    captions = [_template(study).format(names[split.labels[i]]) for i in chosen]
    return np.stack([fitted(split.picture(i), size) for i in chosen]), captions


def _drawn(wanted: Reference, count: int) -> list[int]:
    return sorted(np.random.default_rng(wanted.seed).permutation(count)[: wanted.pictures].tolist())


def _template(study: Study) -> str:
    return (study.tasks.templates or ["a photo of a {}."])[0]


def load(study: Study) -> ReferenceSet:
    """The prepared set. Raises TaskError if the study names none, or if it has not been prepared."""
    if study.reference is None:
        raise TaskError(
            f"study {study.study} has no `reference:` section; ZSCL, LwF-VR and selector.reference need one"
        )
    if not path(study.study).exists():
        raise TaskError(f"{path(study.study)} is missing; the stage `tasks` makes it")
    try:
        held = load_file(path(study.study))
        return ReferenceSet(held["images"], held["tokens"])
    except (OSError, SafetensorError, KeyError) as error:
        raise TaskError(
            f"{path(study.study)} is no reference set ({error}); the stage `tasks` makes it again"
        ) from error
