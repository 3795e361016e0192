"""Writes result files: one small JSON for each run, the same bytes on every rerun, and one for its cost, which varies.

`reports/results/<study>/<method>[+<variant>]--<order>--s<seed>.json`, and the same name in `reports/cost/<study>`.
Every figure and table is made from these files alone (lib/report/tables.py reads them).
"""

import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lib.files import whole
from lib.metrics import METRICS, incremental
from lib.study.checkpoint import About
from lib.study.log import origin


def name(run: str, order: str, seed: int) -> str:
    """The name of a run's files, without folder and ending."""
    return f"{run}--{order}--s{seed}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON, whole or not at all. Raises DiskError for a full or read-only disk."""
    with whole(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


def result(
    about: About,
    classes: list[int],
    size: dict[str, int],
    report: dict[str, Any],
    pictures: list[int] | None = None,
) -> dict[str, Any]:
    """The content of a result file, from what a run's last checkpoint says: matrices in percent and their metrics.

    In the middle of a sequence the metrics are those of the tasks learned so far. classes: of each task. size, report:
    the method's. pictures: the numbers of test pictures of the tasks, in class-incremental learning (lib.metrics).
    """
    method, _, variant = about.run.partition("+")
    rows = about.rows
    accuracy = {decision: [row.accuracy[decision] for row in rows] for decision in rows[0].accuracy}
    routed = {decision: [row.routed[decision] for row in rows] for decision in rows[0].routed}
    content: dict[str, Any] = {
        "study": about.study,
        "method": method,
        "variant": variant,
        "order": about.order,
        "seed": about.seed,
        "tasks": about.tasks,
        "classes": classes,
        "accuracy": accuracy,
    }
    formulas = METRICS if pictures is None else incremental(pictures)
    for metric, formula in formulas.items():
        content[metric] = {decision: _metric(formula, matrix) for decision, matrix in accuracy.items()}
    return content | size | {"routed": routed, "losses": about.losses} | report


def _metric(formula: Callable[[list[list[float]]], float], matrix: list[list[float]]) -> float | None:
    value = formula([row[: len(matrix)] for row in matrix])
    return None if math.isnan(value) else round(value, 4)


def write_cost(path: Path, task: str, seconds: dict[str, float], spent: Mapping[str, float | None]) -> None:
    """Adds what a task took to a run's cost file: seconds by part, and whole numbers by name (None: not measured).

    The file also names the machine, the versions and the revision.
    """
    content = json.loads(path.read_text()) if path.exists() else {}
    content["seconds"] = content.get("seconds", {}) | {task: {k: round(v, 2) for k, v in seconds.items()}}
    for name, number in spent.items():
        if number is not None:
            content[name] = content.get(name, {}) | {task: round(number)}
    write_json(path, content | origin())


def peak_memory_mb() -> float:
    """The most memory this process has held, in megabytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
