"""What holds the change of the weights small: WiSE-FT's average, MAS's importances and penalty, LoRA's updates."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lib.clip.towers import image_tower, text_tower
from lib.methods.constrained import importance
from tests.support import small_lessons, small_study


def test_a_task_ends_between_the_model_before_it_and_the_fine_tuned_one() -> None:
    method, plain = small_study.method("wise_ft", alpha=0.25), small_study.method("finetune")
    for number in (0, 1):  # before the first task the model is CLIP
        plain.restore(method.state())
        before = small_lessons.copied(method)
        after = small_lessons.copied(small_study.teach(plain, number))
        small_study.teach(method, number)
        for name, tensor in method.model.state_dict().items():
            if name in method.trained():
                torch.testing.assert_close(tensor, 0.75 * before[name] + 0.25 * after[name])
            else:
                assert torch.equal(tensor, before[name])


# --- MAS


def penalty(method: Any) -> Tensor:
    return method.extra_loss(torch.zeros(0), torch.zeros(0))


@torch.no_grad()
def test_importances_equal_finite_differences() -> None:
    torch.manual_seed(0)
    toy = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    samples, h = torch.randn(5, 3, dtype=torch.float64), 1e-5
    with torch.enable_grad():
        importances = importance(toy, samples, dict(toy.named_parameters()))
    for name, parameter in toy.named_parameters():
        flat, slopes = parameter.view(-1), []
        for place in range(len(flat)):
            flat[place] += h
            above = toy(samples).square().sum(dim=1)  # (5,) of each sample
            flat[place] -= 2 * h
            below = toy(samples).square().sum(dim=1)
            flat[place] += h
            slopes.append(((above - below) / (2 * h)).abs().mean())
        torch.testing.assert_close(importances[name], torch.stack(slopes).view(parameter.shape), rtol=1e-6, atol=1e-8)


@torch.no_grad()
def test_each_tower_is_judged_by_its_own_features() -> None:
    method, images = small_lessons.begun("mas", pictures=100), small_study.shown(0)[0]
    with torch.enable_grad():
        importances = method.importances(small_study.lessons()[0])
    assert set(importances) == set(method.trained())
    # d ||h P||^2 / d P = 2 h (h P)^T, with h before the projection P
    model = method.model
    visual = model.visual
    image = visual._pool(visual.transformer(visual._embeds(images)))[0]  # (B, D)
    whole, model.text_projection = model.text_projection, nn.Parameter(torch.eye(small_study.CONFIG["width"]))
    text = text_tower(model, method.prompts)  # (C, D)
    model.text_projection = whole
    for name, h, projection in (("visual.proj", image, visual.proj), ("text_projection", text, whole)):
        slopes = 2 * h[:, :, None] * (h @ projection)[:, None, :]
        torch.testing.assert_close(importances[name], slopes.abs().mean(dim=0), rtol=1e-4, atol=1e-6)


def test_the_penalty_is_0_at_the_start_and_by_hand_later() -> None:
    method = small_lessons.begun("mas", 0)
    assert penalty(method).item() == 0
    method.model.zero_grad()  # of the task before
    with torch.no_grad():
        for parameter in method.trained().values():
            parameter += 0.5
    penalty(method).backward()
    total = sum(omega.double().sum() * 0.25 for omega in method.omega.values())
    assert penalty(method).item() == pytest.approx(float(total), rel=1e-4)
    for name, parameter in method.trained().items():
        torch.testing.assert_close(parameter.grad, method.omega[name], rtol=1e-4, atol=1e-6)  # 2 * omega * 0.5


def test_importances_add_up_over_the_tasks() -> None:
    method = small_study.teach(small_study.method("mas"), 0)
    first = dict(method.omega)
    small_study.teach(method, 1)
    second = method.importances(small_study.lessons()[1])
    for name, omega in method.omega.items():
        assert (omega >= 0).all()
        torch.testing.assert_close(omega, first[name] + second[name])
    assert any(new.any() for new in second.values())


def test_the_next_task_is_held() -> None:
    moved = []
    for weight in (0.0, 100.0):
        method = small_study.teach(small_study.method("mas", weight=weight), 0)
        springs = dict(method.omega)
        small_study.teach(method, 1)
        method.omega = springs
        method.settings = replace(method.settings, weight=1.0)
        moved.append(penalty(method).item())
    assert moved[1] < 0.3 * moved[0]


# --- LoRA


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
