"""The frozen CLIP and its class features (paper, Sec. 3.1; Radford et al. 2021)."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.clip import towers

Encode = Callable[[Tensor], Tensor]  # tokens (N, L) to features (N, F)
Tokenizer = Callable[[list[str]], Tensor]  # prompts to tokens (N, L), padded to the context length
Colours = tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """A CLIP in eval mode, its tokenizer, and how its images are prepared.

    image_size: pixels a side. mean, std: of the colours, for pixels from 0 to 1. name: what it was loaded by.
    fingerprint: a hash of all its weights.
    """

    model: open_clip.CLIP
    tokenizer: Tokenizer
    image_size: int
    mean: Colours
    std: Colours
    name: str
    fingerprint: str

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.model.logit_scale.device

    def to(self, device: torch.device) -> "Backbone":
        """Moves the model to a device. Returns this backbone."""
        self.model.to(device)
        return self

    def pixels(self, images: Tensor) -> Tensor:
        """The model's inputs (B, 3, H, W), on its device, for uint8 images (B, 3, H, W) on any device."""
        return preprocess(images.to(self.device), self.mean, self.std)


def fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of all tensors of a model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def preprocess(images: Tensor, mean: Colours, std: Colours) -> Tensor:
    """Scales uint8 images (B, 3, H, W) to 0 to 1, then normalises them by mean and std."""
    if images.dtype != torch.uint8:
        raise ValueError(f"images are {images.dtype}; give uint8, 0 to 255, as they are stored")
    shift, scale = (torch.tensor(c, device=images.device).view(3, 1, 1) for c in (mean, std))
    return (images.float() / 255 - shift) / scale


@torch.no_grad()
def encode_text(model: open_clip.CLIP, tokens: Tensor, batch: int = 256) -> Tensor:
    """The frozen CLIP's features (N, F), not normalised, of tokens (N, L). Padding is cut batch by batch."""
    return torch.cat([towers.text_group(model, part) for part in tokens.split(batch)])


def zero_shot_classifier(encode: Encode, tokenizer: Tokenizer, class_names: list[str], templates: list[str]) -> Tensor:
    """Class features (C, F) of unit length: the mean over templates ("a photo of a {}.") of unit features."""
    bad = [template for template in templates if "{}" not in template]
    if bad or not templates:
        raise ValueError(f"template {bad[0]!r} has no {{}} for the class name" if bad else "there is no template")
    prompts = ([template.format(name) for name in class_names] for template in templates)
    features = torch.stack([F.normalize(encode(tokenizer(each)), dim=-1) for each in prompts])  # (templates, C, F)
    return F.normalize(features.mean(dim=0), dim=-1)  # (C, F)
