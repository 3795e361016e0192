"""The two towers: open_clip's own numbers, less work for the same, and the models that are refused."""

from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor, nn

from lib.clip import towers


@torch.no_grad()
def test_frozen_towers_are_open_clips_own(tiny: Any, images: Tensor) -> None:
    full = torch.arange(107, 127).repeat(2, 1).add(torch.tensor([[0], [1]]))  # nothing to cut
    assert torch.equal(towers.image_tower(tiny, images, whole=True), tiny.encode_image(images))
    assert torch.equal(towers.text_pass(tiny, full, whole=True).features(), tiny.encode_text(full))
    tiny.visual.pool_type = "avg"  # reads every token
    assert torch.equal(towers.image_tower(tiny, images), tiny.encode_image(images))


def test_passes_that_save_work_miss_no_feature_and_no_gradient(
    tiny: open_clip.CLIP, images: Tensor, tokens: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.double()
    results: list[list[Tensor]] = []
    for whole, worth in ((True, 1000), (False, 1000), (False, 1)):  # tokens: all together, or all in groups
        monkeypatch.setitem(towers.WORTH, "cpu", worth)
        image = towers.image_tower(tiny, images.double(), whole=whole)
        text = towers.text_pass(tiny, tokens, whole).features() if whole else towers.text_tower(tiny, tokens)
        tiny.zero_grad()
        (image.sin().sum() + text.sin().sum()).backward()
        results.append([image, text, *(p.grad.clone() for p in tiny.parameters() if p.grad is not None)])
    assert len(results[0]) == 2 + len([*tiny.parameters()]) - 1  # all but the temperature
    for expected, *others in zip(*results, strict=True):
        for each in others:
            torch.testing.assert_close(each, expected, rtol=0, atol=1e-10)


def test_prompts_go_in_groups_where_that_saves_enough(tokens: Tensor) -> None:
    def groups(worth: int) -> list[list[int]]:
        return [rows.tolist() for rows in towers.by_length(tokens, worth)]

    assert groups(19) == [[*range(10)]]  # of up to 9 tokens; the six with up to 6 would save 3 each
    assert groups(18) == [[0, 6, 1, 7, 2, 8], [3, 9, 4, 5]]
    assert groups(1) == [[0, 6], [1, 7], [2, 8], [3, 9], [4], [5]]


@torch.no_grad()
def test_the_last_block_works_on_the_tokens_that_are_read(tiny: Any, images: Tensor, tokens: Tensor) -> None:
    seen: list[tuple[int, ...]] = []
    for tower in (tiny.visual, tiny):
        for block in tower.transformer.resblocks:
            block.mlp.register_forward_hook(lambda _module, given, _made: seen.append(tuple(given[0].shape)))
    towers.image_tower(tiny, images)
    towers.text_tower(tiny, tokens)
    assert seen == [(8, 17, 64), (8, 1, 64), (10, 9, 64), (10, 2, 64)]


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("visual.transformer.resblocks.1", nn.Identity(), "block 1 of the image tower is a Identity"),
        ("visual", nn.Identity(), "the image tower is a Identity"),
        ("attn_mask", None, "the text tower is not causal"),
        ("visual.output_tokens", True, "output_tokens"),
        ("text_projection", None, "projection is not a matrix"),
    ],
)
def test_a_clip_of_another_kind_is_refused(tiny: open_clip.CLIP, part: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match="the model is a VisionTransformer"):
        towers.check(tiny.visual)
    towers.check(tiny)  # as it is, it fits
    owner, _, name = part.rpartition(".")
    setattr(tiny.get_submodule(owner), name, value)
    with pytest.raises(ValueError, match=f"{message}.* such as ViT-B-16-quickgelu"):
        towers.check(tiny)
