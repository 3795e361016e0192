"""The benchmark on a tiny mixture: the plain way and ours agree and take the same step; whole steps are compared."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.moe import MoECLIP
from lib.study.studies import REPORTS
from tests.support.mixtures import copies
from tools.bench import meters, run, step
from tools.bench.step import Bench


@pytest.fixture
def small(mixture: Callable[..., MoECLIP], images: Tensor, tokens: Tensor) -> Bench:
    return Bench(mixture(tasks=1, noise=False).train(), images, tokens)


def test_both_ways_take_the_same_step_and_train_everything(small: Bench) -> None:
    start, ends = copies(small.model), []
    for take in step.steps(small).values():
        small.model.load_state_dict(start)
        take()
        ends.append({name: p.detach().clone() for name, p in small.model.trainable_parameters(0)})
        assert small.model.adapters()["image_adapters.0"].counts.sum() == 8 * 2
    for name, ours in ends[1].items():
        torch.testing.assert_close(ours, ends[0][name], rtol=0, atol=2e-4)  # a step of Adam is as long as its rate
        assert not torch.equal(ours, start[name])


def test_the_ratio_is_of_steps_taken_in_turn(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, spent = [], iter([4.0, 2.0, 6.0, 2.0])
    monkeypatch.setattr(step, "steps", lambda _: {name: lambda n=name: taken.append(n) for name in ("plain", "ours")})
    monkeypatch.setattr(step, "seconds", lambda work: work() or next(spent))
    measured = step.compared(small, 2)
    assert taken == ["plain", "ours"] * 3
    assert measured["ratio"] == {"median": 2.5, "least": 2.0, "largest": 3.0}
    assert measured["seconds"] == {"plain": 5.0, "ours": 2.0}
    assert set(measured["operations"]) == set(measured["peak_memory_mb"]) == {"plain", "ours"}


def test_the_most_that_work_holds_counts_what_it_gives_back() -> None:
    assert meters.most(lambda: np.ones(25_000_000)) == pytest.approx(191, abs=20)  # 200 MB, gone at once
    assert 0 <= meters.most(lambda: None) < 20


def test_the_page_on_speed_holds_the_committed_figures(tmp_path: Path) -> None:
    page, figures = tmp_path / "speed.md", json.loads((REPORTS / "bench.json").read_text())
    page.write_text(run.PAGE.read_text())
    run.write_page(figures, page)
    assert page.read_text() == run.PAGE.read_text()
    for number in (figures["step_ratio_c100"], figures["step_ratio_c397"], figures["eval_flops_ratio_t11"]):
        assert str(number) in run.table(figures)


# --- the plain way and the library's


@pytest.mark.parametrize("token", ["start", "end"])
@pytest.mark.parametrize("image_blocks", ["all", "last"])
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_a_step_agrees_in_values_routes_and_gradients(
    mixture: Callable[..., MoECLIP], images: Tensor, tokens: Tensor, token: str, image_blocks: str, top_k: int
) -> None:
    model = mixture(text_router_token=token, image_blocks=image_blocks, top_k=top_k).train()
    noise = {block: torch.randn(10, 6) for block in (0, 1)}
    shown = {block: drawn[:8] for block, drawn in noise.items()}
    prompts = model.prepare(tokens)
    ways = [
        (step.encode_image(model, images, 1, shown), step.encode_text(model, tokens, 1, noise)),
        (model.encode_image(images, 1, shown, whole=False), model.encode_text(prompts, 1, noise)),
    ]
    slopes: list[list[Tensor]] = []
    for image, text in ways:
        model.zero_grad()
        (image.features.sin().sum() + text.features.sin().sum()).backward()
        slopes.append([p.grad.clone() for _, p in model.trainable_parameters(1) if p.grad is not None])
    assert len(slopes[0]) == len(slopes[1]) == len(model.trainable_parameters(1))
    for slow, quick in zip(*slopes, strict=True):
        torch.testing.assert_close(quick, slow, rtol=0, atol=1e-4)
    for slow, quick in zip(*ways, strict=True):
        torch.testing.assert_close(quick.features, slow.features, rtol=0, atol=1e-5)
        assert slow.routings.keys() == quick.routings.keys()
        for block, routing in slow.routings.items():
            assert torch.equal(quick.routings[block].experts, routing.experts)
            torch.testing.assert_close(quick.routings[block].gates, routing.gates, rtol=0, atol=1e-5)
