"""The study's figures: one palette, readable in grey, intervals wherever there are several seeds."""

from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.metrics import METRICS
from lib.report.tables import (  # noqa: F401 - notebooks draw with them
    AMBER,
    BLUE,
    GREY,
    ORANGE,
    SKY,
    Content,
    by_run,
    in_order,
    in_words,
    interval,
    label,
    look,
    name,
    value,
)

METHOD = "moe_adapters"
LEAST_SPAN = 10  # the least height of an ablation's axis in points: less would show noise as if it were a difference
# of each decision in an ablation the label, the look, and the shift to the right
DECISIONS: dict[str, tuple[dict[str, Any], float]] = {
    "oracle": ({"label": "oracle", "color": ORANGE, "marker": "s", "mfc": "white"}, 0.12),
    "sample": ({"label": "per picture", "color": BLUE, "marker": "o"}, -0.12),
}


def use_style() -> None:
    """One look for every figure."""
    sizes = {"figure.dpi": 110, "savefig.dpi": 130, "savefig.bbox": "tight", "axes.titlesize": "medium"}
    sns.set_theme(style="whitegrid", context="notebook", rc=sizes)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG; without date or version, so that the same figure is the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def pictures(images: np.ndarray, names: list[str], title: str, axes: Axes, columns: int = 12) -> None:
    """A row of pictures (N, H, W, 3) uint8 with their names below, in a frame with room for `columns`."""
    axes.imshow(np.hstack([*np.pad(images, ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=255)]))
    step = images.shape[2] + 2
    centres = [step * i + images.shape[2] / 2 for i in range(len(names))]
    axes.set_xticks(centres, names, rotation=40, ha="right", fontsize=8)
    axes.set(yticks=[], xlim=(-0.5, step * max(columns, len(names)) - 0.5), frame_on=False)
    axes.set_title(title, loc="left")
    axes.grid(False)


def matrix_of(content: Content, decision: str) -> np.ndarray:
    """A[i, j] of a result (T, T) in percent; nan where a task was not tested (class-incremental learning)."""
    rows = content["accuracy"][decision]
    return np.array([[*row, *[np.nan] * (len(rows[-1]) - len(row))] for row in rows])


def accuracy_matrix(content: Content, decision: str, axes: Axes) -> None:
    """A heat map of A[i, j]; the line marks the diagonal: left of it learned tasks, right of it tasks still to come."""
    tasks = content["tasks"]
    _percents(matrix_of(content, decision), tasks, tasks, axes)
    axes.set(aspect="equal", xlabel="accuracy on task (%)", ylabel="after learning")
    corners = np.arange(len(tasks))
    axes.plot(np.repeat(corners + 1, 2), np.stack([corners, corners + 1], axis=1).flatten(), color="white", lw=2)
    axes.set_title(name(label(content)), loc="left", fontsize=10)


def confusion(routed: list[list[int]], tasks: list[str], title: str, axes: Axes) -> None:
    """Percent of each task's test pictures sent to each learned task's router, and to CLIP."""
    counts = np.array(routed, dtype=float)
    _percents(100 * counts / counts.sum(1, keepdims=True), tasks, [*tasks[: counts.shape[1] - 1], "CLIP"], axes)
    axes.set(xlabel="answered by", ylabel="pictures of")
    axes.set_title(title, loc="left")


def _percents(values: np.ndarray, rows: list[str], columns: list[str], axes: Axes) -> None:
    shades = {"vmin": 0, "vmax": 100, "cmap": "cividis", "cbar": False}
    sns.heatmap(values, annot=True, fmt=".0f", annot_kws={"size": 8}, ax=axes, **shades)
    axes.set_xticklabels(columns, rotation=45, ha="right", fontsize=8)
    axes.set_yticklabels(rows, rotation=0, fontsize=8)


def task_curves(results: list[Content], figure: Figure, decision: str = "sample") -> None:
    """For every task its accuracy over time, a line a run: the mean over seeds, with the seeds' range as a band."""
    tasks = results[0]["tasks"]
    grid = figure.subplots(2, (len(tasks) + 1) // 2, sharex=True, sharey=True).flatten()
    for j, task in enumerate(tasks):
        for run, contents in by_run(results).items():
            values = np.array([matrix_of(c, decision)[:, j] for c in contents])
            title, colour, marker, line = look(run)
            grid[j].plot(values.mean(0), color=colour, marker=marker, ls=line, ms=4, label=title)
            grid[j].fill_between(range(len(tasks)), values.min(0), values.max(0), color=colour, alpha=0.2, lw=0)
        grid[j].axvline(j, color="0.4", lw=1, ls=":")
        grid[j].set_title(task, loc="left")
        grid[j].set_ylim(0, 102)
        grid[j].set_xticks(range(len(tasks)), tasks, rotation=60, ha="right", fontsize=7)
    for axes in grid[len(tasks) :]:
        axes.set_axis_off()
    figure.supylabel("accuracy (%)", fontsize=10)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, 1.08), ncols=3, frameon=False, fontsize=9)
    figure.tight_layout()


