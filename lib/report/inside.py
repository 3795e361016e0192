"""What happens inside the mixture, from the counts in result files: who is chosen, what is frozen, what is shared."""

from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.report.looks import BLUE, ORANGE
from lib.report.tables import Content, interval

TOWERS = {"image": (BLUE, "o-"), "text": (ORANGE, "s--")}


def expert_use(content: Content, figure: Figure) -> None:
    """Which experts each task chose, per tower and block, in percent of its choices; a dot marks what it froze."""
    experts, tasks = content["experts"], content["tasks"]
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(experts), max(map(len, experts.values())), squeeze=False)
    for row, (tower, blocks) in zip(grid, experts.items(), strict=True):
        for axes in row[len(blocks) :]:
            axes.set_axis_off()
        for axes, (block, use) in zip(row, blocks.items(), strict=False):
            shares, names = 100 * shares_of(use), tasks if axes is row[0] else False
            shades = {"vmin": 0, "vmax": 50, "cmap": "cividis", "cbar": False, "yticklabels": names}
            sns.heatmap(shares, ax=axes, xticklabels=max(1, shares.shape[1] // 8), **shades)
            for t, chosen in enumerate(use["froze"]):
                axes.plot([e + 0.5 for e in chosen], [t + 0.5] * len(chosen), "o", color="white", mec="black", ms=4)
            axes.tick_params(labelsize=8)
            axes.set_title(f"{tower} tower, block {block}", loc="left", fontsize=9)
            axes.set_xlabel("expert", fontsize=8)
    drawn = next(axes.collections[0] for axes in grid.flat if axes.collections)
    figure.colorbar(drawn, ax=grid, shrink=0.6, extend="max", label="share of the task's choices (%)")


def shares_of(use: dict[str, Any]) -> np.ndarray:
    """The share (T, E) of each task's choices that each expert got, 0 to 1; use: of a block, as results have it."""
    counts = np.array(use["counts"], dtype=float)
    return counts / counts.sum(axis=1, keepdims=True)


def on_frozen(use: dict[str, Any]) -> np.ndarray:
    """The share (T,) of each task's choices that fell on experts frozen by the tasks before it, 0 to 1."""
    shares, frozen, found = shares_of(use), set[int](), []
    for row, froze in zip(shares, use["froze"], strict=True):
        found.append(row[sorted(frozen)].sum())
        frozen |= set(froze)
    return np.array(found)


def entropy(use: dict[str, Any]) -> np.ndarray:
    """The entropy (T,) of each task's choices in bits: log2 E if all experts are used alike, 1 for one pair."""
    shares = shares_of(use)
    return -np.sum(shares * np.log2(np.where(shares > 0, shares, 1)), axis=1)


def overlap(use: dict[str, Any]) -> np.ndarray:
    """The largest share (T,) of a task's choices that one earlier task's choices cover, 0 to 1; nan for the first."""
    shares = shares_of(use)
    most = [max(np.minimum(row, before).sum() for before in shares[:t]) for t, row in enumerate(shares) if t]
    return np.array([np.nan, *most])


def drift(content: Content) -> np.ndarray:
    """The mean change (T,) in points of learned tasks' accuracy since their own training, after each task.

    Told the task, so that the selector has no part in it; without a selector as the method answers.
    """
    rows = content["accuracy"].get("oracle", content["accuracy"]["sample"])
    own = [row[number] for number, row in enumerate(rows)]
    return np.array([np.mean(np.abs(np.subtract(row[: i + 1], own[: i + 1]))) for i, row in enumerate(rows)])


def _line(axes: Axes, rows: np.ndarray, scale: float, **style: Any) -> None:
    """A line of means over rows (n, T) with their 95 % intervals."""
    means, halves = np.array([interval(list(column)) for column in rows.T]).T * scale
    axes.errorbar(range(1, len(means) + 1), means, yerr=np.nan_to_num(halves), capsize=2, ms=4, **style)


def mixture(groups: dict[str, list[Content]], figure: Figure) -> None:
    """Four panels over tasks: choices on frozen experts, entropy, overlap, drift. groups: runs of a mixture by name.

    The first three are of the first group, mean over its blocks; the drift is of all groups, told the task.
    """
    grid = figure.subplots(1, 4)
    contents = next(iter(groups.values()))
    parts = (
        (on_frozen, 100, "choices on frozen experts (%)"),
        (entropy, 1, "entropy of the choices (bits)"),
        (overlap, 100, "shared with an earlier task (%)"),
    )
    for axes, (measure, scale, title) in zip(grid, parts, strict=False):
        for tower, (colour, line) in TOWERS.items():
            of_runs = [[measure(use) for use in content["experts"][tower].values()] for content in contents]
            if of_runs[0]:
                _line(axes, np.mean(of_runs, axis=1), scale, color=colour, fmt=line, label=f"{tower} tower")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_ylim(bottom=0)
    grid[0].legend(fontsize=8)
    for (name, runs), (colour, line) in zip(groups.items(), TOWERS.values(), strict=False):
        _line(grid[3], np.array([drift(content) for content in runs]), 1, color=colour, fmt=line, label=name)
    grid[3].set_title("change of learned tasks' answers\n(points, told the task)", loc="left", fontsize=10)
    grid[3].legend(fontsize=8)
    for axes in grid:
        axes.set_xlabel("task, in the order of learning")
    figure.tight_layout()
