"""The paper's claims, one by one, judged by paired differences: a verdict, a number, and what they depend on.

A claim that one number is larger holds if the 95 % interval of the paired difference lies above 0, does not hold if it
lies below, and is otherwise not told apart. A claim that something stays holds if the interval lies above -1 point, the
MARGIN. Each is judged under a task's own classes (MTIL) and under the classes of all tasks (X-TAIL).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.report import paired
from lib.report.looks import name
from lib.report.paired import LEVEL, Difference, difference
from lib.report.tables import Content, by_run

METHOD = "moe_adapters"
BEYOND = "beyond"  # this study's own method
BOUNDS = ("joint", "finetune_single")  # told the task, or taught all tasks at once
# what the method must be worth more than
CONTROLS = ("zero_shot", "linear_probe", "analytic_head", "adapter_per_task", "vote")
MARGIN = 1.0  # points
HOLDS, FAILS, OPEN, UNTESTED = "holds", "does not hold", "not told apart", "cannot be tested here"
LABELS = {"own": "", "union": "union_"}  # of a decision's name


@dataclass(frozen=True)
class Judged:
    """A verdict, the difference it stands on (None: there is none), what was compared, and how the table shows it."""

    verdict: str
    gap: Difference | None
    compared: str
    text: str = ""

    @property
    def shown(self) -> str:
        """The number as the table has it."""
        return self.text or str(self.gap or "")


@dataclass(frozen=True)
class Evidence:
    """The results of a study, by run, under one set of labels: "" or "union_"."""

    results: list[Content]
    labels: str

    def runs(self) -> dict[str, list[Content]]:
        """Results by run."""
        return by_run(self.results)

    def gap(self, ours: str, theirs: str, metric: str, decision: str = "sample", other: str = "") -> Difference | None:
        """The paired difference of two runs; None if one has no results."""
        groups = self.runs()
        if ours not in groups or theirs not in groups:
            return None
        decision, other = self.labels + decision, self.labels + (other or decision)
        found = difference(groups[ours], groups[theirs], metric, decision, other)
        return found if found.pairs else None


def above(gap: Difference | None, least: float = 0.0) -> str:
    """The verdict on a claim that a difference is above `least` points."""
    if gap is None or not np.isfinite(gap.half):
        return UNTESTED
    return HOLDS if gap.low > least else FAILS if gap.high < least else OPEN


def rivals(evidence: Evidence) -> list[str]:
    """The other methods of the comparison in the paper's setting, without bounds, controls and variants."""
    others = (METHOD, BEYOND, *BOUNDS, *CONTROLS)
    return [run for run in evidence.runs() if "+" not in run and run not in others]


def best_of_all(metric: str) -> Callable[[Evidence], Judged]:
    """Is the method above every rival? Holm's correction is over the rivals."""

    def judge(evidence: Evidence) -> Judged:
        table = paired.against(evidence.results, METHOD, rivals(evidence), [metric], f"{evidence.labels}sample")
        cells = {run: cell[metric] for run, cell in table.items() if cell[metric][0].pairs > 1}
        if not cells:
            return Judged(UNTESTED, None, "")
        strongest = min(cells, key=lambda run: cells[run][0].mean)
        gap = cells[strongest][0]
        lost = [run for run, (each, p) in cells.items() if each.mean < 0 and p < LEVEL]
        won = all(each.mean > 0 and p < LEVEL for each, p in cells.values())
        words = f"{name(METHOD)} and {name(strongest)}, the strongest of {len(cells)}"
        return Judged(FAILS if lost else HOLDS if won else OPEN, gap, words)

    return judge


def larger(
    ours: str, theirs: str, metric: str, decision: str = "sample", least: float = 0.0, other: str = ""
) -> Callable[[Evidence], Judged]:
    """Is one run above another, by more than `least` points? For forgetting, less is better: the sign is turned."""

    def judge(evidence: Evidence) -> Judged:
        first, second = (theirs, ours) if metric == "forgetting" else (ours, theirs)
        gap = evidence.gap(first, second, metric, decision, other)
        versus = f"{decision} and {other}" if other else f"{name(ours)} and {name(theirs)}"
        return Judged(above(gap, least), gap, f"{versus}, {metric.title()}")

    return judge


def to_a_point(low: str, high: str, metric: str) -> Callable[[Evidence], Judged]:
    """Does more help up to the paper's setting, and no more beyond it?"""

    def judge(evidence: Evidence) -> Judged:
        gain, beyond = evidence.gap(METHOD, low, metric), evidence.gap(high, METHOD, metric)
        verdict = above(gain)
        if verdict == HOLDS and above(beyond) == HOLDS:
            verdict = FAILS  # it still grows
        return Judged(verdict, gain, f"{name(METHOD)} and {name(low)}, {metric.title()}; {name(high)}: {beyond}")

    return judge


