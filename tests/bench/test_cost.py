"""Costs: sizes are counted, steps and answers are timed, each run in a process of its own."""

import math
from pathlib import Path

import pytest

from lib.data import frozen
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
    assert costs["trainable parameters"] == pupil.size()["trainable_parameters"]
    before = small_study.learned("moe_adapters", 1).size()["stored_bytes"]
    assert costs["stored bytes a task"] == pupil.size()["stored_bytes"] - before


def test_a_method_that_trains_has_a_time_for_a_step_and_one_that_does_not_has_none(measured) -> None:
    assert 0 < measured("finetune")["seconds a step"] < 10
    costs = measured("zero_shot")
    assert math.isnan(costs["seconds a step"])
    assert costs["peak memory (MB)"] >= 0


def test_answers_are_timed_with_nothing_computed_before(measured, monkeypatch: pytest.MonkeyPatch) -> None:
    computed, compute = [], frozen.compute
    monkeypatch.setattr(frozen, "compute", lambda *given: computed.append(len(given[1].test)) or compute(*given))
    assert measured("zero_shot")["ms a picture"] > 0
    assert computed == [8, 12]  # a few pictures warm up


def test_no_method_stores_less_than_nothing() -> None:
    costs = cost.learning(small_study.method("icarl", exemplars=20), small_study.lessons(), lambda _: None)
    assert costs["stored bytes a task"] >= 0


def test_every_run_has_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "measure", eval)  # a function that a new process knows too
    where = "{'process': __import__('os').getpid()}"
    assert cost.measure_all(where, [{}, {}], {})["process"].nunique() == 2  # type: ignore[arg-type]
