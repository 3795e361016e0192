"""Result files: reading them, and the tables.

Every figure and table of a study is made from these files alone.
"""

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lib.metrics import METRICS
from lib.report.looks import in_order, name
from lib.settings import build

Content = dict[str, Any]  # what a result file holds
ByDecision = dict[str, float | None]


class ResultError(ValueError):
    """A result file that cannot be read; the message names it."""


@dataclass(frozen=True)
class Result:
    """What every result must hold: matrices and metrics in percent by decision. A method may add more."""

    study: str
    method: str
    variant: str
    order: str
    seed: int
    tasks: list[str]
    accuracy: dict[str, list[list[float]]]
    transfer: ByDecision
    average: ByDecision
    last: ByDecision
    forgetting: ByDecision


def parse(raw: bytes, source: object) -> Content:
    """The content of a result file. Raises ResultError, naming the source, if it is broken."""
    try:
        content = json.loads(raw)
        result = build(Result, {f.name: content[f.name] for f in fields(Result) if f.name in content}, "it")
        count = len(result.tasks)
        rows = len(content.get("tested_after", result.tasks))
        for decision, matrix in result.accuracy.items():
            widths = [len(row) for row in matrix]
            if widths not in ([max([count, *widths])] * rows, list(range(1, count + 1))):  # all or the learned tasks
                raise ValueError(f"accuracy.{decision} has rows of {widths} numbers, for {count} tasks")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ResultError(f"{source} is no whole result ({error}); delete it and run the study again") from error
    return content


def read(folder: Path) -> list[Content]:
    """All results of a folder, ordered by file name. Raises ResultError for a broken file or none at all."""
    results = [parse(path.read_bytes(), path) for path in sorted(folder.glob("*.json"))]
    if not results:
        raise ResultError(f"there are no results in {folder}; `make study` makes them")
    return results


def label(content: Content) -> str:
    """The run's name: method, or method+variant."""
    return content["method"] + (f"+{content['variant']}" if content["variant"] else "")


def by_run(results: list[Content], order: str | None = None) -> dict[str, list[Content]]:
    """Results grouped by run, in the order of the figures; of one order of the tasks if it is named."""
    groups: dict[str, list[Content]] = {}
    for content in results:
        if order in (None, content["order"]):
            groups.setdefault(label(content), []).append(content)
    return {run: groups[run] for run in in_order(list(groups))}


def decides(content: Content) -> bool:
    """True for a run that decides which task a picture belongs to: only such a run has an oracle to compare with."""
    return any(decision.endswith("oracle") for decision in content["accuracy"])


def value(content: Content, metric: str, decision: str = "sample") -> float:
    """A metric of a result in percent or points; nan if it has none."""
    if content["method"] == "joint" and metric == "transfer":  # it learns all tasks at once: none is still to come
        return math.nan
    number = content[metric].get(decision)
    return math.nan if number is None else number


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval (Student's t over seeds); the half width of one value is nan."""
    mean, count = float(np.mean(values)), len(values)
    half = stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count) if count > 1 else math.nan
    return mean, float(half)


def in_words(values: list[float]) -> str:
    """'mean ± half width' to one decimal; the mean alone for one value, nothing for nan."""
    mean, half = interval(values)
    return f"{mean:.1f} ± {half:.1f}".removesuffix(" ± nan").replace("nan", "")


# what a decision is told about a test picture; "nothing" also holds for methods that decide nothing
TOLD = {
    "sample": "nothing",
    "batch": "128 pictures are of one task",
    "stream": "the pictures before it, of one task",
    "oracle": "the task, if learned",
    "lookup": "the list of classes",
}

# These use whether a candidate was learned. Among a task's own names that gives the task away.
READ_NAMES = (
    "icarl", "linear_probe", "analytic_head", "rail_primal", "rail_dual", "moe_confidence", "beyond"
)  # fmt: skip


def labels_of(decision: str) -> tuple[str, str]:
    """A decision's label space (own or union) and its kind: union_sample is union, sample."""
    return ("union", decision.removeprefix("union_")) if decision.startswith("union_") else ("own", decision)


def told(content: Content, decision: str) -> str:
    """What a run is told about a test picture when it decides so."""
    method, kind = content["method"], labels_of(decision)[1]
    if kind == "sample" and method in READ_NAMES:
        return "which names it has learned"
    return {"finetune_single": "the task", "joint": "all tasks at once, in training"}.get(method, TOLD[kind])


def summary(results: list[Content]) -> pd.DataFrame:
    """One line for each run, label space and decision ("-" if it decides nothing), with each metric as `in_words`."""
    lines = []
    for run, contents in by_run(results).items():
        for decision in contents[0]["accuracy"]:
            labels, kind = labels_of(decision)
            line = {"run": run, "labels": labels, "decision": kind if decides(contents[0]) else "-"}
            line |= {"told": told(contents[0], decision), "seeds": len(contents)}
            lines.append(line | {m: in_words([value(c, m, decision) for c in contents]) for m in METRICS})
    return pd.DataFrame(lines)


def comparison(results: list[Content]) -> pd.DataFrame:
    """One line a run, decided per picture: Transfer, Average and Last in both label spaces, where there are both."""
    lines = []
    for run, contents in by_run(results).items():
        line: dict[str, Any] = {"method": name(run), "told": told(contents[0], "sample"), "seeds": len(contents)}
        for decision in ("sample", "union_sample"):
            if decision in contents[0]["accuracy"]:
                shown = {m: in_words([value(c, m, decision) for c in contents]) for m in METRICS if m != "forgetting"}
                line |= {f"{labels_of(decision)[0]}: {metric.title()}": text for metric, text in shown.items()}
        lines.append(line)
    return pd.DataFrame(lines)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_table(page: str, table: str, marks: tuple[str, str]) -> str:
    """A page's text with a table between its two marks."""
    before, rest = page.split(marks[0])
    return f"{before}{marks[0]}\n{table}\n{marks[1]}{rest.split(marks[1])[1]}"


def costs(folder: Path) -> pd.DataFrame:
    """One line a run: seconds of training and evaluation, peak memory, from a folder of cost files."""
    lines = []
    for path in sorted(folder.glob("*.json")):
        cost = json.loads(path.read_text())
        seconds = pd.DataFrame(cost["seconds"].values()).sum().round().astype(int)
        lines.append((path.stem, seconds["training"], seconds["evaluation"], max(cost["peak_memory_mb"].values())))
    return pd.DataFrame(lines, columns=["run", "training (s)", "evaluation (s)", "peak memory (MB)"])
