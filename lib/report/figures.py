"""The study's figures: one palette, readable in grey, intervals wherever there are several seeds."""

from io import BytesIO
from pathlib import Path

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

# notebooks draw with all of them
from lib.report.looks import AMBER, BLUE, GREY, LOOK, ORANGE, SKY, in_order, look, name  # noqa: F401
from lib.report.tables import Content, by_run, in_words, interval, label, value  # noqa: F401


def use_style() -> None:
    """One look for every figure."""
    sizes = {"figure.dpi": 110, "savefig.dpi": 130, "savefig.bbox": "tight", "axes.titlesize": "medium"}
    sns.set_theme(style="whitegrid", context="notebook", rc=sizes)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG of 256 colours, a third of the size; without date or version: the same figure is the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = BytesIO()
    figure.savefig(drawn, metadata={"Software": None})
    with Image.open(drawn) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


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
