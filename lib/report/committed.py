"""Your run and ours: the results in the working tree beside the committed ones (git HEAD)."""

import io
import math
import os
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd

from lib.metrics import METRICS
from lib.report.tables import Content, by_run, interval, label, parse, value

LEAST = 1.0  # points: the half width of an interval where no committed run has seeds that differ
COLUMNS = ["run", "order", "seed", "verdict", "largest difference"]
# each verdict, those that ask for attention first: what it means and what to do
ADVICE = {
    "outside": "Look for changed params, code or data (git status, git diff HEAD -- params.yaml lib). If you "
    "changed nothing, please report it together with the run's file in reports/cost, which names machine and versions.",
    "new": "Nothing committed has this run. Commit its files in reports if it is to become a reference.",
    "within the interval": "Machines round differently, so this is expected. There is nothing to do.",
    "same bytes": "The run repeats the committed one exactly. There is nothing to do.",
}
Widths = dict[tuple[str, str], float]  # half widths in points by metric and decision


def committed(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name, as HEAD has them; empty without git, or if HEAD does not have the folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}  # a hook's name another clone
    command = ["git", "-C", str(folder), "archive", "HEAD", "."]
    try:
        archive = subprocess.run(command, capture_output=True, check=True, env=environment).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        opened = ((Path(file.name).name, files.extractfile(file)) for file in files)
        return {name: content.read() for name, content in opened if content}


def compare(folder: Path) -> pd.DataFrame:
    """A line for each result of a folder of the working tree, with its verdict; empty if HEAD has no results there."""
    ours = {name: raw for name, raw in committed(folder).items() if name.endswith(".json")}
    published = [parse(raw, f"HEAD:{name}") for name, raw in ours.items()]
    least, lines = _typical(published), []
    for path in sorted(folder.glob("*.json")) if ours else []:
        raw = path.read_bytes()
        content = parse(raw, path)
        verdict = ("new", "") if path.name not in ours else ("same bytes", "")
        if path.name in ours and raw != ours[path.name]:
            verdict = _judge(content, by_run(published, content["order"])[label(content)], least)
        lines.append((label(content), content["order"], content["seed"], *verdict))
    attention = list(ADVICE)
    return pd.DataFrame(sorted(lines, key=lambda line: attention.index(line[3])), columns=COLUMNS)


def _judge(content: Content, seeds: list[Content], least: Widths) -> tuple[str, str]:
    """The verdict on a run that differs from the committed one, and the metric that is farthest from its seeds."""
    if content["tasks"] != seeds[0]["tasks"]:
        return "outside", "its tasks are not those of the committed run"
    differences = []
    for metric, decision in ((metric, decision) for metric in METRICS for decision in content["accuracy"]):
        here, (mean, half) = value(content, metric, decision), _further(seeds, metric, decision)
        half = np.fmax(half, least.get((metric, decision), LEAST))
        if not math.isnan(mean - here):
            text = f"{metric} ({decision}) {here:.1f}, committed {mean:.1f} ± {half:.1f}"
            differences.append((abs(here - mean) / half, text))
    farthest, text = max(differences, default=(math.inf, "its decisions are not those of the committed run"))
    return ("within the interval" if farthest <= 1 else "outside"), text


def _further(seeds: list[Content], metric: str, decision: str) -> tuple[float, float]:
    """Mean over seeds, and half width of the interval where 95 % of further seeds are expected; nan for one seed."""
    mean, half = interval([value(content, metric, decision) for content in seeds])
    return mean, half * math.sqrt(len(seeds) + 1)


def _typical(published: list[Content]) -> Widths:
    """The median half width over all runs, in each order, whose seeds differ."""
    widths: dict[tuple[str, str], list[float]] = {}
    for order in {content["order"] for content in published}:
        for seeds in by_run(published, order).values():
            for key in ((metric, decision) for metric in METRICS for decision in seeds[0]["accuracy"]):
                if (half := _further(seeds, *key)[1]) > 0:
                    widths.setdefault(key, []).append(half)
    return {key: float(np.median(halves)) for key, halves in widths.items()}


def in_one_line(verdicts: pd.DataFrame) -> str:
    """How many runs have which verdict."""
    if verdicts.empty:
        return "nothing to compare with: there is no git history here, or HEAD has no results of this study."
    counts = verdicts["verdict"].value_counts()
    return f"{len(verdicts)} runs, {', '.join(f'{counts[name]} {name}' for name in ADVICE if name in counts)}."
