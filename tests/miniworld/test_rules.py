"""The world's rules: probes that tell what they should, and the committed numbers keep every rule."""

import json
from pathlib import Path

import numpy as np
import pytest

from lib.study.studies import ROOT
from tools.miniworld import rules

NUMBERS = json.loads((ROOT / "reports" / "world.json").read_text())


def clouds(apart: float, count: int = 200) -> list[np.ndarray]:
    """Two clouds of points (count, 4) whose means are so many deviations apart."""
    rng = np.random.default_rng(0)
    return [rng.normal(0, 1, (count, 4)) + side * apart * np.eye(4)[0] for side in (0, 1)]


def test_a_probe_tells_groups_that_differ_and_is_at_chance_for_groups_that_do_not() -> None:
    for apart, low, high in ((8.0, 99, 100), (0.0, 35, 65)):
        first, second = clouds(apart)
        got = rules.between([(first[:100], first[100:]), (second[:100], second[100:])])
        assert low <= got <= high


def test_train_and_test_of_two_distributions_are_told_apart() -> None:
    first, second = clouds(8.0)
    assert rules.train_or_test(first, second) > 99
    assert 35 < rules.train_or_test(*np.split(clouds(0.0, 400)[0], 2)) < 65


def test_the_committed_world_keeps_every_rule() -> None:
    assert rules.broken(NUMBERS) == []


@pytest.mark.parametrize(
    ("rule", "value", "line"),
    [
        ("tasks", 7, "tasks: 7.0, allowed 8 to 10"),
        ("zero-shot, mean", 70.0, "zero-shot, mean: 70.0, allowed 35 to 65"),
        ("train or test", {"a": 55.0, "b": 61.5}, "train or test (b): 61.5, allowed 0 to 60"),
    ],
)
def test_a_broken_rule_is_named(rule: str, value: object, line: str) -> None:
    assert rules.broken(NUMBERS | {rule: value}) == [line]


def test_fine_tuning_is_the_mean_of_the_diagonals_by_task_in_any_order(tmp_path: Path) -> None:
    for order, tasks, own in (("I", "ab", [90.0, 80.0]), ("II", "ba", [90.0, 70.0])):
        matrix = [[own[0], 1.0], [2.0, own[1]]]
        content = {"tasks": list(tasks), "accuracy": {"sample": matrix}}
        (tmp_path / f"finetune_single--{order}--s0.json").write_text(json.dumps(content))
    assert rules.fine_tuning(tmp_path) == {"a": 80.0, "b": 85.0}
