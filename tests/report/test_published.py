"""Published numbers beside measured ones: by hand, on made results and made facts; and the committed facts."""

from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib.metrics import incremental
from lib.report import published
from lib.report.looks import LOOK
from lib.report.published import PublishedError
from lib.study.paths import REPORTS, ROOT
from tests.support.made_results import MATRIX, result

GIVEN = ROOT.parent / "shared" / "published_results.csv"
HEAD = "benchmark,order,shots,metric,method,dataset,percent,source"
TASKS = ["Aircraft", "Caltech101", "CIFAR100"]
LINES = """
MTIL,I,full,Transfer,MoE-Adapters,Caltech101,81.5,here
MTIL,I,full,Transfer,MoE-Adapters,CIFAR100,62.0,here
MTIL,I,full,Transfer,MoE-Adapters,mean,68.9,here
MTIL,I,full,Last,MoE-Adapters,Aircraft,49.8,here
MTIL,I,full,Last,MoE-Adapters,mean,85.0,here
MTIL,I,full,Last,MoE-Adapters,mean,84.0,"there, again"
MTIL,I,full,Last,ZSCL,mean,83.6,here
MTIL,II,full,Last,ZSCL,mean,83.4,here
MTIL,I,5,Last,ZSCL,mean,67.4,here
"""


def content(run: str, seed: int = 0, more: float = 0, order: str = "I", **changes: Any) -> dict[str, Any]:
    """A result of the full study's first data sets."""
    return result(run, seed, order, more, **{"study": "mtil", "tasks": TASKS, "classes": [100, 102, 100]} | changes)


FACTS = pd.read_csv(StringIO(HEAD + LINES), dtype=str, keep_default_na=False)
MEASURED = [content("mas"), *(content("moe_adapters", seed, more=2.0 * seed) for seed in (0, 1))]


def cells(table: pd.DataFrame, **where: str) -> list[list[Any]]:
    """The cells from the decision on, of the lines that are meant."""
    for column, value in where.items():
        table = table.loc[table[column] == value, :]
    return table.loc[:, "decision":].to_numpy().tolist()


def test_measured_stands_beside_published_with_the_difference() -> None:
    table = published.beside(MEASURED, "mtil", "I", FACTS)
    # seed 0: (80 + (60 + 62) / 2) / 2 = 70.5, seed 1: 72.5; half width 12.7062 * sqrt(2) / sqrt(2)
    assert cells(table, run="moe_adapters", metric="Transfer") == [
        ["sample", 2, "71.5 ± 12.7", "68.9", "+2.6", "here"],
        ["batch", 2, "72.5 ± 12.7", "68.9", "+3.6", "here"],
    ]


def test_two_sources_of_one_number_are_two_lines() -> None:
    table = published.beside(MEASURED, "mtil", "I", FACTS)
    # (46 + 88 + 85) / 3 = 73, and 75
    assert cells(table, run="moe_adapters", metric="Last", decision="sample") == [
        ["sample", 2, "74.0 ± 12.7", "85.0", "-11.0", "here"],
        ["sample", 2, "74.0 ± 12.7", "84.0", "-10.0", "there, again"],
    ]


def test_what_is_not_measured_or_not_published_is_empty() -> None:
    table = published.beside(MEASURED, "mtil", "I", FACTS)
    assert cells(table, run="zscl") == [["", "", "", "83.6", "", "here"]]
    assert cells(table, run="mas", metric="Last") == [["-", 1, "73.0", "", "", ""]]
    # 609 / 9 = 67.67, and 2 more
    assert cells(table, run="moe_adapters", metric="Average")[0] == ["sample", 2, "68.7 ± 12.7", "", "", ""]


def test_lines_are_in_the_order_of_the_figures_and_no_other_place_is_mixed_in() -> None:
    mixed = [content("moe_adapters+mine"), content("mas", order="II"), *MEASURED]
    table = published.beside(mixed, "mtil", "I", FACTS)
    assert list(dict.fromkeys(table["run"])) == ["zscl", "mas", "moe_adapters", "moe_adapters+mine"]
    assert list(dict.fromkeys(table["metric"])) == [
        "Last",
        "Transfer",
        "Average",
    ]  # of ZSCL only Last is published
    assert cells(published.beside(mixed, "mtil", "II", FACTS), run="mas", metric="Last")[0][1] == 1
    assert cells(published.beside([], "mtil_5shot", "I", FACTS)) == [["", "", "", "67.4", "", "here"]]
    assert published.beside([], "xtail", "I", FACTS).empty


def test_data_sets_are_set_beside_where_somebody_published_them() -> None:
    table = published.by_task(MEASURED[:2], "mtil", "I", FACTS)
    assert list(dict.fromkeys(zip(table["metric"], table["dataset"], strict=True))) == [
        ("Transfer", "Caltech101"),
        ("Transfer", "CIFAR100"),
        ("Last", "Aircraft"),
    ]
    assert cells(table, dataset="Caltech101")[0] == ["sample", 1, "80.0", "81.5", "-1.5", "here"]
    assert cells(table, dataset="CIFAR100")[1] == ["batch", 1, "62.0", "62.0", "+0.0", "here"]
    assert cells(table, dataset="Aircraft")[0] == ["sample", 1, "46.0", "49.8", "-3.8", "here"]
    assert cells(published.by_task([], "mtil", "I", FACTS), metric="Last") == [["", "", "", "49.8", "", "here"]]


