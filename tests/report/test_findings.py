"""What we learned: numbers and verdicts follow from the results, whatever they are."""

import pytest

from lib.report.findings import FINDINGS, Numbers, findings
from tests.support.made_results import result

RESULTS = [
    result("zero_shot", transfer=40, last=40),
    *(result("finetune", s, transfer=30, last=35 + s, forgetting=60, stored_bytes=4_000_000) for s in range(3)),
    *(result("moe_adapters", s, transfer=39, last=75 + s, forgetting=2) for s in range(3)),
]


def test_means_and_intervals_are_over_the_seeds_of_the_order() -> None:
    numbers = Numbers([*RESULTS, result("finetune", 3, order="II", last=0)], "I")
    assert numbers.mean("finetune", "last") == pytest.approx(36)
    assert numbers.mean("moe_adapters", "last", "oracle") == pytest.approx(78)
    assert numbers.text("finetune", "last") == "36.0 ± 2.5"  # t(0.975, 2) / sqrt(3) = 2.48
    assert numbers.text("zero_shot", "last") == "40.0"


def test_runs_differ_where_their_intervals_do_not_overlap() -> None:
    numbers = Numbers([*RESULTS, *(result("lwf", seed, last=37 + seed) for seed in range(3))], "I")
    assert numbers.differ("finetune", "moe_adapters", "last")
    assert not numbers.differ("finetune", "lwf", "last")


def test_rivals_are_neither_bounds_nor_variants_nor_runs_without_a_look() -> None:
    more = {"joint": 90, "lwf": 50, "moe_adapters+gaussian": 80, "mine": 99}
    numbers = Numbers([*RESULTS, *(result(run, last=last) for run, last in more.items())], "I")
    assert numbers.rivals("last") == ["lwf", "finetune"]


def test_a_finding_whose_runs_are_missing_is_left_out() -> None:
    titles = [title for title, _ in findings(RESULTS, "I")]
    assert titles[:2] == list(FINDINGS)[:2]
    assert "Is it the freezing?" not in titles
    assert findings(RESULTS, "II") == []


def test_a_verdict_turns_with_the_numbers() -> None:
    kept = dict(findings(RESULTS, "I"))["Are old tasks kept?"]
    assert "ends at 76.0 ± 2.5 %" in kept
    assert "claim holds" in kept
    worse = [*RESULTS[:4], *(result("moe_adapters", seed, last=20 + seed) for seed in range(3))]
    assert "not hold" in dict(findings(worse, "I"))["Are old tasks kept?"]


def test_more_steps_are_set_against_the_same_seed() -> None:
    runs = {"finetune_single": 90, "moe_adapters+steps_300": 85}
    results = [*RESULTS, *(result(run, 1, last=last) for run, last in runs.items())]
    assert "from 78.0 to 87.0 % (seed 1)" in dict(findings(results, "I"))["How far is it to one model a task?"]


def test_what_a_rival_stores_is_set_against_the_method() -> None:
    assert "4.0 MB (4.0 times as much)" in dict(findings(RESULTS, "I"))["What must be kept?"]
