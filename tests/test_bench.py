"""The benchmark's parts on a tiny mixture: what is timed is a whole step, in both ways, from the same weights."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lib import bench
from lib.bench import Bench
from lib.moe import MoECLIP


@pytest.fixture
def small(mixture: Callable[..., MoECLIP], images: Tensor, tokens: Tensor) -> Bench:
    return Bench(mixture(tasks=1, noise=False).train(), images, torch.arange(8), tokens)


@pytest.mark.parametrize("way", ["plain", "ours"])
def test_a_step_trains_everything_and_says_where_the_time_went(small: Bench, way: str) -> None:
    before = {name: p.clone() for name, p in small.model.trainable_parameters(0)}
    spent = small.step(small.ways()[way])
    assert set(spent) == set(bench.PARTS)
    assert all(seconds > 0 for seconds in spent.values())
    moved = [name for name, p in small.model.trainable_parameters(0) if not torch.equal(before[name], p)]
    assert len(moved) == len(before)
    assert small.model.adapters()["image_adapters.0"].counts.sum() == 8 * 2


def test_both_ways_take_the_same_step(small: Bench) -> None:
    start = {name: tensor.clone() for name, tensor in small.model.state_dict().items()}
    ends = []
    for way in ("plain", "ours"):
        small.model.load_state_dict(start)
        small.step(small.ways()[way])
        ends.append([p.detach().clone() for _, p in small.model.trainable_parameters(0)])
    for plain, ours in zip(*ends, strict=True):
        torch.testing.assert_close(plain, ours, rtol=0, atol=2e-4)  # a step of Adam is as long as its rate


def test_the_ratio_is_of_whole_steps_taken_in_turn(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, taken = {"plain": iter([9.0, 4.0, 6.0]), "ours": iter([9.0, 2.0, 2.0])}, []
    ways = {name: object() for name in seconds}

    def step(_self: Bench, way: object) -> dict[str, float]:
        name = next(n for n, w in ways.items() if w is way)
        taken.append(name)
        return dict.fromkeys(bench.PARTS, next(seconds[name]))

    monkeypatch.setattr(Bench, "ways", lambda _: ways)
    monkeypatch.setattr(Bench, "step", step)
    found = bench.steps(replace(small), 2)
    assert taken == ["plain", "ours"] * 3
    assert found["ratio"] == {"median": 2.5, "least": 2.0, "largest": 3.0}
    assert found["seconds"]["plain"] == {"image": 5.0, "text": 5.0, "optimiser": 5.0, "step": 15.0}


def test_an_option_that_fails_is_named(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_loss: object) -> Callable[[], Tensor]:
        def fail() -> Tensor:
            raise RuntimeError("no compiler here")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    found = bench.options(small, 2)
    assert found["compile"] == {"failed": "RuntimeError: no compiler here"}
    assert found["bf16"]["least"] <= found["bf16"]["median"] <= found["bf16"]["largest"]


def test_the_selectors_share_and_the_wait_are_shares(small: Bench) -> None:
    found = bench.selector(small, 3)
    assert found["share"] == pytest.approx(found["selector_ms"] / found["encoder_ms"])
    assert 0 < bench.waiting(1.0) < bench.waiting(0.1) < 1
    assert bench.spread(np.array([1.0, 2.0, 4.0])) == {"median": 2.0, "least": 1.0, "largest": 4.0}
