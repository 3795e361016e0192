"""What the frozen CLIP computes for a task: zero-shot answers, the selector's features and its own image features.

Learning never changes them. So they are computed once for a study, and every run reads them.
"""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from lib.clip.backbone import Backbone, encode_text, zero_shot_classifier
from lib.data.tasks import Task, read_tensors, write_tensors
from lib.selector.features import ClsToken, extract, selector_features


@dataclass(frozen=True)
class Features:
    """Answers and features of the frozen CLIP for one task."""

    zero_shot: Tensor  # (N,) answers on the test pictures
    train: Tensor  # (N, S) selector features of both splits
    test: Tensor
    image_train: Tensor  # (N, F) CLIP's unit image features of both splits
    image_test: Tensor


def compute(backbone: Backbone, task: Task, kind: str) -> Features:
    """Zero-shot answers with all templates of a task, and features. kind: the selector's, clip or alexnet."""
    (train, image_train), (test, image_test) = (
        of_pictures(backbone, part.images, kind) for part in (task.train, task.test)
    )
    return Features(zero_shot(backbone, task, image_test), train, test, image_train, image_test)


@torch.no_grad()
def of_pictures(backbone: Backbone, images: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Selector features (N, S) and unit image features (N, F) of uint8 images (N, 3, H, W)."""
    tower = ClsToken(backbone)
    pooled = extract(tower, images, backbone)
    image = F.normalize(pooled @ tower.visual.proj.cpu(), dim=-1)
    if kind != "clip":
        pooled = extract(selector_features(backbone, kind).to(backbone.device), images, backbone)
    return pooled, image


@torch.no_grad()
def zero_shot(backbone: Backbone, task: Task, image: Tensor) -> Tensor:
    """The frozen CLIP's answers (N,) among a task's classes, from unit image features (N, F)."""
    return (image @ class_features(backbone, task).T).argmax(dim=1)


def class_features(backbone: Backbone, task: Task) -> Tensor:
    """The frozen CLIP's unit class features (C, F) of a task, averaged over its templates."""
    return zero_shot_classifier(
        lambda tokens: encode_text(backbone.model, tokens).cpu(), backbone.tokenizer, task.classes, task.templates
    )


def manifest(backbone: Backbone, kind: str, tasks: dict[str, Path], features: dict[str, Path]) -> dict[str, Any]:
    """Of what features were computed: the backbone, the selector's kind, each prepared file, and the shapes.

    The features themselves differ between machines by rounding. The manifest does not, so stages depend on it.
    """
    described = {}
    for name, file in tasks.items():
        with file.open("rb") as prepared, safe_open(features[name], "pt") as held:
            shapes = {part: held.get_slice(part).get_shape() for part in sorted(held.keys())}
            described[name] = {"sha256": hashlib.file_digest(prepared, "sha256").hexdigest(), "shapes": shapes}
    return {"backbone": backbone.fingerprint, "selector": kind, "tasks": described}


def save(features: Features | Tensor, file: Path) -> None:
    """Writes a task's features, or the reference set's alone (N, S). Raises DiskError for a full or read-only disk."""
    write_tensors(file, {"features": features} if isinstance(features, Tensor) else vars(features))


def load(file: Path) -> Features:
    """The task's features that `save` wrote. Raises TaskError if the file is missing or damaged."""
    return Features(**read_tensors(file, [part.name for part in fields(Features)], "features"))


def load_reference(file: Path) -> Tensor:
    """The reference set's features that `save` wrote. Raises TaskError if the file is missing or damaged."""
    return read_tensors(file, ["features"], "features")["features"]
