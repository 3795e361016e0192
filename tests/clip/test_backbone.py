"""The frozen CLIP: its fingerprint, its inputs, its class features."""

from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor

from lib.clip import encode_text, preprocess, zero_shot_classifier
from lib.clip.backbone import fingerprint


def test_the_fingerprint_sees_one_changed_weight(tiny: open_clip.CLIP) -> None:
    before = fingerprint(tiny)
    assert len(before) == 64
    assert before == fingerprint(tiny)
    with torch.no_grad():
        tiny.logit_scale.add_(1e-6)
    assert fingerprint(tiny) != before


def test_preprocessing_is_what_open_clip_does_to_an_image_of_the_right_size() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    theirs: Any = open_clip.image_transform(32, is_train=False, mean=mean, std=std)
    expected = torch.stack([theirs(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    torch.testing.assert_close(preprocess(images, mean, std), expected)


def test_images_that_are_not_bytes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"torch\.float32; give uint8"):
        preprocess(torch.zeros(1, 3, 4, 4), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize("batch", [256, 3])
def test_text_features_of_cut_prompts_are_those_of_the_full_context(
    tiny: open_clip.CLIP, tokens: Tensor, batch: int
) -> None:
    with torch.no_grad():
        full = tiny.encode_text(tokens)
    torch.testing.assert_close(encode_text(tiny, tokens, batch), full, rtol=0, atol=1e-5)


def spell(prompts: list[str]) -> Tensor:
    """A tokenizer of letters."""
    return torch.tensor([[ord(c) for c in prompt.ljust(12)[:12]] for prompt in prompts])


def test_class_features_are_the_normalised_mean_of_normalised_features() -> None:
    table = torch.randn(128, 5, generator=torch.Generator().manual_seed(0))
    classes, templates = ["cat", "dog", "bird"], ["a {}.", "the {}"]
    features = zero_shot_classifier(lambda t: table[t].sum(dim=1), spell, classes, templates)
    for row, name in zip(features, classes, strict=True):
        each = [table[spell([template.format(name)])].sum(dim=1)[0] for template in templates]
        mean = torch.stack([feature / feature.norm() for feature in each]).mean(dim=0)
        torch.testing.assert_close(row, mean / mean.norm())


@pytest.mark.parametrize(("templates", "message"), [(["a cat"], "'a cat' has no {}"), ([], "no template")])
def test_templates_without_a_place_for_the_class_are_an_error(templates: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zero_shot_classifier(lambda t: t.float(), spell, ["cat"], templates)
