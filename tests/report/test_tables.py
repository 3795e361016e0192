"""Reading result files: what is in the tables, and what is said of files that are no results."""

import math
from pathlib import Path
from typing import Any

import pytest

from lib.metrics import METRICS
from lib.report import tables
from lib.report.tables import ResultError
from lib.study.results import name, write_json


def content(run: str = "zero_shot", seed: int = 0) -> dict[str, Any]:
    """A result whose metrics are 40, 70, 75 and 20 by the sample, and one more by the oracle."""
    method, _, variant = run.partition("+")
    held: dict[str, Any] = {"study": "tiny", "method": method, "variant": variant, "order": "I", "seed": seed}
    matrix = [[90.0, 40.0], [70.0, 80.0]]
    held |= {"tasks": ["red", "green"], "accuracy": {"sample": matrix, "oracle": matrix}}
    known = dict(zip(METRICS, (40.0, 70.0, 75.0, 20.0), strict=True))
    return held | {metric: {"sample": value, "oracle": value + 1} for metric, value in known.items()}


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    for seed in range(3):
        for run in ("zero_shot", "moe_adapters+no_freeze"):
            file = tmp_path / "results" / "tiny" / f"{name(run, 'I', seed)}.json"
            made = content(run, seed)
            made["last"] = {decision: value + 2 * seed for decision, value in made["last"].items()}
            write_json(file, made)
    return tmp_path


def test_results_are_read_in_the_order_of_their_names(reports: Path) -> None:
    found = tables.read("tiny", reports)
    labels = [(tables.label(each), each["seed"]) for each in found]
    assert labels == [(run, seed) for run in ("moe_adapters+no_freeze", "zero_shot") for seed in range(3)]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"accuracy": 1, "tasks": []}'])
def test_a_broken_result_is_named(reports: Path, text: str) -> None:
    file = reports / "results" / "tiny" / "zero_shot--I--s1.json"
    file.write_text(text)
    with pytest.raises(ResultError, match=f"{file} is no whole result .*; delete it and run the study again"):
        tables.read("tiny", reports)


def test_no_results_say_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="study tiny has no results in .*/results/tiny; `make study` makes them"):
        tables.read("tiny", tmp_path)


def test_table_has_a_line_for_every_run_seed_and_decision(reports: Path) -> None:
    table = tables.table(tables.read("tiny", reports))
    assert len(table) == 2 * 3 * 2
    lines = table.set_index(["run", "seed", "decision"])
    found = [lines.at[("zero_shot", 1, "oracle"), name] for name in ("transfer", "average", "last", "forgetting")]
    assert found == [41.0, 71.0, 78.0, 21.0]


def test_summary_has_mean_and_interval_over_seeds(reports: Path) -> None:
    summary = tables.summary(tables.read("tiny", reports))
    line = summary[(summary["run"] == "zero_shot") & (summary["decision"] == "sample")].iloc[0]
    # 75, 77, 79: mean 77, deviation 2, half width 4.30265 * 2 / sqrt(3) = 4.97
    assert (line["last"], line["seeds"]) == ("77.0 ± 5.0", 3)
    assert line["transfer"] == "40.0 ± 0.0"


def test_summary_of_one_seed_has_no_interval() -> None:
    line = tables.summary([content()]).iloc[0]
    assert (line["last"], line["seeds"]) == ("75.0", 1)


def test_interval_is_students() -> None:
    # mean 4, deviation 2, t of 2 degrees of freedom at 97.5 % is 4.30265: 4.30265 * 2 / sqrt(3)
    assert tables.interval([2.0, 4.0, 6.0]) == pytest.approx((4.0, 4.968275), abs=1e-5)


def test_one_seed_has_no_interval() -> None:
    mean, half = tables.interval([7.0])
    assert mean == 7
    assert math.isnan(half)
