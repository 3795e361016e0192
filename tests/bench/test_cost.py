"""Costs: sizes are counted, steps and answers are timed, a selector is timed with as many tasks as asked."""

import json
import math
from pathlib import Path

import pytest
import torch

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
    seen, extract = [], cost.extract
    monkeypatch.setattr(cost, "extract", lambda *given: seen.append(1) or extract(*given))
    assert measured("zero_shot")["ms a picture"] > 0
    assert len(seen) == 2  # the pictures that warm up, then the test pictures: once for answers and features
    pupil, task = small_study.learned("moe_adapters", 2), small_study.sequence()[0][1]
    fresh = cost.Uncomputed(small_study.backbone(), task, "clip")
    ready = small_study.sequence()[1][1]
    torch.testing.assert_close(fresh.test, ready.test)
    torch.testing.assert_close(fresh.image_test, ready.image_test)
    again, usual = (pupil.predict(task, each, 1).classes for each in (fresh, ready))
    assert all(torch.equal(again[way], usual[way]) for way in usual)


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


def test_minutes_of_a_study_are_the_sums_over_its_tasks(tmp_path: Path) -> None:
    seconds = {"digits": {"training": 60, "evaluation": 6}, "plots": {"training": 30, "evaluation": 12}}
    (tmp_path / "lwf--I--s0.json").write_text(json.dumps({"seconds": seconds}))
    assert cost.minutes_of_study(tmp_path).loc["lwf--I--s0"].tolist() == [1.5, 0.3]
    assert cost.minutes_of_study(tmp_path / "none").empty
