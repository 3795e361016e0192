"""Your run and ours: the results in the working tree beside the committed ones (git HEAD)."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from lib.metrics import METRICS
from lib.report.tables import Content, label, parse, value

LEAST = 1.0  # points: the half width of an interval where no committed run has seeds that differ
KEYS = ["run", "order", "metric", "decision"]
# each verdict, those that ask for attention first: what it means and what to do
ADVICE = {
    "outside": "Look for changed params, code or data (git status, git diff HEAD -- params.yaml lib). If you "
    "changed nothing, please report it together with the run's file in reports/cost, which names machine and versions.",
    "new": "Nothing committed has this run. Commit its files in reports if it is to become a reference.",
    "within the interval": "Machines round differently, so this is expected. There is nothing to do.",
    "same bytes": "The run repeats the committed one exactly. There is nothing to do.",
}


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
    published = {name: parse(raw, f"HEAD:{name}") for name, raw in ours.items()}
    expected, lines = _expected([*published.values()]), []
    for path in sorted(folder.glob("*.json")) if ours else []:
        raw = path.read_bytes()
        content = parse(raw, path)
        verdict = ("new", "") if path.name not in ours else ("same bytes", "")
        if path.name in ours and raw != ours[path.name]:
            verdict = _judge(content, published[path.name], expected)
        lines.append((label(content), content["order"], content["seed"], *verdict))
    lines.sort(key=lambda line: [*ADVICE].index(line[3]))
    return pd.DataFrame(lines, columns=["run", "order", "seed", "verdict", "largest difference"])


def _values(contents: list[Content]) -> pd.DataFrame:
    """A line for each result, metric and decision."""
    lines = [
        (label(content), content["order"], metric, decision, value(content, metric, decision))
        for content in contents
        for metric in METRICS
        for decision in content["accuracy"]
    ]
    return pd.DataFrame(lines, columns=[*KEYS, "value"])


def _expected(published: list[Content]) -> pd.DataFrame:
    """Mean over seeds, and half width of the 95 % interval of a further seed, at least the runs' median, by KEYS."""
    table = _values(published).groupby(KEYS)["value"].agg(["mean", "std", "count"])
    table = table.assign(half=table["std"] * np.sqrt(1 + 1 / table["count"]) * stats.t.ppf(0.975, table["count"] - 1))
    typical = table["half"].replace(0, np.nan).groupby(["metric", "decision"]).transform("median").fillna(LEAST)
    return table.assign(half=np.fmax(table["half"], typical))


def _judge(content: Content, published: Content, expected: pd.DataFrame) -> tuple[str, str]:
    """The verdict on a run that differs from the committed one, and the metric that is farthest from its seeds."""
    lines = _values([content]).join(expected, on=KEYS).dropna(subset=["value", "mean"]).to_dict("records")
    if content["tasks"] != published["tasks"] or not lines:
        return "outside", "its tasks or decisions are not those of the committed run"
    farthest = max(lines, key=lambda line: abs(line["value"] - line["mean"]) / line["half"])
    inside = abs(farthest["value"] - farthest["mean"]) <= farthest["half"]
    text = "{metric} ({decision}) {value:.1f}, committed {mean:.1f} ± {half:.1f}".format(**farthest)
    return ("within the interval" if inside else "outside"), text


def in_one_line(verdicts: pd.DataFrame) -> str:
    """How many runs have which verdict."""
    if verdicts.empty:
        return "nothing to compare with: there is no git history here, or HEAD has no results of this study."
    counts = verdicts["verdict"].value_counts()
    return f"{len(verdicts)} runs, {', '.join(f'{counts[name]} {name}' for name in ADVICE if name in counts)}."
