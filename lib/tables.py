"""Reading result files: every figure and table of a study is made from them alone."""

import json
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy import stats

from lib.metrics import METRICS
from lib.paths import REPORTS


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
