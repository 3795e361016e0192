"""The benchmark's step on a tiny mixture: what is timed is a whole step, in both ways, from the same weights."""

from dataclasses import replace

import pytest
import torch

from tools.bench import step
from tools.bench.step import Bench


@pytest.mark.parametrize("way", ["plain", "ours"])
def test_a_step_trains_everything_and_times_its_parts(small: Bench, way: str) -> None:
    before = {name: p.clone() for name, p in small.model.trainable_parameters(0)}
    spent = small.step(small.ways()[way])
    assert set(spent) == set(step.PARTS)
    assert all(seconds > 0 for seconds in spent.values())
    assert not any(torch.equal(before[name], p) for name, p in small.model.trainable_parameters(0))
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
    seconds, taken = {"plain": iter([4.0, 6.0]), "ours": iter([2.0, 2.0])}, []
    ways = {name: object() for name in seconds}

    def take(_self: Bench, way: object) -> dict[str, float]:
        name = next(n for n, w in ways.items() if w is way)
        taken.append(name)
        return dict.fromkeys(step.PARTS, next(seconds[name]))

    monkeypatch.setattr(Bench, "ways", lambda _: ways)
    monkeypatch.setattr(Bench, "step", take)
    monkeypatch.setattr(step, "step_operations", lambda *_: 7)
    measured = step.steps(replace(small), 2)
    assert taken == ["plain", "ours"] * 2
    assert measured["ratio"] == {"median": 2.5, "least": 2.0, "largest": 3.0}
    assert set(measured["peak_memory_mb"]) == {"plain", "ours"}
    assert measured["seconds"]["plain"] == {"image": 5.0, "text": 5.0, "optimiser": 5.0, "step": 5.0}


def test_a_plain_steps_operations_follow_from_few_prompts(small: Bench) -> None:
    whole = replace(small, tokens=small.tokens.repeat(3, 1)[:27])
    assert step.plain_operations(whole) == step.step_operations(whole, "plain")
