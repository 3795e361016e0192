"""Reading result files: what is in the tables, and what is said of files that are no results."""

import math
from pathlib import Path

import pytest

from lib.report import tables
from lib.report.tables import ResultError
from tests.support.made_results import result, write

LABELS = {"own": "80.0", "union": "75.0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    runs = ("zero_shot", "moe_adapters+no_freeze")
    write(tmp_path, *(result(run, seed, last=75 + 2 * seed) for run in runs for seed in range(3)))
    return tmp_path


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"accuracy": 1, "tasks": []}'])
def test_a_broken_result_is_named(folder: Path, text: str) -> None:
    file = folder / "zero_shot--I--s1.json"
    file.write_text(text)
    with pytest.raises(ResultError, match=str(file)):
        tables.read(folder)
    with pytest.raises(ResultError, match="make study"):
        tables.read(folder / "none")


def test_runs_are_in_the_order_of_looks_and_others_follow_by_name() -> None:
    runs = ["moe_adapters", "zeta", "finetune", "alpha", "joint"]
    assert list(tables.by_run([result(run) for run in runs])) == ["joint", "finetune", "moe_adapters", "alpha", "zeta"]


def test_the_summary_has_mean_and_interval_over_seeds_by_decision(folder: Path) -> None:
    summary = tables.summary(tables.read(folder)).set_index(["run", "decision"])  # of one label space
    # 75, 77, 79: mean 77, deviation 2, half width 4.30265 * 2 / sqrt(3) = 4.97
    assert summary.at[("zero_shot", "-"), "last"] == "77.0 ± 5.0"  # it decides nothing
    assert summary.at[("moe_adapters+no_freeze", "oracle"), "last"] == "79.0 ± 5.0"
    assert summary["seeds"].tolist() == [3] * 4
    line = tables.summary([result("joint", last=75)]).iloc[0]
    assert (line["transfer"], line["last"]) == ("", "75.0")  # joint training has no Transfer, one seed no interval


def test_the_summary_says_the_label_space_and_what_a_decision_is_told() -> None:
    lines = tables.summary([result("moe_adapters", last=70, union=5), result("finetune_single", last=80, union=5)])
    found = lines[["run", "labels", "decision", "told", "last"]].to_numpy().tolist()
    assert found[:2] == [["finetune_single", labels, "-", "the task", last] for labels, last in LABELS.items()]
    assert found[2] == ["moe_adapters", "own", "sample", "nothing", "70.0"]
    assert found[-1] == ["moe_adapters", "union", "oracle", "the task, if learned", "67.0"]
    heads = [tables.told(result(method), "sample") for method in ("linear_probe", "rail_primal")]
    assert set(heads) == {"which names it has learned"}  # without a learned candidate they cannot answer: CLIP does


def test_the_comparison_is_per_picture_in_both_label_spaces() -> None:
    both = tables.comparison([result("moe_adapters", seed, last=70 + seed, union=5) for seed in (0, 1)])
    assert list(both)[3:] == [f"{labels}: {m}" for labels in LABELS for m in ("Transfer", "Average", "Last")]
    assert both.iloc[0][["seeds", "own: Last", "union: Last"]].tolist() == [2, "70.5 ± 6.4", "65.5 ± 6.4"]
    assert list(tables.comparison([result("mas")]))[3:] == ["own: Transfer", "own: Average", "own: Last"]


def test_the_interval_is_students() -> None:
    # mean 4, deviation 2, t of 2 degrees of freedom at 97.5 % is 4.30265: 4.30265 * 2 / sqrt(3)
    assert tables.interval([2.0, 4.0, 6.0]) == pytest.approx((4.0, 4.968275), abs=1e-5)
    assert math.isnan(tables.interval([7.0])[1])


def test_a_table_replaces_what_is_between_its_marks() -> None:
    table = tables.markdown(tables.summary([result("finetune")]).filter(["run", "seeds"]))
    assert table.splitlines() == ["| run | seeds |", "| --- | --- |", "| finetune | 1 |"]
    assert tables.with_table("a <b> old </b> c", "new", ("<b>", "</b>")) == "a <b>\nnew\n</b> c"
