"""Paired differences between runs: each pair has the same order of tasks and the same seed.

An interval is Student's t over the pairs. It speaks of further seeds on these orders, not of other orders. In a family
of comparisons Holm's correction (1979) keeps the chance of one false difference at 5 %.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite, nan

import numpy as np
from scipy import stats

from lib.report.tables import Content, by_run, value

LEVEL = 0.05
DRAWS_NOTHING = ("zero_shot", "rail_dual")  # one seed stands for all


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences in points, the half width of its 95 % interval, and p of a two-sided t-test."""

    mean: float
    half: float
    p: float
    pairs: int
    spread: float  # standard deviation of the differences

    @property
    def low(self) -> float:
        """The interval's lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """The interval's upper end."""
        return self.mean + self.half

    def __str__(self) -> str:
        """As in a table: +1.2 [0.3, 2.1]; without an interval for one pair."""
        if not self.pairs:
            return ""
        ends = f" [{self.low:.1f}, {self.high:.1f}]" if isfinite(self.half) else ""
        return f"{self.mean:+.1f}{ends}"

    def seeds_needed(self) -> int | None:
        """About how many pairs would show a difference of this size, if it is real; None if nothing can be said."""
        if self.pairs < 2 or not self.mean:
            return None
        count = 2
        while count < 1000 and stats.t.ppf(1 - LEVEL / 2, count - 1) * self.spread / count**0.5 >= abs(self.mean):
            count += 1
        return count


def values(contents: Iterable[Content], metric: str, decision: str) -> dict[tuple[str, int], float]:
    """A metric of several results by order and seed. A method that decides nothing has one `sample` a label space."""
    plain = "union_sample" if decision.startswith("union_") else "sample"
    return {
        (content["order"], content["seed"]): value(
            content, metric, decision if decision in content["accuracy"] else plain
        )
        for content in contents
    }


def difference(
    ours: list[Content], theirs: list[Content], metric: str, decision: str = "sample", other: str = ""
) -> Difference:
    """Ours minus theirs in points, over the orders and seeds that both have. other: their decision, if it differs."""
    first, second = values(ours, metric, decision), values(theirs, metric, other or decision)
    if theirs and theirs[0]["method"] in DRAWS_NOTHING:
        still = {order: score for (order, _), score in second.items()}
        second = {(order, seed): still[order] for order, seed in first if order in still}
    gaps = np.array([first[key] - second[key] for key in first if key in second], dtype=float)
    return of_gaps(gaps[np.isfinite(gaps)])


def of_gaps(gaps: np.ndarray) -> Difference:
    """The difference of paired gaps (N,) in points."""
    count = len(gaps)
    if count < 2:
        return Difference(float(gaps[0]) if count else nan, nan, nan, count, nan)
    mean, spread = float(gaps.mean()), float(gaps.std(ddof=1))
    if spread < 1e-9:  # the same number on every seed
        return Difference(mean, 0.0, float(abs(mean) < 1e-9), count, 0.0)
    half = float(stats.t.ppf(1 - LEVEL / 2, count - 1) * spread / count**0.5)
    p = 2 * stats.t.sf(abs(mean) / spread * count**0.5, count - 1)
    return Difference(mean, half, float(p), count, spread)


def holm(p: list[float]) -> list[float]:
    """Holm's adjusted p values of a family; nan stays nan."""
    known = [index for index, each in enumerate(p) if isfinite(each)]
    adjusted, largest = list(p), 0.0
    for rank, index in enumerate(sorted(known, key=lambda index: p[index])):
        largest = max(largest, min(1.0, (len(known) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted


def against(
    results: list[Content], reference: str, runs: list[str], metrics: list[str], decision: str, other: str = ""
) -> dict[str, dict[str, tuple[Difference, float]]]:
    """Of each run and metric the reference minus the run, and Holm's p over all of them. other: the runs' decision."""
    groups = by_run(results)
    cells = [(run, metric) for run in runs if {run, reference} <= set(groups) for metric in metrics]
    found = [difference(groups[reference], groups[run], metric, decision, other) for run, metric in cells]
    table: dict[str, dict[str, tuple[Difference, float]]] = {}
    for (run, metric), gap, p in zip(cells, found, holm([each.p for each in found]), strict=True):
        table.setdefault(run, {})[metric] = gap, p
    return table


def pairs_in_words(count: int | None) -> str:
    """How many pairs would decide, in words."""
    return "more seeds" if count is None else "more than 1,000 seeds" if count >= 1000 else f"about {count} seeds"
