"""What the frozen CLIP says of each task, computed once per study: zero-shot answers and the selector's features.

Neither ever changes while tasks are learned, so every run reads them from here instead of asking again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lib.clip import compute as computing
from lib.clip.backbone import Backbone, encode_text, zero_shot_classifier
from lib.data import reference
from lib.data.tasks import Pictures, Task
from lib.files import whole
from lib.study import params
from lib.study.paths import DATA

ALEXNET_SIZE = 224
WIDE = 8192  # AlexNet's 43,264 numbers take 36 GB for the 416,000 pictures of MTIL even in half precision
REFERENCE = "_reference"  # the name of the file with the features of "none of the tasks"


@dataclass(frozen=True)
class Features:
    """Of one task: zero-shot answers (N,) on the test pictures, selector features (., S) of both splits, and CLIP's
    own unit image features (., F) of both splits, before any learning."""

    zero_shot: Tensor
    train: Tensor
    test: Tensor
    image_train: Tensor
    image_test: Tensor


class AlexNetFeatures(nn.Module):
    """The released code's features: AlexNet's fifth convolution before its ReLU, 256 x 13 x 13 = 43,264 numbers.

    Pictures (B, 3, H, W), normalised as CLIP wants them, are scaled to 224 pixels. torchvision downloads the
    ImageNet weights on first use; without a network it says so.
    """

    def __init__(self, pretrained: bool = True) -> None:
        super().__init__()
        from torchvision.models import AlexNet_Weights, alexnet

        try:
            whole = alexnet(weights=AlexNet_Weights.IMAGENET1K_V1 if pretrained else None)
        except OSError as error:
            raise OSError(
                f"AlexNet's weights could not be downloaded ({error}); use selector.features: clip"
            ) from error
        self.convolutions = whole.features[:11].eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, 43264)."""
        size = (ALEXNET_SIZE, ALEXNET_SIZE)
        scaled = F.interpolate(images, size, mode="bicubic") if images.shape[-2:] != size else images
        return self.convolutions(scaled).flatten(1)


def selector_features(backbone: Backbone, kind: str) -> nn.Module:
    """The module that turns normalised pictures (B, 3, H, W) into selector features (B, S): clip or alexnet."""
    return AlexNetFeatures() if kind == "alexnet" else ClsToken(backbone)


class ClsToken(nn.Module):
    """The frozen image tower's pooled token before the projection (B, D)."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.visual: Any = backbone.model.visual

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D)."""
        visual = self.visual
        return visual._pool(visual.transformer(visual._embeds(images)))[0]


@torch.no_grad()
def extract(module: nn.Module, pictures: Pictures | Tensor, backbone: Backbone, batch: int = 256) -> Tensor:
    """Features (N, S) of uint8 pictures, in order, on the CPU; wide ones in half precision."""
    images = pictures.images if isinstance(pictures, Pictures) else pictures
    parts = (module(backbone.pixels(part)).cpu() for part in images.split(batch))
    return torch.cat([part.half() if part.shape[1] >= WIDE else part for part in parts])


@torch.no_grad()
def compute(backbone: Backbone, task: Task, settings: params.Selector) -> Features:
    """Zero-shot answers with all of the task's templates, and both kinds of features of both splits."""
    tower = ClsToken(backbone)
    pooled = [extract(tower, split, backbone) for split in (task.train, task.test)]
    image = [F.normalize(p @ tower.visual.proj.cpu(), dim=-1) for p in pooled]
    if settings.features != "clip":
        other = selector_features(backbone, settings.features).to(backbone.device)
        pooled = [extract(other, split, backbone) for split in (task.train, task.test)]
    return Features(zero_shot(backbone, task, image[1]), *pooled, *image)


@torch.no_grad()
def zero_shot(backbone: Backbone, task: Task, image: Tensor) -> Tensor:
    """The frozen CLIP's answers (N,) among a task's classes, from unit image features (N, F)."""
    return (image @ class_features(backbone, task).T).argmax(dim=1)


def class_features(backbone: Backbone, task: Task) -> Tensor:
    """The frozen CLIP's unit class features (C, F) of a task, over all its templates."""

    def encode(tokens: Tensor) -> Tensor:
        return encode_text(backbone.model, tokens).cpu()

    return zero_shot_classifier(encode, backbone.tokenizer, task.classes, task.templates)


def path(study: str, task: str) -> Path:
    """Where a task's features lie."""
    return DATA / study / "features" / f"{task}.safetensors"


def prepare(study: params.Study, backbone: Backbone, sequence: list[Task]) -> list[Features]:
    """Computes and writes the features of all tasks."""
    backbone.to(computing.begin(study.compute))
    known = []
    if study.selector.reference:
        others = reference.load(study).images
        module = selector_features(backbone, study.selector.features).to(backbone.device)
        found = extract(module, others, backbone)
        _write({"features": found}, path(study.study, REFERENCE))
    for task in sequence:
        known.append(compute(backbone, task, study.selector))
        save(known[-1], path(study.study, task.name))
    return known


def ensure(study: params.Study, backbone: Callable[[], Backbone], sequence: list[Task]) -> list[Features]:
    """The features of all tasks, computed now if some are not there (as when a notebook is opened by itself).

    Sets the study's threads either way: what is learned on features is the same bytes beside any number of stages.
    """
    computing.begin(study.compute)
    needed = [task.name for task in sequence] + [REFERENCE] * bool(study.selector.reference)
    if all(path(study.study, name).exists() for name in needed):
        return [load(path(study.study, task.name)) for task in sequence]
    return prepare(study, backbone(), sequence)


def save(features: Features, file: Path) -> None:
    """Writes the features of a task. Raises DiskError for a full or read-only disk."""
    _write({name: value.contiguous() for name, value in vars(features).items()}, file)


def _write(tensors: dict[str, Tensor], file: Path) -> None:
    with whole(file) as partial:
        save_file(tensors, partial)


def load_reference(study: str) -> Tensor:
    """Features (N, S) of the reference pictures, which stand for "none of the tasks".

    Raises ValueError if the file is missing or damaged.
    """
    file = path(study, REFERENCE)
    try:
        return load_file(file)["features"]
    except (OSError, SafetensorError, KeyError) as error:
        raise _unreadable(file, error) from error


def load(file: Path) -> Features:
    """The features of a task. Raises ValueError if the file is missing or damaged."""
    try:
        return Features(**load_file(file))
    except (OSError, SafetensorError, TypeError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{file} holds no features ({error}); the stage `zero_shot` makes them again")
