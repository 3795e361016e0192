"""Costs: sizes are counted, steps and answers are timed, a selector is timed with as many tasks as asked."""

import math
from pathlib import Path

import pytest
import torch

from lib.data import frozen
from lib.methods.base import stored_bytes
from tests.support import small_study
from tools.bench import cost


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Measures a run of the small study."""
    small_study.prepare(tmp_path)
    monkeypatch.setattr(cost, "open_study", lambda file: small_study.open_at(tmp_path))
    return lambda run: cost.measure("params.yaml", run, 3)


def test_sizes_are_those_of_the_method_after_two_tasks(measured) -> None:
    costs, pupil = measured("moe_adapters"), small_study.learned("moe_adapters", 2)
    assert costs["stored bytes"] == stored_bytes(pupil.state())
    assert costs["trainable parameters"] == pupil.size()["trainable_parameters"]
    before = small_study.learned("moe_adapters", 1).size()["stored_bytes"]
    assert costs["stored bytes a task"] == costs["stored bytes"] - before


def test_a_method_that_trains_has_a_time_for_a_step_and_one_that_does_not_has_none(measured) -> None:
    assert 0 < measured("finetune")["seconds a step"] < 10
    assert measured("finetune")["ms a picture"] > 0
    assert math.isnan(measured("zero_shot")["seconds a step"])


def test_answers_are_timed_with_nothing_computed_before(measured, monkeypatch: pytest.MonkeyPatch) -> None:
    computed, compute = [], frozen.compute
    monkeypatch.setattr(frozen, "compute", lambda *given: computed.append(len(given[1].test)) or compute(*given))
    assert measured("zero_shot")["ms a picture"] > 0
    assert computed == [8, 12]  # a few pictures warm up


def test_no_method_takes_less_than_no_memory(measured) -> None:
    assert measured("zero_shot")["peak memory (MB)"] >= 0
    costs = cost.learning(small_study.method("icarl", exemplars=20), small_study.lessons(), lambda _: None)
    assert costs["stored bytes a task"] >= 0


def test_selector_and_routers_are_timed_at_every_number_of_tasks() -> None:
    config = small_study.method("moe_adapters").settings.config()
    images = torch.zeros(4, 3, 32, 32)
    times = cost.scaling(small_study.backbone(), images, config, small_study.study().selector, [1, 5])
    assert {name: len(values) for name, values in times.items()} == {"encoder": 2, "routed": 2, "selector": 2}
    assert min(value for values in times.values() for value in values) > 0
