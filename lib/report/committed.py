"""Your run and ours: the results in the working tree beside the committed ones (git HEAD)."""

import io
import math
import os
import subprocess
import tarfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.metrics import METRICS
from lib.report.tables import Content, by_run, interval, label, parse, value

NO_INTERVAL = 1.0  # points: the half width where no committed run has several seeds
NOTHING = "There is nothing to compare with: this copy has no git history, or its HEAD has no results of this study."
# a verdict: what it means and what to do
ADVICE = {
    "same bytes": "The run repeats the committed one exactly. There is nothing to do.",
    "within the interval": "Machines round differently, so this is expected. There is nothing to do.",
    "outside": "Look for changed params, code or data (`git status`, `git diff HEAD -- params.yaml lib`). If you "
    "changed nothing, please report it together with the run's file in reports/cost, which names machine and versions.",
    "new": "Nothing committed has this run. Commit its files in reports if it is to become a reference.",
}
HOW = (
    "The interval is where 95 % of further seeds are expected (Student's t, from the committed seeds of the same run "
    "and order), for each metric and decision. It is at least as wide as the median over all committed runs with "
    f"several seeds ({NO_INTERVAL:.0f} point if their seeds do not differ); a run of one seed has this median."
)


class Verdict(NamedTuple):
    """One run of the working tree; largest: the metric that is farthest from the committed ones, if bytes differ."""

    run: str
    order: str
    seed: int
    verdict: str
    largest: str = ""


def committed(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name, as HEAD has them; empty without git, or if HEAD does not have the folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}  # a hook's would name another clone
    command = ["git", "-C", str(folder), "archive", "HEAD", "."]
    try:
        archive = subprocess.run(command, capture_output=True, check=True, env=environment).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        return {Path(file.name).name: files.extractfile(file).read() for file in files if file.isfile()}  # type: ignore[union-attr]


def compare(folder: Path) -> list[Verdict]:
    """A verdict on every result of a folder of the working tree; none if HEAD has no results there."""
    ours = {name: raw for name, raw in committed(folder).items() if name.endswith(".json")}
    if not ours:
        return []
    published = {name: parse(raw, f"HEAD:{name}") for name, raw in ours.items()}
    typical = _typical_widths(list(published.values()))
    verdicts = []
    for path in sorted(folder.glob("*.json")):
        raw = path.read_bytes()
        content = parse(raw, path)
        about = label(content), content["order"], content["seed"]
        if path.name not in ours:
            verdicts.append(Verdict(*about, "new"))
        elif raw == ours[path.name]:
            verdicts.append(Verdict(*about, "same bytes"))
        else:
            seeds = by_run(list(published.values()), content["order"])[label(content)]
            verdicts.append(Verdict(*about, *_judge(content, seeds, typical)))
    return verdicts


def _judge(content: Content, seeds: list[Content], typical: dict[tuple[str, str], float]) -> tuple[str, str]:
    """The verdict on a run that differs from the committed one, and its largest difference in half widths."""
    if content["tasks"] != seeds[0]["tasks"]:
        return "outside", "its tasks are not the committed run's"
    differences = []
    for decision in content["accuracy"]:
        for metric in METRICS:
            here, (mean, half) = value(content, metric, decision), _further(seeds, metric, decision)
            half = np.fmax(half, typical.get((metric, decision), NO_INTERVAL))
            if not math.isnan(mean - here):
                text = f"{metric} ({decision}) {here:.1f}, committed {mean:.1f} ± {half:.1f}"
                differences.append((abs(here - mean) / half, text))
    farthest, text = max(differences, default=(math.inf, "its decisions are not the committed run's"))
    return ("within the interval" if farthest <= 1 else "outside"), text


def _further(seeds: list[Content], metric: str, decision: str) -> tuple[float, float]:
    """Mean over seeds and half width of the 95 % interval of one further seed; nan for one seed."""
    values = [value(content, metric, decision) for content in seeds]
    mean, half = interval(values)
    return mean, half * math.sqrt(len(values) + 1)


def _typical_widths(published: list[Content]) -> dict[tuple[str, str], float]:
    """By metric and decision, the median half width over all runs and orders with several seeds."""
    widths: dict[tuple[str, str], list[float]] = {}
    for order in {content["order"] for content in published}:
        for seeds in by_run(published, order).values():
            for key in ((metric, decision) for metric in METRICS for decision in seeds[0]["accuracy"]):
                widths.setdefault(key, []).append(_further(seeds, *key)[1])
    finite = {key: [half for half in halves if half > 0] for key, halves in widths.items()}
    return {key: float(np.median(halves)) for key, halves in finite.items() if halves}


def in_one_line(verdicts: list[Verdict]) -> str:
    """How many runs have which verdict."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    shares = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ADVICE if counts[verdict])
    return f"{len(verdicts)} runs: {shares}." if verdicts else NOTHING


def as_table(verdicts: list[Verdict]) -> pd.DataFrame:
    """The verdicts as lines, those that ask for attention first."""
    attention = ["outside", "new", "within the interval", "same bytes"]
    return pd.DataFrame(sorted(verdicts, key=lambda verdict: attention.index(verdict.verdict)), columns=Verdict._fields)
