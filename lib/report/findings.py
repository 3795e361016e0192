"""What we learned, in words: each number and each verdict is computed from the result files, none is typed in.

A finding is left out if its runs have no results.
"""

import math
from collections.abc import Callable

from lib.report.looks import LOOK, name
from lib.report.tables import Content, by_run, in_words, interval, value

METHOD, BOUNDS = "moe_adapters", ("joint", "finetune_single")
Finding = tuple[str, str]  # a title and a paragraph


class Numbers:
    """Means and intervals of one order's results, by run, metric and decision."""

    def __init__(self, results: list[Content], order: str) -> None:
        self.runs = by_run(results, order)

    def values(self, run: str, metric: str, decision: str = "sample") -> list[float]:
        """The metric of every seed. Raises KeyError if there is no such run or metric."""
        values = [value(content, metric, decision) for content in self.runs[run]]
        if any(map(math.isnan, values)):
            raise KeyError(metric)
        return values

    def mean(self, run: str, metric: str, decision: str = "sample") -> float:
        """The mean over seeds, in percent or points."""
        return interval(self.values(run, metric, decision))[0]

    def text(self, run: str, metric: str, decision: str = "sample") -> str:
        """The mean with its 95 % interval where there are several seeds."""
        return in_words(self.values(run, metric, decision))

    def differ(self, one: str, other: str, metric: str) -> bool:
        """True if the intervals of two runs, per picture, do not overlap (a run of one seed has none)."""
        (a, half_a), (b, half_b) = (interval(self.values(run, metric)) for run in (one, other))
        return abs(a - b) > sum(half for half in (half_a, half_b) if not math.isnan(half))

    def stored(self, run: str) -> float:
        """Megabytes that a run's last checkpoint keeps beyond the frozen CLIP, the mean over seeds."""
        return interval([content["stored_bytes"] / 1e6 for content in self.runs[run]])[0]

    def rivals(self, metric: str) -> list[str]:
        """All runs in LOOK but the method, its variants, the bounds and the untouched CLIP; the best first."""
        others = [r for r in self.runs if r in LOOK and r.partition("+")[0] not in (METHOD, *BOUNDS, "zero_shot")]
        return sorted(others, key=lambda run: -self.mean(run, metric))


def memory(n: Numbers) -> str:
    """Old tasks."""
    holds = n.mean(METHOD, "last") > n.mean("finetune", "last") and n.differ(METHOD, "finetune", "last")
    return (
        f"Continual fine-tuning forgets {n.text('finetune', 'forgetting')} points and ends at Last "
        f"{n.text('finetune', 'last')} %; the method forgets {n.text(METHOD, 'forgetting')} and ends at "
        f"{n.text(METHOD, 'last')} %. {_verdict(holds)}"
    )


def zero_shot(n: Numbers) -> str:
    """Tasks to come."""
    lost, oracle = (
        n.mean("zero_shot", "transfer") - n.mean(METHOD, "transfer", decision) for decision in ("sample", "oracle")
    )
    return (
        f"The untouched CLIP has Transfer {n.text('zero_shot', 'transfer')} %. Continual fine-tuning leaves "
        f"{n.text('finetune', 'transfer')} %, the method {n.text(METHOD, 'transfer')} % per picture: it loses "
        f"{lost:.1f} points, because learned tasks claim some of these pictures. The oracle loses {abs(oracle):.1f}. "
        f"{_verdict(lost < 2)} This is about one order of the tasks; the ablations show two others."
    )


def freezing(n: Numbers) -> str:
    """Activate-freeze."""
    free, frozen = (n.mean(run, "forgetting", "oracle") for run in ("moe_adapters+no_freeze", METHOD))
    return (
        f"With the true task given, so that the selector makes no mistakes, the mixture forgets "
        f"{n.text('moe_adapters+no_freeze', 'forgetting', 'oracle')} points without freezing and "
        f"{n.text(METHOD, 'forgetting', 'oracle')} with it; one adapter without a mixture forgets "
        f"{n.text('adapter', 'forgetting')}. {_verdict(frozen < free / 2)} A router for each task is not enough: its "
        "experts must not change either."
    )


def batches(n: Numbers) -> str:
    """Per picture and per batch."""
    gain = n.mean(METHOD, "last", "batch") - n.mean(METHOD, "last")
    return (
        f"One decision for many pictures of one task, as in the released code, gives Last "
        f"{n.text(METHOD, 'last', 'batch')} %; a decision for each picture, as in the paper, "
        f"{n.text(METHOD, 'last')} %; the oracle {n.text(METHOD, 'last', 'oracle')} %. So {gain:.1f} points of Last "
        "come from test pictures that are sorted by task; the ablations show batches that mix tasks."
    )