def metric_bars(results: list[Content], figure: Figure, decision: str = "sample") -> None:
    """Transfer, Average, Last and Forgetting of every run, with 95 % intervals and the number of seeds."""
    groups = by_run(results)
    grid = figure.subplots(1, 4, sharey=True)
    for axes, metric in zip(grid, METRICS, strict=True):
        for place, (run, contents) in enumerate(groups.items()):
            mean, half = interval([value(c, metric, decision) for c in contents])
            style = {"color": look(run).colour, "edgecolor": "black", "lw": 0.6, "height": 0.7, "capsize": 3}
            if not np.isnan(mean):  # joint training has no Transfer
                bar = axes.barh(place, mean, xerr=half if half > 0 else None, **style)
                axes.bar_label(bar, fmt="%.1f", padding=4, fontsize=8)
        axes.set_title(metric.title(), loc="left")
        axes.set_xlabel("points" if metric == "forgetting" else "%")
        axes.margins(x=0.2, y=0.01)
    names = [f"{name(run)}, n = {len(contents)}" for run, contents in groups.items()]
    grid[0].set_yticks(range(len(groups)), names, fontsize=9)
    grid[0].invert_yaxis()
    figure.tight_layout()


def expert_use(content: Content, figure: Figure) -> None:
    """Which experts each task chose, per tower and block, in percent of its choices; a dot marks what it froze."""
    experts, tasks = content["experts"], content["tasks"]
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(experts), max(map(len, experts.values())), squeeze=False)
    for row, (tower, blocks) in zip(grid, experts.items(), strict=True):
        for axes in row[len(blocks) :]:
            axes.set_axis_off()
        for axes, (block, use) in zip(row, blocks.items(), strict=False):
            counts = np.array(use["counts"], dtype=float)  # (T, E)
            shares, names = 100 * counts / counts.sum(1, keepdims=True), tasks if axes is row[0] else False
            shades = {"vmin": 0, "vmax": 50, "cmap": "cividis", "cbar": False, "xticklabels": 1, "yticklabels": names}
            sns.heatmap(shares, ax=axes, **shades)
            for t, chosen in enumerate(use["froze"]):
                axes.plot([e + 0.5 for e in chosen], [t + 0.5] * len(chosen), "o", color="white", mec="black", ms=4)
            axes.tick_params(labelsize=8)
            axes.set_title(f"{tower} tower, block {block}", loc="left", fontsize=9)
            axes.set_xlabel("expert", fontsize=8)
    drawn = next(axes.collections[0] for axes in grid.flat if axes.collections)
    figure.colorbar(drawn, ax=grid, shrink=0.6, extend="max", label="share of the task's choices (%)")


def panel(runs: dict[str, list[Content]], variants: dict[str, str], setting: str, figure: Figure) -> None:
    """Transfer and Last of some variants (name in the figure: run), per picture and by the oracle, with 95 % intervals.

    Runs without results are left out. The grey band is the interval of the method itself, as `setting` names it.
    """
    shown = {name: runs[run] for name, run in variants.items() if run in runs}
    for axes, metric in zip(figure.subplots(1, 2), ("transfer", "last"), strict=True):
        mean, half = interval([value(c, metric) for c in runs[METHOD]])
        axes.axhspan(mean - half, mean + half, color="0.88", label=f"{setting}, n = {len(runs[METHOD])}")
        for decision, (shown_as, shift) in DECISIONS.items():
            spread = [interval([value(c, metric, decision) for c in contents]) for contents in shown.values()]
            means, halves = np.nan_to_num(spread).T
            axes.errorbar(np.arange(len(shown)) + shift, means, yerr=halves, capsize=3, ls="none", **shown_as)
        names = [f"{name}\nn = {len(contents)}" for name, contents in shown.items()]
        axes.set_xticks(range(len(shown)), names, fontsize=8)
        low, high = axes.get_ylim()
        missing = max(0, LEAST_SPAN - (high - low)) / 2
        limits = {"xlim": (-0.5, len(shown) - 0.5), "ylim": (low - missing, high + missing)}
        axes.set(ylabel=f"{metric.title()} (%)", **limits)
        axes.grid(axis="x", visible=False)
    figure.tight_layout()
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=9)


def outcome(runs: dict[str, list[Content]], variants: dict[str, str], setting: str) -> str:
    """In a sentence, how far each variant's Last per picture is from the grey band's middle; * is outside the band.

    Points are differences of means, in percent of pictures. With one seed there is no band: every difference counts.
    """
    last = {run: [value(content, "last") for content in contents] for run, contents in runs.items()}
    mean, half = interval(last[METHOD])
    gaps = {name: interval(last[run])[0] - mean for name, run in variants.items() if run in last and run != METHOD}
    words = [f"{name} {gap:+.1f}{'' if abs(gap) <= half else '*'}" for name, gap in gaps.items()]
    start = f"Last per picture is {in_words(last[METHOD])} % in {setting}. Points from it, * outside its interval: "
    return start + ", ".join(words).replace("\n", " ")
