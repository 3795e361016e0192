"""Result files: one small JSON a run, the same bytes on every rerun, and one for its cost, which differs.

`reports/results/<study>/<method>[+<variant>]--<order>--s<seed>.json` and `reports/cost/<the same name>`. Every figure
and table is made from these files alone.
"""

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pandas as pd

from lib.metrics import METRICS
from lib.paths import REPORTS, ROOT

PACKAGES = ("torch", "open_clip_torch", "numpy", "pillow", "scikit-learn", "scikit-image")


def name(run: str, order: str, seed: int) -> str:
    """The name of a run's files, without folder and ending."""
    return f"{run}--{order}--s{seed}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON under a temporary name and renames it: the file is whole or it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)


def result(about: Any, classes: list[int], size: dict[str, int], report: dict[str, Any]) -> dict[str, Any]:
    """The content of a result file from a checkpoint's `about`: matrices in percent and what follows from them.

    In the middle of a sequence the metrics are those of the tasks learned so far.
    """
    method, _, variant = about.run.partition("+")
    rows = [asdict(row) for row in about.rows]
    accuracy = {decision: [row["accuracy"][decision] for row in rows] for decision in rows[0]["accuracy"]}
    routed = {decision: [row["routed"][decision] for row in rows] for decision in rows[0]["routed"]}
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
    for metric, formula in METRICS.items():
        content[metric] = {decision: _metric(formula, matrix) for decision, matrix in accuracy.items()}
    return content | size | {"routed": routed, "losses": about.losses} | report


def _metric(formula: Callable[[list[list[float]]], float], matrix: list[list[float]]) -> float | None:
    value = formula([row[: len(matrix)] for row in matrix])
    return None if math.isnan(value) else round(value, 4)


def write_cost(path: Path, task: str, seconds: dict[str, float], peak_mb: float) -> None:
    """Adds a task's seconds and peak memory to a run's cost file, beside machine, versions and revision."""
    content = json.loads(path.read_text()) if path.exists() else {}
    content["seconds"] = content.get("seconds", {}) | {task: {k: round(v, 2) for k, v in seconds.items()}}
    content["peak_memory_mb"] = content.get("peak_memory_mb", {}) | {task: round(peak_mb)}
    content["machine"] = {
        "system": platform.platform(terse=True),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
    }
    content["versions"] = {"python": platform.python_version()} | {p: version(p) for p in PACKAGES}
    content["revision"] = _revision()
    write_json(path, content)


def peak_memory_mb() -> float:
    """The most memory this process has held, in megabytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _revision() -> str:
    try:
        command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class ResultError(ValueError):
    """A result file that cannot be read; the message names it."""


def read(study: str, folder: Path = REPORTS) -> list[dict[str, Any]]:
    """All results of a study, ordered by file name. Raises ResultError for a broken file or none at all."""
    found = []
    for path in sorted((folder / "results" / study).glob("*.json")):
        try:
            content = json.loads(path.read_text())
            _ = content["accuracy"], content["tasks"], content["last"]
        except (ValueError, KeyError, TypeError) as error:
            raise ResultError(
                f"{path} is no whole result ({error!r}); delete it and run the study again"
            ) from error
        found.append(content)
    if not found:
        raise ResultError(
            f"study {study} has no results in {folder / 'results' / study}; `make study` makes them"
        )
    return found


def label(content: dict[str, Any]) -> str:
    """The run's name: method, or method+variant."""
    return content["method"] + (f"+{content['variant']}" if content["variant"] else "")


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


def provenance(**parameters: object) -> str:
    """What a notebook ran with: versions, device, revision, parameters."""
    import torch

    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads"
    )
    given = ", ".join(f"{k} = {v}" for k, v in parameters.items())
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, open_clip {version('open_clip_torch')}"
    return f"{versions}, {device}, revision {_revision()[:12]}\n{given}"


def summary(results: list[dict[str, Any]]) -> pd.DataFrame:
    """One line for each run and decision: every metric as 'mean ± half width' over seeds, and the number of seeds."""
    from lib.metrics import interval

    lines = []
    for key, group in table(results).groupby(["run", "decision"], sort=False):
        run, decision = cast(tuple[str, str], key)
        line: dict[str, Any] = {"run": run, "decision": decision, "seeds": len(group)}
        for metric in METRICS:
            mean, half = interval(group[metric].tolist())
            line[metric] = f"{mean:.1f}" if math.isnan(half) else f"{mean:.1f} ± {half:.1f}"
        lines.append(line)
    return pd.DataFrame(lines)
