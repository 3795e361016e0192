"""What we learned: the study's findings in words, each number and each verdict reckoned from the result files.

A finding whose runs are not there yet is left out; none is written by hand, so that a rerun cannot leave it behind.
"""

import math
from collections.abc import Callable
from typing import Any

from lib.report.figures import NAMES
from lib.report.tables import by_run, interval

METHOD, BOUNDS = "moe_adapters", ("joint", "finetune_single")
Finding = tuple[str, str]  # a title and a paragraph


class Numbers:
    """Means and intervals of one order's results, by run, metric and decision."""

    def __init__(self, results: list[dict[str, Any]], order: str) -> None:
        self.runs = by_run(results, order)

    def mean(self, run: str, metric: str, decision: str = "sample") -> float:
        """The mean over seeds, in percent or points. Raises KeyError for a run or a metric that is not there."""
        mean = interval([content[metric][decision] for content in self.runs[run]])[0]
        if math.isnan(mean):
            raise KeyError(metric)
        return mean

    def text(self, run: str, metric: str, decision: str = "sample") -> str:
        """The mean with its 95 % interval where there are several seeds."""
        mean, half = interval([content[metric][decision] for content in self.runs[run]])
        return f"{mean:.1f}" if math.isnan(half) else f"{mean:.1f} ± {half:.1f}"

    def differ(self, one: str, other: str, metric: str) -> bool:
        """True if the intervals of two runs, per picture, lie apart (a run of one seed has none)."""
        (a, wide_a), (b, wide_b) = (
            interval([content[metric]["sample"] for content in self.runs[run]]) for run in (one, other)
        )
        return abs(a - b) > (0 if math.isnan(wide_a) else wide_a) + (0 if math.isnan(wide_b) else wide_b)

    def stored(self, run: str) -> float:
        """Megabytes that a run's last checkpoint keeps beyond the frozen CLIP, the mean over seeds."""
        return interval([content["stored_bytes"] / 1e6 for content in self.runs[run]])[0]

    def rivals(self, metric: str) -> list[str]:
        """All runs that are no variant of the method, no bound and not the untouched CLIP, the best first."""
        others = [r for r in self.runs if r in NAMES and r.partition("+")[0] not in (METHOD, *BOUNDS, "zero_shot")]
        return sorted(others, key=lambda run: -self.mean(run, metric))


def memory(n: Numbers) -> str:
    """Old tasks."""
    holds = n.mean(METHOD, "last") > n.mean("finetune", "last") and n.differ(METHOD, "finetune", "last")
    return (
        f"Continual fine-tuning forgets {n.text('finetune', 'forgetting')} points and ends at Last "
        f"{n.text('finetune', 'last')} %; the method forgets {n.text(METHOD, 'forgetting')} and ends at "
        f"{n.text(METHOD, 'last')} %. {_holds(holds)}"
    )


def zero_shot(n: Numbers) -> str:
    """Tasks to come."""
    lost = n.mean("zero_shot", "transfer") - n.mean(METHOD, "transfer")
    return (
        f"The untouched CLIP has Transfer {n.text('zero_shot', 'transfer')} %. Continual fine-tuning leaves "
        f"{n.text('finetune', 'transfer')} %, the method {n.text(METHOD, 'transfer')} % per picture: it loses "
        f"{lost:.1f} points, to pictures that a learned task claims by mistake. With the oracle none are lost. "
        f"{_holds(lost < 2)}"
    )


def freezing(n: Numbers) -> str:
    """Activate-freeze."""
    free, kept = (n.mean(run, "forgetting", "oracle") for run in ("moe_adapters+no_freeze", METHOD))
    return (
        f"With the true task given, so that no wrong decision of a selector blurs the picture, the mixture forgets "
        f"{n.text('moe_adapters+no_freeze', 'forgetting', 'oracle')} points without freezing and "
        f"{n.text(METHOD, 'forgetting', 'oracle')} with it; one adapter without mixture "
        f"{n.text('adapter', 'forgetting')}. {_holds(kept < free / 2)} Routers alone do not protect a task: its "
        "experts must stay as they were."
    )


