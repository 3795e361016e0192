"""Figures that compare runs: all methods, ablations, paired differences, accuracy over steps and at a cost."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.report import paired
from lib.report.claims import BOUNDS
from lib.report.looks import BLUE, GREY, ORANGE, look, name
from lib.report.tables import Content, by_run, interval, value

COMPARED = ("transfer", "average", "last")  # Forgetting follows from them and is in the tables
LEAST_SPAN = 10  # the least height of an ablation's axis in points: less would show noise as if it were a difference
SPACES = {"sample": ("own classes", 0.17, None), "union_sample": ("classes of all tasks", -0.17, "white")}
ORACLE_TOO = SPACES | {"oracle": ("own classes, told the task", 0.0, "white")}


def _spread(contents: list[Content], metric: str, decision: str) -> tuple[float, float]:
    """Mean and half width, 0 for one seed."""
    mean, half = interval([value(content, metric, decision) for content in contents])
    return mean, float(np.nan_to_num(half))


def _rows(axes: Axes, counts: dict[str, int]) -> None:
    names = [f"{name(run)}, n = {count}" for run, count in counts.items()]
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first run on top


def methods(results: list[Content], figure: Figure) -> None:
    """Transfer, Average and Last of every run, per picture: filled among its own classes, open among those of all."""
    groups = by_run(results)
    grid = figure.subplots(1, len(COMPARED), sharey=True)
    for axes, metric in zip(grid, COMPARED, strict=True):
        for decision, (text, shift, inside) in SPACES.items():
            for place, (run, contents) in enumerate(groups.items()):
                if decision in contents[0]["accuracy"]:
                    mean, half = _spread(contents, metric, decision)
                    shown = look(run)
                    style = {"color": shown.colour, "marker": "o", "mfc": inside or shown.colour, "capsize": 2, "ms": 5}
                    axes.errorbar(mean, place - shift, xerr=half, label=text if not place else None, **style)
        axes.set_title(metric.title(), loc="left")
        axes.set_xlabel("%")
    _rows(grid[0], {run: len(contents) for run, contents in groups.items()})
    handles, texts = grid[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=9)
    figure.tight_layout()


def differences(results: list[Content], reference: str, figure: Figure, decision: str, other: str = "") -> None:
    """The reference minus every run in points, paired, with 95 % intervals; filled if Holm's p is below 5 %.

    other: the decision of the runs, if it is not the reference's.
    """
    groups = by_run(results)
    runs = [run for run in groups if run != reference]
    table = paired.against(results, reference, runs, list(COMPARED), decision, other)
    grid = figure.subplots(1, len(COMPARED), sharey=True)
    for axes, metric in zip(grid, COMPARED, strict=True):
        axes.axvline(0, color="0.4", lw=1)
        for place, run in enumerate(runs):
            gap, p = table[run][metric]
            if gap.pairs:
                colour = BLUE if gap.mean > 0 else ORANGE
                style = {"color": colour, "marker": "o", "mfc": colour if p < paired.LEVEL else "white", "capsize": 2}
                axes.errorbar(gap.mean, place, xerr=np.nan_to_num(gap.half), **style)
        axes.set_title(metric.title(), loc="left")
        axes.set_xlabel("method minus run (points)", fontsize=9)
    _rows(grid[0], {run: table[run]["average"][0].pairs for run in runs})
    figure.tight_layout()


def ablation(runs: dict[str, list[Content]], variants: dict[str, str], reference: str, figure: Figure) -> None:
    """Variants (name in the figure: run) beside the paper's setting, `reference`, which is one of them.

    Left: Average in percent, per picture in both label spaces and by the oracle. Right: each variant minus the paper's
    setting in points, paired over seeds. All with 95 % intervals; runs without results are left out.
    """
    shown = {text: run for text, run in variants.items() if run in runs}
    left, right = figure.subplots(1, 2)
    for decision, (text, shift, inside) in ORACLE_TOO.items():
        spread = [_spread(runs[run], "average", decision) for run in shown.values()]
        colour = GREY if decision == "oracle" else BLUE
        style = {"color": colour, "mfc": inside or colour, "marker": "o", "ls": "none", "capsize": 3, "label": text}
        left.errorbar(np.arange(len(shown)) + shift, [m for m, _ in spread], yerr=[h for _, h in spread], **style)
    right.axhline(0, color="0.4", lw=1)
    for shift, (metric, marker) in zip((-0.2, 0, 0.2), zip(COMPARED, "sov", strict=True), strict=True):
        gaps = [paired.difference(runs[run], runs[reference], metric) for run in shown.values()]
        means, halves = [gap.mean for gap in gaps], np.nan_to_num([gap.half for gap in gaps])
        style = {"marker": marker, "ls": "none", "capsize": 3, "label": metric.title()}
        right.errorbar(np.arange(len(shown)) + shift, means, yerr=halves, **style)
    names = [f"{text}\nn = {len(runs[run])}" for text, run in shown.items()]
    for axes, title in ((left, "Average (%)"), (right, "minus the paper's setting (points)")):
        axes.set_xticks(range(len(shown)), names, fontsize=8)
        low, high = axes.get_ylim()
        missing = max(0, LEAST_SPAN - (high - low)) / 2
        axes.set(ylabel=title, xlim=(-0.5, len(shown) - 0.5), ylim=(low - missing, high + missing))
        axes.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))  # above: it would hide points
    figure.tight_layout()


def outcome(runs: dict[str, list[Content]], variants: dict[str, str], reference: str, decision: str = "sample") -> str:
    """What the paired differences to the paper's setting decide, and how many seeds the rest would take."""
    words = []
    for text, run in variants.items():
        if run != reference and run in runs:
            gap = paired.difference(runs[run], runs[reference], "average", decision)
            decided = gap.pairs > 1 and abs(gap.mean) > gap.half
            more = "" if decided else f", not told apart; {paired.pairs_in_words(gap.seeds_needed())} would decide"
            words.append(f"{' '.join(text.split())} {gap}{more}")
    return f"Average among {SPACES[decision][0]} minus the paper's setting, in points: " + "; ".join(words)


