"""What others published of the full studies, set beside what a study of ours measured.

`reports/published.csv` holds facts: percentages as somebody printed them, and where. None is corrected here, and a
number that is not known has no line; two numbers from two sources are two lines. The released code decides once for 128
pictures of one data set, so its numbers compare with our `batch`; `sample`, each picture for itself, is shown as well.
"""

import csv
import math
import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.report.figures import LOOK
from lib.report.tables import by_run, interval, label
from lib.study.paths import REPORTS

COLUMNS = ["benchmark", "order", "shots", "metric", "method", "dataset", "percent", "source"]
SHOWN = ["run", "metric", "dataset", "decision", "seeds", "measured", "published", "difference", "source"]
METRICS = ["Transfer", "Average", "Last"]
DECISIONS = ["sample", "batch"]  # the file has no numbers with the true task given
WHOLE = ["mean", "all"]  # instead of a data set: the mean over them, all classes together
# a method as it is published: our run
RUNS = {
    "full fine-tune": "finetune_single", "zero-shot": "zero_shot", "continual-FT": "finetune",
    "LwF": "lwf", "LwF-VR": "lwf_vr", "iCaRL": "icarl", "WiSE-FT": "wise_ft", "ZSCL": "zscl",
    "ZSCL*": "zscl+no_averaging", "Dual-RAIL": "rail_dual", "MoE-Adapters": "moe_adapters",
}  # fmt: skip
# a study of ours and its order: benchmark, order and shots as they are published
PLACES = {
    ("mtil", "I"): ("MTIL", "I", "full"),
    ("mtil", "II"): ("MTIL", "II", "full"),
    ("mtil_5shot", "I"): ("MTIL", "I", "5"),
    ("mtil_16shot", "I"): ("MTIL", "I", "16"),
    ("xtail", "I"): ("X-TAIL", "I", "16"),
}
PLACES |= {(f"cil_cifar100_{n}", "I"): (f"CIL CIFAR100 {n} steps", "", "full") for n in (10, 20, 50)}
TINY = "CIL TinyImageNet 100+{}x{}"  # 100 classes, then so many more in each of so many steps
PLACES |= {(f"cil_tinyimagenet_{n}", "I"): (TINY.format(100 // n, n), "", "full") for n in (5, 10, 20)}
# a task of ours: the data set as it is published
DATASETS = {
    "aircraft": "Aircraft", "caltech101": "Caltech101", "cifar100": "CIFAR100", "dtd": "DTD", "eurosat": "EuroSAT",
    "flowers": "Flowers", "food": "Food", "mnist": "MNIST", "pets": "OxfordPet", "cars": "StanfordCars",
    "sun397": "SUN397",
}  # fmt: skip
Rows = list[dict[str, Any]]  # result files, facts, or lines of a table


class PublishedError(ValueError):
    """Facts that cannot be read, or results that they cannot be set beside; the message says which and why."""


def read(path: Path = REPORTS / "published.csv") -> Rows:
    """The facts of a file, by column. Raises PublishedError, naming the line, for what is no fact or is there twice."""
    facts: dict[tuple[str, ...], dict[str, Any]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file, strict=True)
        try:
            if lines.fieldnames != COLUMNS:
                raise PublishedError(f"columns are {lines.fieldnames}; they must be {COLUMNS}")
            for fact in lines:
                _check(fact)
                key = tuple(fact[column] for column in COLUMNS if column != "percent")
                if facts.setdefault(key, fact) is not fact:
                    raise PublishedError(f"{', '.join(key)}: an earlier line has it; keep one")
        except (csv.Error, PublishedError) as error:
            raise PublishedError(f"{path}, line {lines.reader.line_num}: {error}") from error
    return list(facts.values())


def _check(fact: dict[Any, Any]) -> None:
    if set(fact) != set(COLUMNS) or not all(fact[column] for column in COLUMNS if column != "order"):
        raise PublishedError(f"all cells but the order are needed, and none more: {fact}")
    place = (fact["benchmark"], fact["order"], fact["shots"])
    for value, allowed in ((fact["metric"], METRICS), (fact["method"], RUNS), (place, PLACES.values())):
        if value not in allowed:
            raise PublishedError(f"{value!r} is not known; allowed: {', '.join(map(str, allowed))}")
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", fact["percent"]) or float(fact["percent"]) > 100:
        raise PublishedError(f"percent is {fact['percent']!r}; it must be a number from 0 to 100")


def beside(results: Rows, study: str, order: str = "I", facts: Rows | None = None) -> pd.DataFrame:
    """A line for each run, metric and decision of a study in one order; what is not measured or published is empty.

    measured: mean ± half width of the 95 % interval over seeds, percent; published: percent, as printed; difference:
    measured less published, points. facts: those of the committed file, if None. Raises PublishedError for results of
    another study, a study or order not in PLACES, a run that has not learned all tasks.
    """
    lines = [line for line in _lines(results, study, order, facts) if line["dataset"] in WHOLE]
    return pd.DataFrame(lines, columns=SHOWN).drop(columns="dataset")


def by_task(results: Rows, study: str, order: str = "I", facts: Rows | None = None) -> pd.DataFrame:
    """Like `beside`, for each data set of which a number is published. Tasks must be named as the data sets are."""
    lines = [line for line in _lines(results, study, order, facts) if line["dataset"] not in WHOLE]
    lines, runs = [line for line in lines if line["published"]], by_run(results, order)
    lost = sorted({line["dataset"] for line in lines if line["run"] in runs and not line["seeds"]})
    if lost:
        raise PublishedError(f"study {study} has no task {', '.join(lost)}; name tasks as they are published")
    return pd.DataFrame(lines, columns=SHOWN)


def measured(content: dict[str, Any], decision: str) -> dict[tuple[str, str], float]:
    """A result's percentages by metric and data set, or one of WHOLE; none if the method has no such decision.

    Of task j: Transfer = mean of A[i, j] over i < j, Average = mean of A[i, j], Last = A[T-1, j]. Class-incremental
    results have no tasks of their own: their Average and Last are of all pictures (lib/metrics.py).
    """
    if decision not in content["accuracy"]:
        return {}
    rows, classes = content["accuracy"][decision], content["classes"]
    if len(rows) != len(classes):
        raise PublishedError(f"{label(content)}: {len(rows)} of {len(classes)} tasks; run it to its end")
    if content["study"].startswith("cil_"):
        return {(metric, "all"): content[metric.lower()][decision] for metric in ("Average", "Last")}
    found: dict[tuple[str, str], float] = {(m, "mean"): content[m.lower()][decision] for m in METRICS}
    tasks = [str(DATASETS.get(task, task)) for task in content["tasks"]]
    for j, (task, column) in enumerate(zip(tasks, np.array(rows).T, strict=True)):
        found |= {("Transfer", task): column[:j].mean()} if j else {}
        found |= {("Average", task): column.mean(), ("Last", task): column[-1]}
    return found


def _lines(results: Rows, study: str, order: str, facts: Rows | None) -> Rows:
    """All that is measured or published: runs in the order of the figures, then metrics, then data sets."""
    studies = {content["study"] for content in results} | {study}
    if len(studies) > 1 or (study, order) not in PLACES:
        raise PublishedError(f"{sorted(studies)} in order {order} is not one of the studies {[*PLACES]}")
    told, values = {}, {}
    for fact in read() if facts is None else facts:
        if (fact["benchmark"], fact["order"], fact["shots"]) == PLACES[study, order]:
            told.setdefault((RUNS[fact["method"]], fact["metric"], fact["dataset"]), []).append(fact)
    for content, decision in product((c for c in results if c["order"] == order), DECISIONS):
        for key, value in measured(content, decision).items():
            values.setdefault((label(content), *key), {}).setdefault(decision, []).append(value)
    place = {name: number for number, name in enumerate([*LOOK, *METRICS])}
    keys = sorted(told | values, key=lambda key: (place.get(key[0], len(place)), key[0], place[key[1]]))
    return [
        dict(zip(SHOWN, (*key, decision, len(numbers) or "", *_cells(numbers, fact)), strict=True))
        for key in keys
        for fact, (decision, numbers) in product(told.get(key, [{}]), values.get(key, {"": []}).items())
    ]


def _cells(numbers: list[float], fact: dict[str, str]) -> tuple[str, str, str, str]:
    """Measured, published, difference, source."""
    mean, half = interval(numbers) if numbers else (math.nan, math.nan)
    spread = "" if math.isnan(half) else f" ± {half:.1f}"
    printed = fact.get("percent", "")
    gap = f"{mean - float(printed):+.1f}" if numbers and printed else ""
    return f"{mean:.1f}{spread}" if numbers else "", printed, gap, fact.get("source", "")
