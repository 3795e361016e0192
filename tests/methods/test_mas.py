"""MAS: importances against finite differences and by hand, and the penalty."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lib.clip.towers import text_tower
from lib.methods.constrained import importance
from tests.support import small_lessons, small_study


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


def test_slopes_of_opposite_samples_do_not_cancel() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    # f = w + x, so d f^2 / d w = 2 (w + x): 4 at x = 1, and -4 at x = -3
    importances = importance(lambda x: weight + x, torch.tensor([[1.0], [-3.0]]), {"w": weight})
    assert importances["w"].tolist() == [4.0]


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