def test_by_task_the_means_are_the_metrics() -> None:
    percents = published.measured(content("mas"), "sample")
    for metric, first in (("Transfer", 1), ("Average", 0), ("Last", 0)):
        mean = np.mean([percents[metric, task] for task in TASKS[first:]])
        assert mean == pytest.approx(percents[metric, "mean"])
    assert ("Transfer", "Aircraft") not in percents  # nothing comes before it
    assert published.measured(content("mas"), "batch") == {}


def test_class_incremental_numbers_are_the_released_codes_from_its_own_accuracies() -> None:
    # its metrics file of TinyImageNet, 100 classes and 5 steps of 20: avg 81.12, last 76.87
    rows = [
        [85.98],
        [83.72, 85.1],
        [81.72, 82.2, 81.6],
        [80.06, 80.4, 78.0, 81.2],
        [78.28, 79.0, 76.3, 77.7, 79.2],
        [77.42, 76.6, 75.8, 73.6, 76.9, 78.7],
    ]
    classes = [100, 20, 20, 20, 20, 20]
    about = {"study": "cil_tinyimagenet_5", "tasks": list("abcdef"), "classes": classes}
    metrics = {m: {"sample": f(rows)} for m, f in incremental([50 * count for count in classes]).items()}
    measured = content("moe_adapters", **about, accuracy={"sample": rows}) | metrics
    facts = published.read(REPORTS / "published.csv")
    table = published.beside([measured], "cil_tinyimagenet_5", "I", facts)
    assert cells(table, metric="Average")[0][2:5] == ["81.1", "81.12", "+0.0"]
    assert cells(table, metric="Last")[0][2:5] == ["76.9", "76.87", "+0.0"]
    numbers = published.measured(measured, "sample")
    assert numbers == pytest.approx({("Average", "all"): 81.12, ("Last", "all"): 76.87}, abs=0.01)
    assert published.by_task([measured], "cil_tinyimagenet_5", "I", facts).empty


HALF = content("mas", accuracy={"sample": MATRIX[:2]})


@pytest.mark.parametrize(
    ("results", "study", "order", "words"),
    [
        ([], "mini", "I", "mini.*mtil_5shot"),
        ([], "mtil", "III", "order III"),
        ([content("mas")], "mtil_5shot", "I", "mtil"),
        ([HALF], "mtil", "I", "mas: 2 of 3 tasks"),
    ],
)
def test_results_that_do_not_belong_are_refused(results: list, study: str, order: str, words: str) -> None:
    with pytest.raises(PublishedError, match=words):
        published.beside(results, study, order, FACTS)


def test_tasks_without_a_published_name_are_refused() -> None:
    other = content("moe_adapters", tasks=["planes", "things", "small"])
    with pytest.raises(PublishedError, match="Aircraft, CIFAR100, Caltech101"):
        published.by_task([other], "mtil", "I", FACTS)


def test_our_names_of_the_data_sets_are_those_that_were_published() -> None:
    ours = content("moe_adapters", tasks=["aircraft", "caltech101", "cifar100"])
    theirs = content("moe_adapters", tasks=TASKS)
    tables = [published.by_task([held], "mtil", "I", FACTS) for held in (ours, theirs)]
    assert tables[0].equals(tables[1])


def test_the_committed_facts_are_whole_and_none_is_there_twice() -> None:
    facts = published.read(REPORTS / "published.csv")
    assert list(facts.columns) == HEAD.split(",")
    assert not facts.drop(columns="percent").duplicated().any()
    assert facts.drop(columns="order").ne("").all(axis=None)
    assert set(facts["metric"]) <= set(published.METRICS)
    assert facts["percent"].str.fullmatch(r"[0-9]+(\.[0-9]+)?").all()
    assert facts["percent"].astype(float).between(0, 100).all()


def test_the_committed_facts_are_read_and_every_published_run_is_one_of_ours() -> None:
    facts = published.read(REPORTS / "published.csv")
    assert set(facts["method"]) == set(published.RUNS)
    assert set(published.RUNS.values()) <= set(LOOK)
    places = set(facts[["benchmark", "order", "shots"]].itertuples(index=False, name=None))
    assert set(published.PLACES.values()) == places | {("X-TAIL", "I", "16")}  # of which nobody has published one
    table = published.beside([], "mtil", "I", facts)
    assert cells(table, run="moe_adapters", metric="Last")[0][3] == "85.0"
    assert cells(table, run="zero_shot", metric="Last") == []  # only for order II
    assert cells(published.beside([], "cil_cifar100_50", "I", facts), metric="Last")[0][3] == "75.24"


@pytest.mark.skipif(not GIVEN.is_file(), reason="no given facts beside the project (../shared/published_results.csv)")
def test_every_committed_fact_is_a_given_one_and_none_of_our_runs_is_left_out() -> None:
    given = GIVEN.read_text(encoding="utf-8").splitlines()
    ours = (REPORTS / "published.csv").read_text(encoding="utf-8").splitlines()
    runs = pd.read_csv(GIVEN)["method"].isin(list(published.RUNS)).tolist()
    assert ours == [given[0], *(line for line, mine in zip(given[1:], runs, strict=True) if mine)]
