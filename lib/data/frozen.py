"""What the frozen CLIP computes for a task: zero-shot answers, the selector's features and its own image features.

Learning never changes them. So they are computed once for a study, and every run reads them.
"""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.clip.backbone import Backbone, encode_text, zero_shot_classifier
from lib.data.tasks import Task
from lib.files import whole
from lib.selector.features import ClsToken, extract, selector_features


@dataclass(frozen=True)
class Features:
    """Answers and features of the frozen CLIP for one task.

    zero_shot: answers (N,) on the test pictures. train, test: selector features (N, S) of both splits. image_train,
    image_test: CLIP's unit image features (N, F) of both splits.
    """

    zero_shot: Tensor
    train: Tensor
    test: Tensor
    image_train: Tensor
    image_test: Tensor


@torch.no_grad()
def compute(backbone: Backbone, task: Task, kind: str) -> Features:
    """Zero-shot answers with all templates of a task, and features. kind: the selector's, clip or alexnet."""
    tower, splits = ClsToken(backbone), (task.train.images, task.test.images)
    pooled = [extract(tower, images, backbone) for images in splits]
    image = [F.normalize(p @ tower.visual.proj.cpu(), dim=-1) for p in pooled]
    if kind != "clip":
        other = selector_features(backbone, kind).to(backbone.device)
        pooled = [extract(other, images, backbone) for images in splits]
    return Features(zero_shot(backbone, task, image[1]), *pooled, *image)


@torch.no_grad()
def zero_shot(backbone: Backbone, task: Task, image: Tensor) -> Tensor:
    """The frozen CLIP's answers (N,) among a task's classes, from unit image features (N, F)."""
    return (image @ class_features(backbone, task).T).argmax(dim=1)


def class_features(backbone: Backbone, task: Task) -> Tensor:
    """The frozen CLIP's unit class features (C, F) of a task, averaged over its templates."""

    def encode(tokens: Tensor) -> Tensor:
        return encode_text(backbone.model, tokens).cpu()

    return zero_shot_classifier(encode, backbone.tokenizer, task.classes, task.templates)


def save(features: Features, file: Path) -> None:
    """Writes the features of a task. Raises DiskError for a full or read-only disk."""
    _write({name: value.contiguous() for name, value in vars(features).items()}, file)


def manifest(backbone: Backbone, kind: str, tasks: dict[str, Path], features: dict[str, Path]) -> dict[str, Any]:
    """Of what features were computed: the backbone, the selector's kind, each prepared file, and the shapes.

    The features themselves differ between machines by rounding. The manifest does not, so stages depend on it.
    """
    return {
        "backbone": backbone.fingerprint,
        "selector": kind,
        "tasks": {name: {"sha256": _sha256(file), "shapes": _shapes(features[name])} for name, file in tasks.items()},
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _shapes(file: Path) -> dict[str, list[int]]:
    with safe_open(file, "pt") as opened:
        return {name: opened.get_slice(name).get_shape() for name in sorted(opened.keys())}


def save_reference(features: Tensor, file: Path) -> None:
    """Writes the selector features (N, S) of the reference set. Raises DiskError for a full or read-only disk."""
    _write({"features": features}, file)


def load(file: Path) -> Features:
    """The features that `save` wrote. Raises ValueError if the file is missing or damaged."""
    return Features(**_read(file, [part.name for part in fields(Features)]))


def load_reference(file: Path) -> Tensor:
    """The features that `save_reference` wrote. Raises ValueError if the file is missing or damaged."""
    return _read(file, ["features"])["features"]


def _write(tensors: dict[str, Tensor], file: Path) -> None:
    with whole(file) as partial:
        save_file(tensors, partial)


def _read(file: Path, names: list[str]) -> dict[str, Tensor]:
    try:
        held = load_file(file)
        return {name: held[name] for name in names}
    except (OSError, SafetensorError, KeyError) as error:
        raise ValueError(f"{file} holds no features ({error}); the stage `zero_shot` makes them again") from error
