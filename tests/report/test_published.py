"""Published numbers beside measured ones: by hand, on made results and made facts; and the committed facts."""

from io import StringIO
from typing import Any

import pandas as pd

from lib.metrics import incremental
from lib.report import published
from lib.report.looks import LOOK
from lib.study.studies import REPORTS
from tests.support.made_results import result

HEAD = "benchmark,order,shots,metric,method,dataset,percent,source"
TASKS = ["aircraft", "caltech101", "cifar100"]
LINES = """
MTIL,I,full,Transfer,MoE-Adapters,Caltech101,81.5,here
MTIL,I,full,Transfer,MoE-Adapters,CIFAR100,62.0,here
MTIL,I,full,Transfer,MoE-Adapters,mean,68.9,here
MTIL,I,full,Last,MoE-Adapters,Aircraft,49.8,here
MTIL,I,full,Last,MoE-Adapters,mean,85.0,here
MTIL,I,full,Last,MoE-Adapters,mean,84.0,"there, again"
MTIL,I,full,Last,ZSCL,mean,83.6,here
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
    assert cells(table, run="moe_adapters", metric="Transfer", dataset="mean") == [
        ["sample", 2, "71.5 ± 12.7", "68.9", "+2.6", "here"],
        ["batch", 2, "72.5 ± 12.7", "68.9", "+3.6", "here"],
    ]
    # (46 + 88 + 85) / 3 = 73, and 75; two sources of one number are two lines
    assert cells(table, run="moe_adapters", metric="Last", dataset="mean", decision="sample") == [
        ["sample", 2, "74.0 ± 12.7", "85.0", "-11.0", "here"],
        ["sample", 2, "74.0 ± 12.7", "84.0", "-10.0", "there, again"],
    ]


def test_data_sets_are_set_beside_where_somebody_published_them() -> None:
    table = published.beside(MEASURED[:2], "mtil", "I", FACTS).query("dataset != 'mean'")
    assert list(dict.fromkeys(zip(table["metric"], table["dataset"], strict=True))) == [
        ("Transfer", "Caltech101"),
        ("Transfer", "CIFAR100"),
        ("Last", "Aircraft"),
    ]
    assert cells(table, dataset="Caltech101")[0] == ["sample", 1, "80.0", "81.5", "-1.5", "here"]
    assert cells(table, dataset="CIFAR100")[1] == ["batch", 1, "62.0", "62.0", "+0.0", "here"]
    assert cells(table, dataset="Aircraft")[0] == ["sample", 1, "46.0", "49.8", "-3.8", "here"]


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
    assert set(table["dataset"]) == {"all"}
    assert cells(table, metric="Average")[0][2:5] == ["81.1", "81.12", "+0.0"]
    assert cells(table, metric="Last")[0][2:5] == ["76.9", "76.87", "+0.0"]


def test_the_committed_facts_are_whole_and_every_published_run_is_one_of_ours() -> None:
    facts = published.read(REPORTS / "published.csv")
    assert list(facts.columns) == HEAD.split(",")
    assert not facts.drop(columns="percent").duplicated().any()
    assert facts.drop(columns="order").ne("").all(axis=None)
    assert facts["percent"].astype(float).between(0, 100).all()
    assert set(facts["metric"]) == set(published.METRICS)
    assert set(facts["method"]) == set(published.RUNS)
    assert set(published.RUNS.values()) <= set(LOOK)
    places = set(facts[["benchmark", "order", "shots"]].itertuples(index=False, name=None))
    assert set(published.PLACES.values()) == places
    table = published.beside([], "mtil", "I", facts)
    assert cells(table, run="moe_adapters", metric="Last", dataset="mean")[0][3] == "85.0"
