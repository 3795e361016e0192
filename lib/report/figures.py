"""The study's figures: one palette, readable in grey, intervals wherever there are several seeds.

Every function draws from result files (or small arrays) alone and returns the figure.
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.report import tables
from lib.report.tables import interval, label

# Okabe and Ito's colours by family, ordered so that neighbours also differ in lightness; marker and line say it again
BLACK, GREY, ORANGE, AMBER, SKY, BLUE, GREEN = (
    "#000000", "#7f7f7f", "#D55E00", "#E69F00", "#56B4E9", "#0072B2", "#009E73"
)  # fmt: skip
# run: its name in figures, colour, marker, line; the order of every figure and table
LOOK: dict[str, tuple[str, str, str, Any]] = {
    "joint": ("joint training, all tasks at once", BLACK, "*", ":"),
    "finetune_single": ("fine-tuning, one model a task", BLACK, "^", "--"),
    "zero_shot": ("zero-shot CLIP", GREY, "s", ":"),
    "finetune": ("continual fine-tuning", ORANGE, "v", "-."),
    "lwf": ("LwF", ORANGE, "<", "--"),
    "lwf_vr": ("LwF-VR", ORANGE, ">", "--"),
    "icarl": ("iCaRL", ORANGE, "p", "--"),
    "wise_ft": ("WiSE-FT", ORANGE, "d", "--"),
    "zscl": ("ZSCL", ORANGE, "h", "--"),
    "zscl+no_averaging": ("ZSCL, no weight averaging", ORANGE, "H", ":"),
    "mas": ("MAS", ORANGE, "8", "--"),
    "expert_gate": ("Expert Gate", AMBER, "X", "--"),
    "adapter": ("one adapter, no mixture", AMBER, "P", (0, (5, 1))),
    "lora": ("LoRA", AMBER, "X", ":"),
    "rail_primal": ("RAIL, primal", GREEN, "D", "-"),
    "rail_dual": ("RAIL, dual", GREEN, "D", ":"),
    "moe_adapters+no_freeze": ("MoE-Adapters, no freezing", SKY, "D", "--"),
    "moe_adapters+gaussian": ("MoE-Adapters, Gaussian selector", SKY, "o", ":"),
    "moe_adapters": ("MoE-Adapters (the method)", BLUE, "o", "-"),
}
NAMES = {run: look[0] for run, look in LOOK.items()}
METRIC_NAMES = {"transfer": "Transfer", "average": "Average", "last": "Last", "forgetting": "Forgetting"}


def use_style() -> None:
    """One look for every figure."""
    sns.set_theme(style="whitegrid", context="notebook", rc={"figure.dpi": 110, "savefig.dpi": 130})
    plt.rcParams["savefig.bbox"] = "tight"
    plt.rcParams["axes.titlesize"] = "medium"


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG; without date or version, so that the same figure is the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def style(run: str) -> tuple[str, str, Any]:
    """Colour, marker and line of a run, the same in every figure."""
    return LOOK[run][1:] if run in LOOK else (SKY, "o", ":")


def by_run(results: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Results grouped by run, in the order of LOOK, then by name."""
    place = {run: number for number, run in enumerate(LOOK)}
    groups = tables.by_run(results)
    return {run: groups[run] for run in sorted(groups, key=lambda run: (place.get(run, len(place)), run))}


def pictures(images: np.ndarray, names: list[str], title: str, axes: Axes, columns: int = 12) -> None:
    """A row of pictures (N, H, W, 3) uint8 with their names below, in a frame with room for `columns`."""
    gap = np.full((images.shape[1], 2, 3), 255, dtype=np.uint8)
    axes.imshow(np.concatenate([part for image in images for part in (image, gap)], axis=1))
    step = images.shape[2] + 2
    axes.set_xticks(
        [step * i + images.shape[2] / 2 for i in range(len(names))],
        names,
        rotation=40,
        ha="right",
        fontsize=8,
    )
    axes.set_yticks([])
    axes.set_xlim(-0.5, step * max(columns, len(names)) - 0.5)
    axes.set_title(title, loc="left")
    axes.grid(False)
    axes.set_frame_on(False)


def matrix_of(content: dict[str, Any], decision: str) -> np.ndarray:
    """A[i, j] of a result (T, T) in percent; nan where a task was not tested (class-incremental learning)."""
    rows = content["accuracy"][decision]
    return np.array([[*row, *[np.nan] * (len(rows[-1]) - len(row))] for row in rows])


def accuracy_matrix(content: dict[str, Any], decision: str, axes: Axes) -> None:
    """A heat map of A[i, j]; the line marks the diagonal: left of it learned tasks, right of it tasks still to come."""
    matrix, tasks = matrix_of(content, decision), content["tasks"]
    sns.heatmap(
        matrix,
        vmin=0,
        vmax=100,
        cmap="cividis",
        annot=True,
        fmt=".0f",
        cbar=False,
        ax=axes,
        square=True,
        annot_kws={"size": 8},
    )
    corners = np.arange(len(tasks))
    axes.plot(np.repeat(corners + 1, 2), np.stack([corners, corners + 1], axis=1).flatten(), color="white", lw=2)
    axes.set_xticklabels(tasks, rotation=45, ha="right", fontsize=8)
    axes.set_yticklabels(tasks, rotation=0, fontsize=8)
    axes.set_xlabel("accuracy on task (%)")
    axes.set_ylabel("after learning")
    axes.set_title(NAMES.get(label(content), label(content)), loc="left")


