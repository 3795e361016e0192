"""The frozen features that a selector judges by: CLIP's class token, or AlexNet's fifth convolution (released code)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.clip.backbone import Backbone

WIDE = 8192  # wider features are kept in half precision: AlexNet's 43,264 an image then take 36 GB for MTIL


class ClsToken(nn.Module):
    """The frozen image tower's class token before the projection."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.visual: Any = backbone.model.visual

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D) of normalised images (B, 3, H, W)."""
        return self.visual._pool(self.visual.transformer(self.visual._embeds(images)))[0]


class AlexNetFeatures(nn.Module):
    """AlexNet's fifth convolution before its ReLU: 256 x 13 x 13 = 43,264 numbers.

    torchvision downloads the ImageNet weights on first use. Raises OSError if it cannot.
    """

    def __init__(self, pretrained: bool = True) -> None:
        super().__init__()
        from torchvision.models import AlexNet_Weights, alexnet

        try:
            alexnet_model = alexnet(weights=AlexNet_Weights.IMAGENET1K_V1 if pretrained else None)
        except OSError as error:
            raise OSError(f"AlexNet's weights cannot be downloaded ({error}); use selector.features: clip") from error
        self.convolutions = alexnet_model.features[:11].eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, 43264) of images (B, 3, H, W), normalised by CLIP's mean and std, scaled to 224 pixels."""
        size = (224, 224)
        scaled = F.interpolate(images, size, mode="bicubic") if images.shape[-2:] != size else images
        return self.convolutions(scaled).flatten(1)


def selector_features(backbone: Backbone, kind: str) -> nn.Module:
    """The module that computes features (B, S) of normalised images (B, 3, H, W). kind: clip or alexnet."""
    return AlexNetFeatures() if kind == "alexnet" else ClsToken(backbone)


@torch.no_grad()
def extract(module: nn.Module, images: Tensor, backbone: Backbone, batch: int = 256) -> Tensor:
    """Features (N, S) of uint8 images (N, 3, H, W), on the CPU; wide ones are in half precision."""
    parts = (module(backbone.pixels(part)).cpu() for part in images.split(batch))
    return torch.cat([part.half() if part.shape[1] >= WIDE else part for part in parts])
