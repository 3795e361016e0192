"""The paper's claims: each verdict on made results, and what a verdict depends on."""

from typing import Any

import pytest

from lib.report import claims
from lib.report.claims import CLAIMS, FAILS, HOLDS, OPEN, UNTESTED, Evidence
from tests.support.made_results import result

Results = list[dict[str, Any]]


def runs(name: str, more: float, spread: float = 0.1, order: str = "I", **changes: Any) -> Results:
    """Three seeds of a run, about so many points above the made matrix; spread: of the seeds."""
    return [result(name, seed, order, more + spread * (seed - 1) ** 3, **changes) for seed in range(3)]


def verdict(text: str, results: Results, labels: str = "") -> str:
    """On the first claim that holds these words."""
    return next(claim for claim in CLAIMS if text in claim.text).judge(Evidence(results, labels)).verdict


OURS = runs("moe_adapters", 0)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        (runs("mas", -5) + runs("zscl", -3), HOLDS),
        (runs("mas", -5) + runs("zscl", 3), FAILS),
        (runs("mas", -5) + runs("zscl", -0.1, spread=4), OPEN),
        (runs("mas", -5) + runs("joint", 9) + runs("adapter_per_task", 9) + runs("mas+more", 9), HOLDS),  # no rivals
        ([], UNTESTED),
    ],
    ids=["above all", "below one", "too near to one", "bounds, controls and variants", "alone"],
)
def test_better_than_every_rival(others: Results, expected: str) -> None:
    for metric in ("Transfer", "Average", "Last"):
        assert verdict(f"every rival: {metric}", OURS + others) == expected


@pytest.mark.parametrize(("more", "expected"), [(-0.5, HOLDS), (0.5, HOLDS), (0.9, OPEN), (1.5, FAILS)])
def test_what_stays_may_lose_less_than_the_margin(more: float, expected: str) -> None:
    assert verdict("Zero-shot ability stays", OURS + runs("zero_shot", more, spread=0.01)[1:2]) == expected


def test_less_forgetting_is_better() -> None:
    more = [result("moe_adapters+no_freeze", seed, forgetting=9.0 + seed) for seed in range(3)]
    less = [result("moe_adapters+no_freeze", seed, forgetting=seed - 9.0) for seed in range(3)]
    assert [verdict("Activate-freeze", OURS + other) for other in (more, less, [])] == [HOLDS, FAILS, UNTESTED]


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(-4, 0.0, HOLDS), (-4, -4, HOLDS), (-4, 4, FAILS), (4, 0, FAILS)]
)
def test_more_helps_to_a_point(low: float, high: float, expected: str) -> None:
    others = runs("moe_adapters+experts_2", low, spread=0) + runs("moe_adapters+experts_44", high, spread=1)
    assert verdict("More experts", OURS + others) == expected


def test_the_selector_is_judged_against_its_own_oracle() -> None:
    assert verdict("picture by picture", OURS) == FAILS  # two points below
    assert verdict("batch by batch", OURS) == OPEN  # one point, which is just the margin


def test_trained_parameters_are_counted_with_the_selectors() -> None:
    ours = result("moe_adapters", trainable_parameters=300, selector_parameters=50)
    for count, expected in ((1000, HOLDS), (800, FAILS)):
        assert verdict("fewer trained", [ours, result("finetune", trainable_parameters=count)]) == expected


def test_the_table_has_both_label_spaces_and_says_what_changes_a_verdict() -> None:
    results = runs("moe_adapters", 0, union=5) + runs("adapter", -3, spread=0.5, union=0)
    results += runs("moe_adapters", 0, order="II", union=5) + runs("adapter", 3, spread=0.5, order="II", union=0)
    few = {"order": "A", "tasks": ["red", "green"]}  # of the ablations, where the orders of all tasks say nothing
    more = [run for name, points in (("adapter", 50), ("moe_adapters", 0)) for run in runs(name, points, **few)]
    lines = claims.table(results + more).set_index("claim")
    assert list(lines.index) == [claim.text for claim in CLAIMS]
    line = lines.loc["A mixture is worth more than one adapter"]
    assert (line["own labels"], line["union labels"]) == (OPEN, FAILS)
    assert line["pairs"] == "6"
    assert "labels" in line["depends on"]
    assert "order, own labels: I +3.0, II -3.0" in line["depends on"]
    alone = claims.table(results[:6]).set_index("claim").loc["A mixture is worth more than one adapter"]
    assert (alone["own labels"], alone["depends on"].partition(";")[0]) == (HOLDS, "labels")
    assert lines.loc["Two experts a picture are better than one", "own labels"] == UNTESTED
