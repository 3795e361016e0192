"""The ablations' panels: variants of the method beside this study's own setting, on the same order of tasks."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.report.figures import METRIC_NAMES
from lib.report.looks import AMBER, BLUE, ORANGE, SKY
from lib.report.tables import Content, interval, value

Runs = Mapping[str, list[Content]]
METHOD = "moe_adapters"
METRICS = ("transfer", "last")
SPAN = 10  # the least height of an axis in points: a smaller one would show noise as if it were a difference
DECISIONS = {"oracle": ("oracle", ORANGE, "s", 0.12), "sample": ("per picture", BLUE, "o", -0.12)}


def panel(runs: Runs, variants: Mapping[str, str], setting: str, figure: Figure) -> None:
    """Transfer and Last of some variants (name in the figure: run), per picture and by the oracle, with 95 % intervals.

    Runs without results are left out. The grey band is the interval of the method itself, as `setting` names it.
    """
    shown = {name: runs[run] for name, run in variants.items() if run in runs}
    for axes, metric in zip(figure.subplots(1, len(METRICS)), METRICS, strict=True):
        if METHOD in runs:
            mean, half = interval([value(c, metric) for c in runs[METHOD]])
            axes.axhspan(mean - half, mean + half, color="0.88", label=f"{setting}, n = {len(runs[METHOD])}")
        for decision in DECISIONS:
            _points(axes, list(shown.values()), metric, decision)
        names = [f"{name}\nn = {len(contents)}" for name, contents in shown.items()]
        axes.set_xticks(range(len(shown)), names, fontsize=8)
        axes.set_xlim(-0.5, len(shown) - 0.5)
        low, high = axes.get_ylim()
        missing = max(0, SPAN - (high - low)) / 2
        axes.set_ylim(low - missing, high + missing)
        axes.set_ylabel(f"{METRIC_NAMES[metric]} (%)")
        axes.grid(axis="x", visible=False)
    figure.tight_layout()
    handles = figure.axes[0].get_legend_handles_labels()
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": len(handles[0])}
    figure.legend(*handles, frameon=False, fontsize=9, **place)


def _points(axes: Axes, groups: list[list[Content]], metric: str, decision: str) -> None:
    name, colour, marker, shift = DECISIONS[decision]
    means, halves = np.array([interval([value(c, metric, decision) for c in group]) for group in groups]).T
    fill = "white" if decision == "oracle" else colour
    look = {"color": colour, "marker": marker, "mfc": fill, "capsize": 3, "ls": "none", "label": name}
    axes.errorbar(np.arange(len(groups)) + shift, means, yerr=np.nan_to_num(halves), **look)


def outcome(runs: Runs, variants: Mapping[str, str], setting: str) -> str:
    """In a sentence, which variants leave the grey band of Last per picture, and by how much.

    Points are differences of means, in percent of pictures. With one seed there is no band: every difference counts.
    """
    mean, half = interval([value(c, "last") for c in runs[METHOD]])
    width = "one seed" if np.isnan(half) else f"± {half:.1f}"
    outside, inside = [], []
    for name, run in variants.items():
        if run in runs and run != METHOD:
            gap = interval([value(c, "last") for c in runs[run]])[0] - mean
            (inside if abs(gap) <= half else outside).append((gap, name.replace("\n", " ")))
    sentence = f"Last per picture is {mean:.1f} % ({width}) in {setting}. Points from it, outside this interval: "
    sentence += f"{_listed(outside) or 'none'}."
    return sentence + (f" Inside, which shows no difference: {_listed(inside)}." if inside else "")


def _listed(gaps: list[tuple[float, str]]) -> str:
    return ", ".join(f"{name} {gap:+.1f}" for gap, name in sorted(gaps))


def worth_bars(rows: Mapping[str, Mapping[str, float]], title: str, axes: Axes) -> None:
    """Percentages of several selectors (name in the figure: percent by what is measured) side by side."""
    looks = ((SKY, ""), (AMBER, "//"), (BLUE, ""))
    for place, ((colour, hatch), kind) in enumerate(zip(looks, next(iter(rows.values())), strict=True)):
        at, values = np.arange(len(rows)) + 0.27 * (place - 1), [row[kind] for row in rows.values()]
        axes.bar(at, values, 0.25, color=colour, hatch=hatch, edgecolor="black", lw=0.6, label=kind)
        for x, height in zip(at, values, strict=True):
            axes.text(x, height + 1, f"{height:.0f}", ha="center", fontsize=7)
    axes.set_xticks(range(len(rows)), list(rows), fontsize=8)
    axes.set_ylim(0, 119)
    axes.set_ylabel("%")
    axes.set_title(f"{title} (one seed)", loc="left")
    axes.legend(ncols=3, fontsize=8, loc="upper right")
