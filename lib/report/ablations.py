"""The ablations' panels: variants of the method beside this study's own setting, on the same order of tasks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lib.report.looks import BLUE, ORANGE
from lib.report.tables import Content, in_words, interval, value

Runs = Mapping[str, list[Content]]
METHOD = "moe_adapters"
METRICS = ("transfer", "last")
SPAN = 10  # the least height of an axis in points: a smaller one would show noise as if it were a difference
# of each decision the label, the look, and the shift to the right
DECISIONS: dict[str, tuple[dict[str, Any], float]] = {
    "oracle": ({"label": "oracle", "color": ORANGE, "marker": "s", "mfc": "white"}, 0.12),
    "sample": ({"label": "per picture", "color": BLUE, "marker": "o"}, -0.12),
}


def panel(runs: Runs, variants: Mapping[str, str], setting: str, figure: Figure) -> None:
    """Transfer and Last of some variants (name in the figure: run), per picture and by the oracle, with 95 % intervals.

    Runs without results are left out. The grey band is the interval of the method itself, as `setting` names it.
    """
    shown = {name: runs[run] for name, run in variants.items() if run in runs}
    for axes, metric in zip(figure.subplots(1, len(METRICS)), METRICS, strict=True):
        mean, half = interval([value(c, metric) for c in runs[METHOD]])
        axes.axhspan(mean - half, mean + half, color="0.88", label=f"{setting}, n = {len(runs[METHOD])}")
        for decision, (look, shift) in DECISIONS.items():
            spread = [interval([value(c, metric, decision) for c in contents]) for contents in shown.values()]
            means, halves = np.nan_to_num(spread).T
            axes.errorbar(np.arange(len(shown)) + shift, means, yerr=halves, capsize=3, ls="none", **look)
        names = [f"{name}\nn = {len(contents)}" for name, contents in shown.items()]
        axes.set_xticks(range(len(shown)), names, fontsize=8)
        axes.set_xlim(-0.5, len(shown) - 0.5)
        low, high = axes.get_ylim()
        missing = max(0, SPAN - (high - low)) / 2
        axes.set_ylim(low - missing, high + missing)
        axes.set_ylabel(f"{metric.title()} (%)")
        axes.grid(axis="x", visible=False)
    figure.tight_layout()
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=9)


def outcome(runs: Runs, variants: Mapping[str, str], setting: str) -> str:
    """In a sentence, how far each variant's Last per picture is from the grey band's middle; * is outside the band.

    Points are differences of means, in percent of pictures. With one seed there is no band: every difference counts.
    """
    last = {run: [value(content, "last") for content in contents] for run, contents in runs.items()}
    mean, half = interval(last[METHOD])
    gaps = {name: interval(last[run])[0] - mean for name, run in variants.items() if run in last and run != METHOD}
    words = [f"{name} {gap:+.1f}{'' if abs(gap) <= half else '*'}" for name, gap in gaps.items()]
    start = f"Last per picture is {in_words(last[METHOD])} % in {setting}. Points from it, * outside its interval: "
    return start + ", ".join(words).replace("\n", " ")
