"""The selector's features: CLIP's class token and AlexNet's fifth convolution."""

import pytest
import torch

from lib.selector import features
from lib.selector.features import AlexNetFeatures, ClsToken, extract
from tests.support import small_study


def test_batches_change_nothing_but_rounding_and_wide_features_are_kept_in_half_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone, images = small_study.backbone(), small_study.task(1).train.images
    whole, parts = (extract(ClsToken(backbone), images, backbone, batch) for batch in (256, 5))
    torch.testing.assert_close(whole, parts)
    monkeypatch.setattr(features, "WIDE", whole.shape[1])
    assert torch.equal(extract(ClsToken(backbone), images, backbone), whole.half())


def test_alexnet_features_are_those_of_the_fifth_convolution() -> None:
    torch.manual_seed(0)
    module, images = AlexNetFeatures(pretrained=False), torch.rand(2, 3, 224, 224)
    made = module(images)
    assert made.shape == (2, 43264)
    assert made.min() < 0  # before the ReLU
    assert torch.equal(made, module.convolutions(images).flatten(1))
    assert module(torch.rand(1, 3, 32, 32)).shape == (1, 43264)


def test_alexnet_without_a_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models.alexnet", refuse)
    with pytest.raises(OSError, match="no route to host.*selector.features: clip"):
        features.selector_features(small_study.backbone(), "alexnet")
