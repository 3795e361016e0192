"""Published numbers of the full studies beside what our runs of them measured.

`reports/published.csv` holds facts: percentages as they were printed, and where. None is corrected; a number that
nobody published has no line; two sources of a number are two lines. The released code decides once for 128 pictures
of one data set, so its numbers compare with our `batch`; `sample`, a decision for each picture, is shown as well.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.report.looks import in_order
from lib.report.tables import Content, by_run, decides, in_words, interval, value

SHOWN = ["run", "metric", "dataset", "decision", "seeds", "measured", "published", "difference", "source"]
METRICS = ["Transfer", "Average", "Last"]
DECISIONS = ["sample", "batch"]  # nobody published numbers of an oracle
WHOLE = ["mean", "all"]  # in place of a data set: the mean over data sets, all classes together
KEYS = ["run", "metric", "dataset"]
# a published method: our run
RUNS = {
    "full fine-tune": "finetune_single", "zero-shot": "zero_shot", "continual-FT": "finetune",
    "LwF": "lwf", "LwF-VR": "lwf_vr", "iCaRL": "icarl", "WiSE-FT": "wise_ft", "ZSCL": "zscl",
    "ZSCL*": "zscl+no_averaging", "Dual-RAIL": "rail_dual", "MoE-Adapters": "moe_adapters",
}  # fmt: skip
# our study and order: the published benchmark, order and shots
PLACES = {
    ("mtil", "I"): ("MTIL", "I", "full"),
    ("mtil", "II"): ("MTIL", "II", "full"),
    ("mtil_5shot", "I"): ("MTIL", "I", "5"),
    ("mtil_16shot", "I"): ("MTIL", "I", "16"),
}
PLACES |= {(f"cil_cifar100_{n}", "I"): (f"CIL CIFAR100 {n} steps", "", "full") for n in (10, 20, 50)}
TINY = "CIL TinyImageNet 100+{}x{}"  # 100 classes first, then steps x classes
PLACES |= {(f"cil_tinyimagenet_{n}", "I"): (TINY.format(100 // n, n), "", "full") for n in (5, 10, 20)}
# our task: the published data set
DATASETS = {
    "aircraft": "Aircraft", "caltech101": "Caltech101", "cifar100": "CIFAR100", "dtd": "DTD", "eurosat": "EuroSAT",
    "flowers": "Flowers", "food": "Food", "mnist": "MNIST", "pets": "OxfordPet", "cars": "StanfordCars",
    "sun397": "SUN397",
}  # fmt: skip


def read(path: Path) -> pd.DataFrame:
    """The facts, a line each; every cell is text, as it was printed. A test checks the committed ones."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def beside(results: list[Content], study: str, order: str, facts: pd.DataFrame) -> pd.DataFrame:
    """A line for each run, metric, data set and decision of a study in one order; what is not there is empty.

    A single data set is left out unless its number was published. measured: mean ± half width of the 95 % interval over
    seeds, percent; published: percent, as printed; difference: measured less published, points.
    """
    here = (facts[["benchmark", "order", "shots"]] == list(PLACES[study, order])).all(axis=1)
    theirs = facts.loc[here].replace({"method": RUNS}).rename(columns={"method": "run", "percent": "published"})
    theirs = theirs.filter([*KEYS, "published", "source"])
    ours = pd.DataFrame(_ours(results, order), columns=[*KEYS, "decision", "seeds", "measured", "mean"], dtype=object)
    lines = ours.merge(theirs, on=KEYS, how="outer").fillna("")
    pairs = zip(lines["mean"], lines["published"], strict=True)
    lines["difference"] = [f"{mean - float(printed):+.1f}" if mean != "" and printed else "" for mean, printed in pairs]
    lines = lines.loc[lines["dataset"].isin(WHOLE) | lines["published"].ne("")]
    return lines.sort_values(KEYS, key=_places, kind="stable", ignore_index=True).reindex(columns=SHOWN)


def measured(content: Content, decision: str) -> dict[tuple[str, str], float]:
    """A result's percentages by metric and data set, or one of WHOLE; empty if the method has no such decision.

    Of task j: Transfer = mean of A[i, j] over i < j, Average = mean of A[i, j], Last = A[T-1, j]. Class-incremental
    results have no tasks of their own: their Average and Last are of all pictures (lib/metrics.py).
    """
    if decision not in content["accuracy"]:
        return {}
    if content["study"].startswith("cil_"):
        return {(metric, "all"): value(content, metric.lower(), decision) for metric in METRICS[1:]}
    percents = {(metric, "mean"): value(content, metric.lower(), decision) for metric in METRICS}
    tasks = [str(DATASETS.get(task, task)) for task in content["tasks"]]
    for j, (task, column) in enumerate(zip(tasks, np.array(content["accuracy"][decision]).T, strict=True)):
        means = column[:j].mean() if j else np.nan, column.mean(), column[-1]
        percents |= {(metric, task): mean for metric, mean in zip(METRICS, means, strict=True)}
    return percents


def _ours(results: list[Content], order: str) -> list[tuple]:
    """A line for each run, decision, metric and data set that was measured."""
    lines = []
    for run, contents in by_run(results, order).items():
        for decision in DECISIONS:
            shown = decision if decides(contents[0]) else "-"
            percents = pd.DataFrame([measured(content, decision) for content in contents])
            for metric, dataset in percents.columns:
                values = percents[metric, dataset].dropna().tolist()
                if values:
                    lines.append((run, metric, dataset, shown, len(values), in_words(values), interval(values)[0]))
    return lines


def _places(column: pd.Series) -> pd.Series:
    """What a column is sorted by: runs as in the figures, metrics as in METRICS, data sets by name after the mean."""
    if column.name == "dataset":
        return column.mask(column.isin(WHOLE), "").str.lower()
    order = in_order(column.unique().tolist()) if column.name == "run" else METRICS
    return column.map(order.index)