def fewer_parameters(theirs: str, least: float) -> Callable[[Evidence], Judged]:
    """Does the method train fewer parameters than another, by at least `least` percent?"""

    def judge(evidence: Evidence) -> Judged:
        groups = evidence.runs()
        if METHOD not in groups or theirs not in groups:
            return Judged(UNTESTED, None, "")
        first, second = (groups[run][0] for run in (METHOD, theirs))
        ours = first["trainable_parameters"] + first.get("selector_parameters", 0)
        fewer = 100 * (1 - ours / second["trainable_parameters"])
        words = f"{ours:,} and {second['trainable_parameters']:,}, {name(theirs)}"
        shown = f"{abs(fewer):.0f} % {'fewer' if fewer > 0 else 'more'}"
        return Judged(HOLDS if fewer >= least else FAILS, None, words, shown)

    return judge


@dataclass(frozen=True)
class Claim:
    """What the paper says, where, and how it is judged."""

    text: str
    where: str
    judge: Callable[[Evidence], Judged]


CLAIMS = (
    *(
        Claim(f"Better than every rival: {metric.title()}", "Sec. 4.2, MTIL", best_of_all(metric))
        for metric in ("transfer", "average", "last")
    ),
    Claim(
        "Zero-shot ability stays",
        "Sec. 1 and 4.2",
        larger(METHOD, "zero_shot", "transfer", least=-MARGIN),
    ),
    Claim(
        "Activate-freeze prevents forgetting",
        "Sec. 3.3",
        larger(METHOD, f"{METHOD}+no_freeze", "forgetting", "oracle"),
    ),
    Claim(
        "More experts help, to a point",
        "Sec. 4.4",
        to_a_point(f"{METHOD}+experts_2", f"{METHOD}+experts_44", "average"),
    ),
    Claim("Two experts a picture are better than one", "Sec. 4.4", larger(METHOD, f"{METHOD}+top_1", "average")),
    Claim("Two experts a picture are better than four", "Sec. 4.4", larger(METHOD, f"{METHOD}+top_4", "average")),
    Claim("A mixture is worth more than one adapter", "Sec. 4.4", larger(METHOD, "adapter", "average")),
    Claim(
        "DDAS finds the right router, picture by picture",
        "Sec. 3.4",
        larger(METHOD, METHOD, "average", "sample", -MARGIN, "oracle"),
    ),
    Claim(
        "DDAS finds the right router, batch by batch",
        "released code",
        larger(METHOD, METHOD, "average", "batch", -MARGIN, "oracle"),
    ),
    Claim("60 % fewer trained parameters than fine-tuning", "abstract", fewer_parameters("finetune", 60)),
)


def by_order(claim: Claim, results: list[Content], labels: str) -> dict[str, Judged]:
    """The claim judged on each order by itself."""
    orders = dict.fromkeys(content["order"] for content in results)
    judged = {o: claim.judge(Evidence([c for c in results if c["order"] == o], labels)) for o in orders}
    return {order: each for order, each in judged.items() if each.gap is not None}


def on_all_tasks(results: list[Content]) -> list[Content]:
    """The results on the orders of all tasks, without those on shorter orders."""
    count = max((len(content["tasks"]) for content in results if not content["variant"]), default=0)
    return [content for content in results if len(content["tasks"]) == count]


def table(results: list[Content], claims: Sequence[Claim] = CLAIMS) -> pd.DataFrame:
    """One line a claim: both label spaces, their numbers, and whether orders or labels disagree.

    A claim is judged on the orders of all tasks; if these have no results for it, on the order of the ablations.
    """
    whole, lines = on_all_tasks(results), []
    for claim in claims:
        used = whole if claim.judge(Evidence(whole, "")).verdict != UNTESTED else results
        judged = {labels: claim.judge(Evidence(used, prefix)) for labels, prefix in LABELS.items()}
        line = {"claim": claim.text, "where": claim.where}
        for labels, each in judged.items():
            line |= {f"{labels} labels": each.verdict, f"points ({labels})": each.shown}
        line["pairs"] = str(judged["own"].gap.pairs if judged["own"].gap else "")
        lines.append(line | {"depends on": depends(claim, used, judged), "compared": judged["own"].compared})
    return pd.DataFrame(lines)


def depends(claim: Claim, results: list[Content], judged: dict[str, Judged]) -> str:
    """What changes the verdict: the labels, or the order with each order's points."""
    parts = ["labels"] if len({each.verdict for each in judged.values()}) > 1 else []
    for labels, prefix in LABELS.items():
        single = by_order(claim, results, prefix)
        if len({each.verdict for each in single.values()}) > 1:
            points = ", ".join(f"{order} {each.gap.mean:+.1f}" for order, each in single.items() if each.gap)
            parts.append(f"order, {labels} labels: {points}")
    return "; ".join(parts)
