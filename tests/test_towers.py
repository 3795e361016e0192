"""The two towers: open_clip's own numbers, cut padding, and the models that are refused."""

from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor, nn

from lib import towers


def test_padding_is_cut_after_the_longest_prompt(tokens: Tensor) -> None:
    assert towers.cut_padding(tokens).shape == (10, 9)
    assert towers.cut_padding(tokens[:2]).shape == (2, 5)
    full = torch.arange(1, 21).repeat(3, 1)
    assert torch.equal(towers.cut_padding(full), full)


def test_frozen_towers_are_open_clips_own(tiny: open_clip.CLIP, images: Tensor) -> None:
    full = torch.arange(107, 127).repeat(2, 1).add(torch.tensor([[0], [1]]))  # nothing to cut
    with torch.no_grad():
        assert torch.equal(towers.image_tower(tiny, images), tiny.encode_image(images))
        assert torch.equal(towers.text_tower(tiny, full), tiny.encode_text(full))


def with_other_blocks(clip: Any) -> None:
    clip.visual.transformer.resblocks[1] = nn.Identity()


def with_other_visual(clip: Any) -> None:
    clip.visual = nn.Identity()


def with_sequence_first(clip: Any) -> None:
    clip.transformer.batch_first = False


def without_a_causal_mask(clip: Any) -> None:
    clip.attn_mask = None


def with_tokens_beside_the_features(clip: Any) -> None:
    clip.visual.output_tokens = True


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (with_other_blocks, "block 1 of the image tower is a Identity, not a ResidualAttentionBlock"),
        (with_other_visual, "the image tower is a Identity, not a VisionTransformer"),
        (with_sequence_first, "the text tower was built with batch_first=False"),
        (without_a_causal_mask, "the text tower is not causal"),
        (with_tokens_beside_the_features, "the image tower returns more or less than projected features"),
    ],
)
def test_a_clip_of_another_kind_is_refused(
    tiny: open_clip.CLIP, damage: Callable[[Any], None], message: str
) -> None:
    towers.check(tiny)
    damage(tiny)
    with pytest.raises(ValueError, match=f"{message}.* such as ViT-B-16-quickgelu"):
        towers.check(tiny)


def test_what_is_no_clip_is_refused(tiny: open_clip.CLIP) -> None:
    with pytest.raises(ValueError, match="the model is a VisionTransformer, not open_clip's CLIP"):
        towers.check(tiny.visual)
