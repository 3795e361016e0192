"""Reading result files: every figure and table of a study is made from them alone."""

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy import stats

from lib.metrics import METRICS
from lib.settings import build
from lib.study.paths import REPORTS


class ResultError(ValueError):
    """A result file that cannot be read; the message names it."""


ByDecision = dict[str, float | None]


@dataclass(frozen=True)
class Read:
    """What is read of a result: matrices and metrics in percent by decision. What a method adds is not looked at."""

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


def check(content: Any) -> None:
    """Raises ValueError if a result lacks something, is of another version's form, or has a matrix of another shape."""
    if not isinstance(content, dict):
        raise ValueError("it is no mapping")
    known = [entry.name for entry in fields(Read)]
    found = build(Read, {key: content[key] for key in known if key in content}, "it")
    count = len(found.tasks)
    for decision, matrix in found.accuracy.items():
        wide = [len(row) for row in matrix]
        tested_on_all, tested_on_learned = [max([count, *wide])] * count, list(range(1, count + 1))
        if wide not in (tested_on_all, tested_on_learned):
            raise ValueError(f"accuracy.{decision} has rows of {wide} numbers, for {count} tasks")
        if any(decision not in getattr(found, metric) for metric in METRICS):
            raise ValueError(f"it has no metrics of the decision {decision}")


def read(study: str, folder: Path = REPORTS) -> list[dict[str, Any]]:
    """All results of a study, ordered by file name. Raises ResultError for a broken file or none at all."""
    found = []
    for path in sorted((folder / "results" / study).glob("*.json")):
        try:
            content = json.loads(path.read_bytes())
            check(content)
        except (OSError, ValueError, RecursionError) as error:
            raise ResultError(f"{path} is no whole result ({error}); delete it and run the study again") from error
        found.append(content)
    if not found:
        raise ResultError(f"study {study} has no results in {folder / 'results' / study}; `make study` makes them")
    return found


def label(content: dict[str, Any]) -> str:
    """The run's name: method, or method+variant."""
    return content["method"] + (f"+{content['variant']}" if content["variant"] else "")


def by_run(results: list[dict[str, Any]], order: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Results grouped by run, as they come; of one order of the tasks if it is named."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for content in results:
        if order in (None, content["order"]):
            groups.setdefault(label(content), []).append(content)
    return groups


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval (Student's t over seeds); the half width of one value is nan."""
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < 2:
        return float(sample.mean()), float("nan")
    half = stats.t.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample))
    return float(sample.mean()), float(half)


def table(results: list[dict[str, Any]]) -> pd.DataFrame:
    """One line for each run, seed, order and decision, with the four metrics in percent."""
    lines = []
    for content in results:
        for decision in content["accuracy"]:
            line = {
                "run": label(content),
                "order": content["order"],
                "seed": content["seed"],
                "decision": decision,
            }
            lines.append(line | {metric: content[metric][decision] for metric in METRICS})
    return pd.DataFrame(lines)


def summary(results: list[dict[str, Any]]) -> pd.DataFrame:
    """One line for each run and decision: every metric as 'mean ± half width' over seeds, and the number of seeds."""
    lines = []
    for key, group in table(results).groupby(["run", "decision"], sort=False):
        run, decision = cast(tuple[str, str], key)
        line: dict[str, Any] = {"run": run, "decision": decision, "seeds": len(group)}
        for metric in METRICS:
            mean, half = interval(group[metric].tolist())
            spread = "" if math.isnan(half) else f" ± {half:.1f}"
            line[metric] = "" if math.isnan(mean) else f"{mean:.1f}{spread}"
        lines.append(line)
    return pd.DataFrame(lines)