def batches(n: Numbers) -> str:
    """Per picture and per batch."""
    gain = n.mean(METHOD, "last", "batch") - n.mean(METHOD, "last")
    return (
        f"Deciding once for many pictures of one task, as the released code does, gives Last "
        f"{n.text(METHOD, 'last', 'batch')} %; deciding for each picture, as the paper says, "
        f"{n.text(METHOD, 'last')} %; the oracle {n.text(METHOD, 'last', 'oracle')} %. So {gain:.1f} points of Last "
        "hang on test pictures coming sorted by task; the ablations show batches that mix tasks."
    )


def bound(n: Numbers) -> str:
    """The distance to the upper bound."""
    whole, oracle = n.mean("finetune_single", "last"), n.mean(METHOD, "last", "oracle")
    longer = ""
    if "moe_adapters+steps_300" in n.runs:
        more = n.mean("moe_adapters+steps_300", "last", "oracle")
        longer = f" Twice the steps bring the oracle to {more:.1f} % (one seed)."
    return (
        f"One fine-tuned model a task reaches {n.text('finetune_single', 'last')} %. The method with the oracle is "
        f"{whole - oracle:.1f} points below: what frozen weights, small experts and a shared pool cost in the same "
        f"number of steps. Another {oracle - n.mean(METHOD, 'last'):.1f} points go to the selector.{longer}"
    )


def others(n: Numbers) -> str:
    """The other methods."""
    by_last, by_transfer = n.rivals("last"), n.rivals("transfer")
    better = [NAMES[run] for run in by_last if n.mean(run, "last") > n.mean(METHOD, "last")]
    ahead = f"Ahead of the method by Last: {'; '.join(better)}." if better else "None ends above the method by Last."
    return (
        f"Of the {len(by_last)} other methods {NAMES[by_last[0]]} has the best Last "
        f"({n.text(by_last[0], 'last')} %), {NAMES[by_transfer[0]]} the best Transfer "
        f"({n.text(by_transfer[0], 'transfer')} %); the method has {n.text(METHOD, 'last')} % and "
        f"{n.text(METHOD, 'transfer')} %. {ahead}"
    )


def storage(n: Numbers) -> str:
    """What must be kept."""
    mine = n.stored(METHOD)
    others = [run for run in n.rivals("last")[:3] if n.stored(run)]
    told = "; ".join(f"{NAMES[run]} {n.stored(run):.1f} MB" for run in others)
    dearer = [NAMES[run] for run in others if n.stored(run) > 2 * mine]
    return (
        f"After all tasks the method keeps {mine:.1f} MB beside CLIP; of the others with the best Last: {told}. "
        + (f"At least twice the storage: {'; '.join(dearer)}." if dearer else "")
    ).rstrip()


def selectors(n: Numbers) -> str:
    """Simple statistics in the place of autoencoders."""
    run = "moe_adapters+gaussian"
    gain = n.mean(run, "last") - n.mean(METHOD, "last")
    return (
        f"With a mean for each class and one covariance a task instead of autoencoders, nothing trained, the same "
        f"experts end at Last {n.text(run, 'last')} % and Transfer {n.text(run, 'transfer')} % per picture "
        f"({gain:+.1f} points of Last)."
    )


def frozen_features(n: Numbers) -> str:
    """Regression on frozen features."""
    return (
        f"RAIL trains nothing by gradient: ridge regression on CLIP's frozen features, solved task by task, ends at "
        f"Last {n.text('rail_primal', 'last')} % (primal) and {n.text('rail_dual', 'last')} % (dual), and forgets "
        f"{n.text('rail_primal', 'forgetting')} points. In this protocol the test task's class names are given, so "
        "it need not know which task a picture belongs to; a selector is what the method needs and RAIL does not."
    )


def _holds(holds: bool) -> str:
    return "The paper's claim holds here." if holds else "The paper's claim does not hold here."


FINDINGS: dict[str, Callable[[Numbers], str]] = {
    "Are old tasks kept?": memory,
    "Does zero-shot ability stay?": zero_shot,
    "Is it the freezing?": freezing,
    "What hangs on deciding per batch?": batches,
    "How far is it to the bound?": bound,
    "How do the other methods fare?": others,
    "What must be kept?": storage,
    "Would a simpler selector do?": selectors,
    "And without training at all?": frozen_features,
}


def findings(results: list[dict[str, Any]], order: str) -> list[Finding]:
    """The findings that the results of an order allow, as titles and paragraphs."""
    numbers, found = Numbers(results, order), []
    for title, write in FINDINGS.items():
        try:
            found.append((title, write(numbers)))
        except (KeyError, IndexError):
            continue
    return found
