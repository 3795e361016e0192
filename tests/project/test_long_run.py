"""The long run in small: what grows by a task is a router and an autoencoder, always as much."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import long_run

pytestmark = pytest.mark.usefixtures("no_window")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return long_run.measure(5, 2, tmp_path_factory.mktemp("long"))


def test_each_task_adds_the_same_bytes(content: dict[str, Any]) -> None:
    stored = content["taken"]["stored_bytes"]
    assert len(stored) == 5
    assert len({*np.diff(stored)}) == 1


def test_no_gradient_is_kept_after_a_task(tmp_path: Path) -> None:
    run = long_run.LongRun(2, tmp_path)
    run.learn(0)
    assert [name for name, p in run.method.model.named_parameters() if p.grad is not None] == []


def test_what_is_restored_answers_as_what_was_saved(tmp_path: Path) -> None:
    run = long_run.LongRun(2, tmp_path)
    run.learn(0)
    lesson = run.lesson(0)
    found, again = (m.predict(lesson.task, lesson.features, 0).classes for m in (run.method, run.restored()))
    assert all((found[way] == again[way]).all() for way in found)


def test_every_task_is_measured_and_drawn(content: dict[str, Any], tmp_path: Path) -> None:
    assert {len(values) for values in content["taken"].values()} == {5}
    assert all(0 <= each <= 100 for values in content["after"].values() for each in values)
    drawn = long_run.figure(content)
    assert [axes.get_xlabel() for axes in drawn.axes] == ["task"] * 3
    assert len({axes.get_ylabel() for axes in drawn.axes}) == 3


def test_tasks_differ_and_are_the_same_each_time() -> None:
    first, again, second = long_run.task(0, 48), long_run.task(0, 48), long_run.task(1, 48)
    assert (first.train.images == again.train.images).all()
    assert (first.train.images != second.train.images).any()


def test_the_committed_run_is_long_and_as_flat_as_the_page_says() -> None:
    content = json.loads(long_run.FILE.read_text())
    assert content["tasks"] == long_run.TASKS
    taken = content["taken"]
    for name in ("learn_s", "step_mb"):
        first, last = long_run.ends(taken[name])
        assert last < 1.2 * first, name
    assert len({*np.diff(taken["stored_bytes"])}) == 1
    grown = (taken["resident_mb"][-1] - taken["resident_mb"][19]) / (long_run.TASKS - 20)
    assert grown < 0.5
