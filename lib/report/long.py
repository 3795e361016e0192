"""A long sequence: what becomes of a method as ever more tasks come. Its results have rows after some tasks only."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.report.looks import look
from lib.report.tables import Content, by_run, label

DECISION = "union_sample"  # per picture, among the classes of all tasks
Curve = dict[int, float]  # a number after so many tasks


def accuracy_of(content: Content, learned: bool, decision: str = DECISION) -> Curve:
    """After so many tasks the mean accuracy in percent on the learned tasks, or on those that are still to come."""
    rows = zip(content["tested_after"], content["accuracy"][decision], strict=True)
    parts = {count: row[:count] if learned else row[count:] for count, row in rows}
    return {count: float(np.mean(part)) for count, part in parts.items() if part}


def claimed(content: Content) -> Curve:
    """Percent of the pictures of tasks to come that go to a learned task; empty for a method without routes."""
    routed = content["routed"].get(DECISION) or content["routed"].get("sample")
    shares = {}
    for count, row in zip(content["tested_after"], routed or [], strict=False):
        routes = np.array(row[count:])
        if len(routes):
            shares[count] = 100 * float(1 - routes[:, -1].sum() / routes.sum())
    return shares


def spent(folder: Path, content: Content, what: str) -> Curve:
    """Of each task, by its place in the sequence: "training", in seconds, or "stored_bytes" so far in megabytes."""
    file = folder / f"{label(content)}--{content['order']}--s{content['seed']}.json"
    cost: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    held = {task: each["training"] for task, each in cost.get("seconds", {}).items()}
    if what == "stored_bytes":
        held = {task: count / 1e6 for task, count in cost.get(what, {}).items()}
    return {place: held[task] for place, task in enumerate(content["tasks"], 1) if task in held}


def _draw(axes: Axes, run: str, curves: list[Curve]) -> None:
    """The mean over seeds, and their range."""
    places = sorted(set.intersection(*(set(curve) for curve in curves)))
    if places:
        values = np.array([[curve[place] for place in places] for curve in curves])
        means, shown = values.mean(axis=0), look(run)
        axes.plot(places, means, ls=shown.line, color=shown.colour, label=shown.name)
        axes.fill_between(places, values.min(axis=0), values.max(axis=0), color=shown.colour, alpha=0.15, lw=0)
        if len(places) < 20:
            axes.plot(places, means, ls="none", marker=shown.marker, color=shown.colour, ms=5)


def over_tasks(results: list[Content], costs: Path, figure: Figure) -> None:
    """Six panels over the number of tasks learned, a line for each run. costs: the folder of the cost files."""
    grid = figure.subplots(2, 3)
    panels = {
        "learned tasks (%)": lambda content: accuracy_of(content, learned=True),
        "tasks still to come (%)": lambda content: accuracy_of(content, learned=False),
        "pictures of tasks to come\nthat a learned task claims (%)": claimed,
        "training a task (s)": lambda content: spent(costs, content, "training"),
        "stored (MB)": lambda content: spent(costs, content, "stored_bytes"),
    }
    for axes, (title, measure) in zip(grid.flat, panels.items(), strict=False):
        for run, contents in by_run(results).items():
            _draw(axes, run, [measure(content) for content in contents])
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xscale("log")
        ticks = results[0]["tested_after"]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
    for axes in grid[1]:
        axes.set_xlabel("tasks learned")
    handles, texts = grid[0, 0].get_legend_handles_labels()
    grid[1, 2].set_axis_off()
    grid[1, 2].legend(handles, texts, loc="center left", frameon=False, fontsize=9)
    figure.tight_layout()