def over_steps(results: list[Content], methods_: list[str], steps: int, figure: Figure) -> None:
    """Average and Last by steps of a task, among own classes (solid) and those of all (dashed); steps: the study's."""
    grid = figure.subplots(1, 2, sharey=True)
    for method in methods_:
        mine: dict[int, list[Content]] = {}
        for content in results:
            variant = content["variant"]
            if content["method"] == method and (not variant or variant.startswith("steps_")):
                mine.setdefault(int(variant[6:] or steps), []).append(content)
        for axes, metric in zip(grid, ("average", "last"), strict=True):
            for decision, line in (("sample", "-"), ("union_sample", "--")):
                spread = [_spread(mine[count], metric, decision) for count in sorted(mine)]
                if spread:
                    means, halves = np.array(spread).T
                    shown = look(method)
                    text = shown.name if decision == "sample" else None
                    style = {"color": shown.colour, "marker": shown.marker, "ls": line, "capsize": 2, "label": text}
                    axes.errorbar(sorted(mine), means, yerr=halves, **style)
    for axes, metric in zip(grid, ("Average", "Last"), strict=True):
        axes.set(xscale="log", xlabel="steps a task", ylabel=f"{metric} (%)")
        ticks = sorted({int(line) for part in axes.lines for line in np.atleast_1d(part.get_xdata())})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
    handles, texts = grid[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, frameon=False, fontsize=9)
    figure.tight_layout()


def at_a_cost(results: list[Content], seconds: dict[str, float], figure: Figure, decision: str) -> None:
    """Average against seconds of a run, and against stored bytes; the line joins what no other run beats in both.

    Without the bounds, which are no choice: they are told the task, or see all tasks at once.
    """
    groups = {run: contents for run, contents in by_run(results).items() if run.split("+")[0] not in BOUNDS}
    columns = {
        "seconds of a run, training and tests": seconds,
        "stored MB": {run: contents[0]["stored_bytes"] / 1e6 for run, contents in groups.items()},
    }
    for axes, (title, cost) in zip(figure.subplots(1, 2, sharey=True), columns.items(), strict=True):
        points = {run: (cost[run], _spread(groups[run], "average", decision)[0]) for run in groups if cost.get(run)}
        for run, (x, y) in points.items():
            shown = look(run)
            axes.plot(x, y, marker=shown.marker, color=shown.colour, ls="none", ms=8, label=shown.name)
        front, best = [], -np.inf
        for x, y in sorted(points.values()):
            if y > best:
                front.append((x, y))
                best = y
        if front:
            axes.plot(*np.array(front).T, color=GREY, lw=1, ls=":", zorder=0, drawstyle="steps-post")
        axes.set(xscale="log", xlabel=title, ylabel="Average (%)")
        axes.margins(x=0.1)
    named = {
        text: handle for axes in figure.axes for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named.keys(), loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
    figure.tight_layout()