def task_curves(results: list[dict[str, Any]], figure: Figure, decision: str = "sample") -> None:
    """For every task its accuracy over time, a line a run: the mean over seeds, with the seeds' range as a band."""
    tasks = results[0]["tasks"]
    grid = figure.subplots(2, (len(tasks) + 1) // 2, sharex=True, sharey=True).flatten()
    for j, task in enumerate(tasks):
        for run, contents in by_run(results).items():
            values = np.array([matrix_of(c, decision)[:, j] for c in contents])
            colour, marker, line = style(run)
            grid[j].plot(values.mean(0), color=colour, marker=marker, ls=line, ms=4, label=NAMES.get(run, run))
            if len(values) > 1:
                grid[j].fill_between(range(len(tasks)), values.min(0), values.max(0), color=colour, alpha=0.2)
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


def metric_bars(results: list[dict[str, Any]], figure: Figure, decision: str = "sample") -> None:
    """Transfer, Average, Last and Forgetting of every run, with 95 % intervals and the number of seeds."""
    groups = by_run(results)
    grid = figure.subplots(1, 4, sharey=True)
    for axes, (metric, title) in zip(grid, METRIC_NAMES.items(), strict=True):
        for place, (run, contents) in enumerate(groups.items()):
            mean, half = interval([c[metric][decision] for c in contents])
            if np.isnan(mean):
                continue  # there is no Transfer in class-incremental learning
            axes.barh(place, mean, color=style(run)[0], edgecolor="black", lw=0.6, height=0.7)
            if np.isfinite(half):
                axes.errorbar(mean, place, xerr=half, color="black", capsize=3, lw=1.2)
            shift = half if np.isfinite(half) else 0
            end = (max(mean + shift, 0), place)
            axes.annotate(f"{mean:.1f}", end, (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_title(title, loc="left")
        axes.set_xlabel("points" if metric == "forgetting" else "%")
        axes.margins(x=0.2)
    names = [f"{NAMES.get(run, run)}, n = {len(contents)}" for run, contents in groups.items()]
    grid[0].set_yticks(range(len(groups)), names, fontsize=9)
    grid[0].invert_yaxis()
    figure.tight_layout()


def expert_use(content: dict[str, Any], figure: Figure) -> None:
    """Which experts each task chose, per tower and block, as shares of its choices; a dot marks what it froze."""
    experts, tasks = content["experts"], content["tasks"]
    deepest = max(len(blocks) for blocks in experts.values())
    grid = figure.subplots(len(experts), deepest, squeeze=False, sharex=True)
    for row, (tower, blocks) in zip(grid, experts.items(), strict=True):
        for axes in row[len(blocks) :]:
            axes.set_axis_off()
        for axes, (block, use) in zip(row, blocks.items(), strict=False):
            counts = np.array(use["counts"], dtype=float)
            sns.heatmap(counts / counts.sum(1, keepdims=True), vmin=0, vmax=0.5, cmap="cividis", cbar=False, ax=axes)
            for t, chosen in enumerate(use["froze"]):
                axes.plot([e + 0.5 for e in chosen], [t + 0.5] * len(chosen), "o", color="white", mec="black", ms=4)
            axes.set_title(f"{tower} tower, block {block}", loc="left", fontsize=9)
            axes.set_xlabel("expert", fontsize=8)
            axes.set_yticks(np.arange(len(tasks)) + 0.5, tasks if axes is row[0] else [], rotation=0, fontsize=8)
    figure.tight_layout()


def frozen_pool(results: list[dict[str, Any]], axes: Axes) -> None:
    """How many experts of a block are frozen after each task: the mean over blocks, seeds as a band, by tower."""
    tasks = results[0]["tasks"]
    for tower, line in (("image", "-"), ("text", "--")):
        curves = []
        for content in results:
            for use in content["experts"][tower].values():
                gone = [len(set().union(*map(set, use["froze"][: t + 1]))) for t in range(len(tasks))]
                curves.append(gone)
        values = np.array(curves, dtype=float)
        colour = "#0072B2" if tower == "image" else "#E69F00"
        axes.plot(values.mean(0), line, marker="o", color=colour, label=f"{tower} tower")
        axes.fill_between(range(len(tasks)), values.min(0), values.max(0), alpha=0.2, color=colour)
    pool = len(next(iter(results[0]["experts"]["image"].values()))["counts"][0])
    axes.axhline(pool, color="0.4", ls=":")
    axes.set_xticks(range(len(tasks)), tasks, rotation=45, ha="right", fontsize=8)
    axes.set_ylabel("frozen experts of a block (mean, range)")
    axes.set_title(f"The frozen pool over time (of {pool} experts)", loc="left")
    axes.set_ylim(0, pool + 0.5)
    axes.legend()


def confusion(routed: list[list[int]], tasks: list[str], title: str, axes: Axes) -> None:
    """Percent of each task's test pictures sent to each learned task's router, and to CLIP."""
    counts = np.array(routed, dtype=float)
    learned = [*tasks[: counts.shape[1] - 1], "CLIP"]
    share = 100 * counts / counts.sum(1, keepdims=True)
    sns.heatmap(
        share,
        vmin=0,
        vmax=100,
        annot=True,
        fmt=".0f",
        cmap="cividis",
        cbar=False,
        ax=axes,
        annot_kws={"size": 8},
    )
    axes.set_xticklabels(learned, rotation=45, ha="right", fontsize=8)
    axes.set_yticklabels(tasks, rotation=0, fontsize=8)
    axes.set_xlabel("answered by")
    axes.set_ylabel("pictures of")
    axes.set_title(title, loc="left")
