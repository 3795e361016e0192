"""LoRA: CLIP at the start, what moves, merged and not merged, its size."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from lib.clip.towers import image_tower, text_tower
from lib.methods.finetune import FineTune
from tests.support import small_lessons, small_study


def features(model: Any) -> list[Tensor]:
    """Of both towers."""
    task = small_study.sequence()[0][0]
    tokens = small_study.backbone().tokenizer(task.prompts("a photo of {}."))
    return [image_tower(model, small_study.shown(0)[0]), text_tower(model, tokens)]


def blocks(model: Any) -> list[Any]:
    return [*model.visual.transformer.resblocks, *model.transformer.resblocks]


@torch.no_grad()
def test_a_new_models_weights_are_clips_bit_for_bit() -> None:
    method = small_study.method("lora")
    for ours, theirs in zip(blocks(method.model), blocks(small_study.backbone().model), strict=True):
        assert torch.equal(ours.attn.in_proj_weight, theirs.attn.in_proj_weight)
    image, text = zip(features(method.model), features(small_study.backbone().model), strict=True)
    assert torch.equal(*image)
    torch.testing.assert_close(*text, rtol=0, atol=5e-6)  # of size 1
    assert all(update.a.any() for update in method.updates.values())


def test_the_updates_alone_move_and_all_of_them() -> None:
    method = small_study.method("lora")
    before = small_lessons.copied(method)
    small_study.teach(method, 0)
    expected = {name for name in before if name.endswith(("in_proj_weight.0.a", "in_proj_weight.0.b"))}
    assert len(expected) == 2 * 4
    assert small_lessons.moved(method, before) == expected


@torch.no_grad()
def test_the_update_is_of_low_rank_scaled_and_leaves_the_keys() -> None:
    method = small_lessons.stir(small_study.method("lora", rank=3, alpha=6.0), 0.3)
    for ours, theirs, update in zip(
        blocks(method.model), blocks(small_study.backbone().model), method.updates.values(), strict=True
    ):
        query, key, value = (ours.attn.in_proj_weight - theirs.attn.in_proj_weight).chunk(3)
        assert not key.any()
        for change, b, a in zip((query, value), update.b, update.a, strict=True):
            torch.testing.assert_close(change, 2 * b @ a, rtol=1e-4, atol=1e-6)  # alpha / rank = 2
            assert torch.linalg.svdvals(change)[2] > 1e-3
            assert torch.linalg.svdvals(change)[3] < 1e-5


@torch.no_grad()
def test_merged_equals_unmerged() -> None:
    method = small_lessons.stir(small_study.method("lora"), 0.3)
    merged: Any = copy.deepcopy(small_study.backbone().model)
    for ours, theirs in zip(blocks(method.model), blocks(merged), strict=True):
        theirs.attn.in_proj_weight.copy_(ours.attn.in_proj_weight)
    for unmerged, plain in zip(features(method.model), features(merged), strict=True):
        torch.testing.assert_close(unmerged, plain, rtol=0, atol=1e-5)  # of size 1


def test_attentions_fast_path_sees_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    method, taken = small_lessons.stir(small_study.method("lora"), 0.3), []
    kernels: Any = torch
    fast = kernels._native_multi_head_attention
    monkeypatch.setattr(torch, "_native_multi_head_attention", lambda *given: taken.append(given[5]) or fast(*given))
    with torch.no_grad():
        quick = features(method.model)
        image: Any = method.model.visual.transformer
        weights = [block.attn.in_proj_weight for block in image.resblocks[:-1]]  # the last one takes another path
        frozen = features(small_study.backbone().model)
    assert all(torch.equal(*pair) for pair in zip(taken, weights, strict=False))
    assert taken
    for parameter in method.trained().values():
        parameter.requires_grad_(True)
    for one, slow, old in zip(quick, features(method.model), frozen, strict=True):
        torch.testing.assert_close(one, slow, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(one, old, atol=1e-2)


def test_a_weight_is_made_once_for_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    method, made = small_study.method("lora"), []
    method.begin_task(small_study.lessons()[0])
    for update in method.updates.values():
        update.register_forward_hook(lambda *given: made.append(given[0]))
    plain = FineTune.loss(method, *small_study.shown(0))
    made.clear()
    assert torch.equal(method.loss(*small_study.shown(0)), plain)
    assert len(made) == 4
    assert not parametrize._cache


def test_the_updates_alone_are_counted_and_stored() -> None:
    method = small_study.learned("lora")
    count = 4 * 2 * 2 * 2 * 32  # blocks, query and value, A and B, rank, width
    assert method.size() == {"trainable_parameters": count, "stored_bytes": 4 * count}
