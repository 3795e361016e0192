"""The goals of the method beyond: verdicts on made results."""

from typing import Any

import pytest

from lib.report.claims import FAILS, HOLDS, OPEN, UNTESTED, Evidence
from lib.report.goals import GOALS, RIVALS, table
from tests.support.made_results import result

Results = list[dict[str, Any]]


def runs(name: str, more: float, spread: float = 0.01, oracle: float | None = None) -> Results:
    """Three seeds of a run, about so many points above the made matrix; oracle: points by which it is ahead."""
    made = [result(name, seed, "I", more + spread * (seed - 1) ** 3) for seed in range(3)]
    for content in made if oracle is not None else ():
        for metric in ("accuracy", "transfer", "average", "last", "forgetting"):
            held = content[metric]
            shift = [[v + oracle for v in row] for row in held["sample"]] if metric == "accuracy" else None
            held["oracle"] = shift or held["sample"] + oracle
    return made


def verdict(text: str, results: Results) -> str:
    return next(goal for goal in GOALS if text in goal.text).judge(Evidence(results, "")).verdict


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [((-5, -4, -3, -2), HOLDS), ((-5, -4, -3, 2), FAILS), ((), UNTESTED)],
    ids=["above all", "below one", "alone"],
)
def test_above_all_rivals(gaps: tuple[float, ...], expected: str) -> None:
    others = [content for run, gap in zip(RIVALS, gaps, strict=False) for content in runs(run, gap)]
    for metric in ("Transfer", "Average", "Last"):
        assert verdict(f"MoRAM: {metric}", runs("beyond", 0) + others) == expected


def test_too_near_to_one_rival_is_not_told_apart() -> None:
    others = [content for run in RIVALS[1:] for content in runs(run, -5)] + runs(RIVALS[0], -0.1, spread=4)
    assert verdict("MoRAM: Last", runs("beyond", 0) + others) == OPEN


@pytest.mark.parametrize(("gap", "expected"), [(-2.0, HOLDS), (-0.5, FAILS), (1.0, FAILS)])
def test_transfer_has_to_be_a_point_above_zero_shot(gap: float, expected: str) -> None:
    assert verdict("zero-shot", runs("beyond", 0) + runs("zero_shot", gap)) == expected


@pytest.mark.parametrize(("ahead", "expected"), [(0.0, HOLDS), (0.9, HOLDS), (1.5, FAILS)])
def test_its_oracle_may_be_a_point_ahead(ahead: float, expected: str) -> None:
    for metric in ("Average", "Last"):
        assert verdict(f"{metric}: within", runs("beyond", 0, oracle=ahead)) == expected


def test_the_table_has_a_line_for_every_goal() -> None:
    found = table(runs("beyond", 0, oracle=2.0) + runs("zero_shot", -2.0))
    assert found["own labels"].tolist() == [UNTESTED] * 3 + [HOLDS, FAILS, FAILS]
    assert found["goal"].tolist() == [goal.text for goal in GOALS]


def test_above_all_waits_for_all_rivals() -> None:
    assert verdict("MoRAM: Last", runs("beyond", 0) + runs("rail_primal", -5)) == UNTESTED