def bound(n: Numbers) -> str:
    """The distance to one fine-tuned model a task."""
    single, oracle = n.mean("finetune_single", "last"), n.mean(METHOD, "last", "oracle")
    return (
        f"One fine-tuned model a task, which is told the task, reaches {n.text('finetune_single', 'last')} %. It is "
        f"no strict upper bound: a model that starts from an earlier task can do better. The method with the oracle is "
        f"{single - oracle:.1f} points below it after the same number of steps. The selector costs another "
        f"{oracle - n.mean(METHOD, 'last'):.1f} points.{_longer(n)}"
    )


def _longer(n: Numbers) -> str:
    """The same seeds after twice the steps."""
    longer = n.runs.get("moe_adapters+steps_300", [])
    seeds = [content["seed"] for content in longer]
    same = [content for content in n.runs[METHOD] if content["seed"] in seeds]
    if not longer or len(same) != len(longer):
        return ""
    before, after = (in_words([value(c, "last", "oracle") for c in contents]) for contents in (same, longer))
    return f" Twice the steps bring the oracle from {before} to {after} % (seed {', '.join(map(str, seeds))})."


def others(n: Numbers) -> str:
    """The other methods."""
    by_last, by_transfer = n.rivals("last"), n.rivals("transfer")
    better = [name(run) for run in by_last if n.mean(run, "last") > n.mean(METHOD, "last")]
    ahead = f"Ahead of the method by Last: {'; '.join(better)}." if better else "None ends above the method by Last."
    return (
        f"Of the {len(by_last)} other runs, {name(by_last[0])} has the best Last "
        f"({n.text(by_last[0], 'last')} %), {name(by_transfer[0])} the best Transfer "
        f"({n.text(by_transfer[0], 'transfer')} %); the method has {n.text(METHOD, 'last')} % and "
        f"{n.text(METHOD, 'transfer')} %. {ahead}"
    )


def storage(n: Numbers) -> str:
    """What must be kept."""
    mine = n.stored(METHOD)
    best = [run for run in n.rivals("last")[:3] if n.stored(run)]
    kept = "; ".join(f"{name(run)} {n.stored(run):.1f} MB ({n.stored(run) / mine:.1f} times as much)" for run in best)
    return f"After all tasks the method keeps {mine:.1f} MB beside CLIP; of the others with the best Last: {kept}."


def selectors(n: Numbers) -> str:
    """Class statistics in place of autoencoders."""
    run = "moe_adapters+gaussian"
    gain = n.mean(run, "last") - n.mean(METHOD, "last")
    return (
        f"With a mean for each class and one covariance a task in place of autoencoders, which needs no training, the "
        f"same experts end at Last {n.text(run, 'last')} % and Transfer {n.text(run, 'transfer')} % per picture "
        f"({gain:+.1f} points of Last)."
    )


def frozen_features(n: Numbers) -> str:
    """Regression on frozen features."""
    return (
        f"RAIL trains nothing by gradient descent: ridge regression on CLIP's frozen features, solved task by task, "
        f"ends at Last {n.text('rail_primal', 'last')} % (primal) and {n.text('rail_dual', 'last')} % (dual), and "
        f"forgets {n.text('rail_primal', 'forgetting')} points. In this protocol a test picture comes with its task's "
        "class names, so RAIL need not know which task the picture belongs to; the method does."
    )


def _verdict(holds: bool) -> str:
    return "The paper's claim holds here." if holds else "The paper's claim does not hold here."


FINDINGS: dict[str, Callable[[Numbers], str]] = {
    "Are old tasks kept?": memory,
    "Does zero-shot ability stay?": zero_shot,
    "Is it the freezing?": freezing,
    "What does deciding per batch change?": batches,
    "How far is it to one model a task?": bound,
    "How do the other methods fare?": others,
    "What must be kept?": storage,
    "Would a simpler selector do?": selectors,
    "And without training at all?": frozen_features,
}


def findings(results: list[Content], order: str) -> list[Finding]:
    """The findings that the results of an order allow, as titles and paragraphs."""
    numbers, written = Numbers(results, order), []
    for title, write in FINDINGS.items():
        try:
            written.append((title, write(numbers)))
        except (KeyError, IndexError):
            continue
    return written
