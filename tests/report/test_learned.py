"""What we learned: numbers and verdicts follow from the results, whatever they are."""

from typing import Any

import pytest

from lib.report.findings import FINDINGS, Numbers, findings


def result(run: str, seed: int, transfer: float, last: float, forgetting: float, order: str = "I") -> dict[str, Any]:
    method, _, variant = run.partition("+")
    scores = {"transfer": transfer, "average": 50.0, "last": last, "forgetting": forgetting}
    about = {"method": method, "variant": variant, "order": order, "seed": seed}
    return (
        about
        | {"stored_bytes": 4_000_000 if method == "finetune" else 1_000_000}
        | {metric: {"sample": value, "batch": value + 1, "oracle": value + 2} for metric, value in scores.items()}
    )


RESULTS = [
    result("zero_shot", 0, 40, 40, 0),
    *(result("finetune", seed, 30, 35 + seed, 60) for seed in (0, 1, 2)),
    *(result("moe_adapters", seed, 39, 75 + seed, 2) for seed in (0, 1, 2)),
]


def test_means_and_intervals_are_over_the_seeds_of_the_order() -> None:
    numbers = Numbers([*RESULTS, result("finetune", 3, 0, 0, 0, order="II")], "I")
    assert numbers.mean("finetune", "last") == pytest.approx(36)
    assert numbers.mean("finetune", "last", "oracle") == pytest.approx(38)
    assert numbers.text("finetune", "last") == "36.0 ± 2.5"  # t(0.975, 2) / sqrt(3) = 2.48
    assert numbers.text("zero_shot", "last") == "40.0"


def test_runs_differ_where_their_intervals_lie_apart() -> None:
    close = [result("lwf", seed, 0, 37 + seed, 0) for seed in (0, 1, 2)]
    numbers = Numbers([*RESULTS, *close], "I")
    assert numbers.differ("finetune", "moe_adapters", "last")
    assert not numbers.differ("finetune", "lwf", "last")


def test_rivals_are_neither_bounds_nor_variants_nor_ablations() -> None:
    more = [result(run, 0, 0, last, 0) for run, last in (("joint", 90), ("lwf", 50), ("moe_adapters+gaussian", 80))]
    assert Numbers([*RESULTS, *more], "I").rivals("last") == ["lwf", "finetune"]


def test_a_finding_whose_runs_are_missing_is_left_out() -> None:
    titles = [title for title, _ in findings(RESULTS, "I")]
    assert titles[:2] == list(FINDINGS)[:2]
    assert "Is it the freezing?" not in titles
    assert findings(RESULTS, "II") == []


def test_a_verdict_turns_with_the_numbers() -> None:
    kept = dict(findings(RESULTS, "I"))["Are old tasks kept?"]
    assert "ends at 76.0 ± 2.5 %" in kept
    assert "The paper's claim holds here." in kept
    swapped = [
        content
        | {"method": {"finetune": "moe_adapters", "moe_adapters": "finetune"}.get(content["method"], "zero_shot")}
        for content in RESULTS
    ]
    assert "does not hold here" in dict(findings(swapped, "I"))["Are old tasks kept?"]


def test_what_a_better_rival_stores_is_set_against_the_method() -> None:
    told = dict(findings(RESULTS, "I"))["What must be kept?"]
    assert "the method keeps 1.0 MB" in told
    assert "continual fine-tuning 4.0 MB" in told
    assert told.endswith("At least twice the storage: continual fine-tuning.")
