"""The frozen CLIP: its fingerprint, its inputs, its templates."""

from typing import Any

import open_clip
import pytest
import torch
from PIL import Image

from lib.clip import preprocess, zero_shot_classifier
from lib.clip.backbone import fingerprint


def test_the_fingerprint_sees_one_changed_weight(tiny: open_clip.CLIP) -> None:
    before = fingerprint(tiny)
    with torch.no_grad():
        tiny.logit_scale.add_(1e-6)
    assert fingerprint(tiny) != before


def test_preprocessing_is_what_open_clip_does_to_an_image_of_the_right_size() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    theirs: Any = open_clip.image_transform(32, is_train=False, mean=mean, std=std)
    expected = torch.stack([theirs(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    torch.testing.assert_close(preprocess(images, mean, std), expected)
    with pytest.raises(ValueError, match=r"torch\.float32; give uint8"):
        preprocess(images.float(), mean, std)


@pytest.mark.parametrize(("templates", "message"), [(["a cat"], "'a cat' has no {}"), ([], "no template")])
def test_templates_without_a_place_for_the_class_are_an_error(templates: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zero_shot_classifier(lambda tokens: tokens, lambda prompts: torch.zeros(len(prompts), 4), ["cat"], templates)
