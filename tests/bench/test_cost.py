"""Costs: sizes are counted, times are of the steps that were taken, a selector is timed with as many tasks as asked."""

import json
import math
from pathlib import Path

import pytest
import torch

from lib.methods.base import stored_bytes
from lib.study import params
from tests.support import small_study
from tools.bench import cost


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Measures a run of the small study."""
    small_study.move(monkeypatch, tmp_path)
    small_study.prepare(tmp_path)
    monkeypatch.setattr(params, "load", lambda file: small_study.study())
    return lambda run: cost.measure("params.yaml", run, 3)


def test_sizes_are_those_of_the_method_after_two_tasks(measured) -> None:
    found, pupil = measured("moe_adapters"), small_study.learned("moe_adapters", 2)
    assert found["stored bytes"] == stored_bytes(pupil.state())
    assert found["trainable parameters"] == pupil.size()["trainable_parameters"]
    before = small_study.learned("moe_adapters", 1).size()["stored_bytes"]
    assert found["stored bytes a task"] == found["stored bytes"] - before


def test_a_method_that_trains_has_a_time_for_a_step_and_one_that_does_not_has_none(measured) -> None:
    assert 0 < measured("finetune")["seconds a step"] < 10
    assert measured("finetune")["ms a picture"] > 0
    assert math.isnan(measured("zero_shot")["seconds a step"])


def test_a_stopwatch_counts_the_steps_and_lets_the_method_do_its_own() -> None:
    pupil = small_study.method("zscl")
    done = []
    pupil.after_step = lambda: done.append(1)
    watch = cost.Stopwatch(pupil)
    for _ in range(3):
        pupil.after_step()
    assert (len(done), len(watch.ends)) == (3, 3)
    assert watch.step >= 0


def test_selector_and_routers_are_timed_at_every_number_of_tasks() -> None:
    pupil = small_study.teach(small_study.method("moe_adapters"), 0)
    config, images = pupil.settings.config(), torch.zeros(4, 3, 32, 32)
    found = cost.scaling(small_study.backbone(), images, pupil.selector, config, [1, 5])
    assert {name: len(times) for name, times in found.items()} == {"encoder": 2, "routed": 2, "selector": 2}
    assert len(pupil.selector.tasks) == 5
    assert min(time for times in found.values() for time in times) > 0


def test_minutes_of_a_study_are_the_sums_over_its_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "REPORTS", tmp_path)
    seconds = {"digits": {"training": 60, "evaluation": 6}, "plots": {"training": 30, "evaluation": 12}}
    (tmp_path / "cost" / "tiny").mkdir(parents=True)
    (tmp_path / "cost" / "tiny" / "lwf--I--s0.json").write_text(json.dumps({"seconds": seconds}))
    found = cost.minutes_of_study("tiny")
    assert found.loc["lwf--I--s0"].tolist() == [1.5, 0.3]
    assert cost.minutes_of_study("none").empty
