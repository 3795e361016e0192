"""The ablations: which runs answer which question, their figure, and a selector's worth without training anything.

A panel sets variants of the method beside the paper's setting on the same order of tasks. What a change of the
selector alone would bring needs no training either: every test picture is answered once by every router, and a
selector's decisions pick among these answers.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lib.methods.base import Lesson
from lib.methods.moe_adapters import MoEAdapters
from lib.report.figures import AMBER, BLUE, METRIC_NAMES, ORANGE, SKY
from lib.report.tables import interval
from lib.selector.ddas import CLIP, DDAS

PAPER = "moe_adapters"
SHOWN = ("transfer", "last")


def panel(runs: Mapping[str, list[dict[str, Any]]], variants: Mapping[str, str], figure: Figure) -> None:
    """Transfer and Last of some variants (shown name: run), per picture and by the oracle, with 95 % intervals.

    Runs that are not there yet are left out. The grey band is the paper's setting: its interval over seeds.
    """
    there = {name: runs[run] for name, run in variants.items() if run in runs}
    for axes, metric in zip(figure.subplots(1, len(SHOWN)), SHOWN, strict=True):
        if PAPER in runs:
            mean, half = interval([c[metric]["sample"] for c in runs[PAPER]])
            axes.axhspan(mean - half, mean + half, color="0.88", label=f"paper's setting, n = {len(runs[PAPER])}")
        for decision, colour, marker, shift in (("oracle", ORANGE, "s", 0.12), ("sample", BLUE, "o", -0.12)):
            _points(axes, list(there.values()), metric, decision, colour, marker, shift)
        names = [f"{name}\nn = {len(contents)}" for name, contents in there.items()]
        axes.set_xticks(range(len(there)), names, fontsize=8)
        axes.set_xlim(-0.5, len(there) - 0.5)
        axes.set_ylabel(f"{METRIC_NAMES[metric]} (%)")
        axes.grid(axis="x", visible=False)
    figure.tight_layout()
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        *handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 1),
        ncols=len(handles[0]),
        frameon=False,
        fontsize=9,
    )


def outcome(runs: Mapping[str, list[dict[str, Any]]], variants: Mapping[str, str]) -> str:
    """What came out, in a sentence: which variants leave the paper's band of Last per picture, and by how much.

    Without seeds enough for a band every difference counts. Points are differences of means, percent of pictures.
    """
    variants = {name.replace("\n", " "): run for name, run in variants.items()}
    there = {name: runs[run] for name, run in variants.items() if run in runs}
    last = {name: interval([c["last"]["sample"] for c in contents])[0] for name, contents in there.items()}
    mean, half = interval([c["last"]["sample"] for c in runs[PAPER]])
    band, width = (0.0, "one seed") if np.isnan(half) else (half, f"± {half:.1f}")
    others = sorted((v - mean, name) for name, v in last.items() if variants[name] != PAPER)
    away = [f"{name} {gap:+.1f}" for gap, name in others if abs(gap) > band]
    inside = [f"{name} {gap:+.1f}" for gap, name in others if abs(gap) <= band]
    told = f"Last per picture, in points from the paper's setting ({mean:.1f} %, {width})."
    told += f" Outside its interval: {', '.join(away) or 'none'}."
    return told + (f" Inside, so not told apart: {', '.join(inside)}." if inside else "")


def _points(
    axes: Axes,
    groups: list[list[dict[str, Any]]],
    metric: str,
    decision: str,
    colour: str,
    marker: str,
    shift: float,
) -> None:
    for place, contents in enumerate(groups):
        mean, half = interval([c[metric][decision] for c in contents])
        axes.errorbar(
            place + shift,
            mean,
            yerr=0 if np.isnan(half) else half,
            color=colour,
            marker=marker,
            mfc="white" if decision == "oracle" else colour,
            capsize=3,
            label=None if place else {"sample": "per picture", "oracle": "oracle"}[decision],
        )


def answers_of_all(method: MoEAdapters, lessons: list[Lesson]) -> list[Tensor]:
    """For each task whether each answer is right (N, T + 1), by every router and, in the last column, by CLIP."""
    found = []
    for lesson in lessons:
        count = len(lesson.task.test)
        routes = [torch.full((count,), route) for route in [*range(len(lessons)), CLIP]]
        classes = torch.stack(method.answer(lesson.task, lesson.features, routes), dim=1)  # (N, T + 1)
        found.append(classes == lesson.task.test.labels[:, None])
    return found


def last_of(routes: list[Tensor], right: list[Tensor]) -> float:
    """Last in percent of the decisions routes (N,) of each task, from `answers_of_all`."""
    scores = [
        table.gather(1, route.remainder(table.shape[1])[:, None]) for route, table in zip(routes, right, strict=True)
    ]
    return 100 * float(np.mean([score.float().mean() for score in scores]))


@torch.no_grad()
def to_clip_when_unlearned(selector: DDAS, features: list[Tensor]) -> float:
    """Percent of a task's pictures that go to CLIP if that task had not been learned; the mean over tasks."""
    shares = []
    for number, own in enumerate(features):
        others = [i for i in range(len(features)) if i != number]
        least, winner = selector.errors(own)[:, others].min(dim=1)
        stranger = least > selector.thresholds[others][winner]
        if selector.reference is not None:
            stranger |= least > selector.reference(own)
        shares.append(stranger.float().mean())
    return 100 * float(torch.stack(shares).mean())


def worth(selector: DDAS, features: list[Tensor], right: list[Tensor]) -> dict[str, float]:
    """Percent of pictures sent to their own router once learned, to CLIP while not learned, and Last."""
    routes = [selector.decide(part).sample for part in features]
    own = [100 * float((route == number).float().mean()) for number, route in enumerate(routes)]
    return {
        "own router, learned": float(np.mean(own)),
        "CLIP, not learned": to_clip_when_unlearned(selector, features),
        "Last": last_of(routes, right),
    }


def worth_bars(rows: Mapping[str, dict[str, float]], title: str, axes: Axes) -> None:
    """The worth of several selectors (shown name: `worth`) side by side."""
    looks = ((SKY, ""), (AMBER, "//"), (BLUE, ""))
    for place, ((colour, hatch), kind) in enumerate(zip(looks, next(iter(rows.values())), strict=True)):
        at, values = np.arange(len(rows)) + 0.27 * (place - 1), [row[kind] for row in rows.values()]
        axes.bar(at, values, 0.25, color=colour, hatch=hatch, edgecolor="black", lw=0.6, label=kind)
        for x, value in zip(at, values, strict=True):
            axes.text(x, value + 1, f"{value:.0f}", ha="center", fontsize=7)
    axes.set_xticks(range(len(rows)), list(rows), fontsize=8)
    axes.set_ylim(0, 119)
    axes.set_ylabel("%")
    axes.set_title(f"{title} (one seed)", loc="left")
    axes.legend(ncols=3, fontsize=8, loc="upper right")


def grouped(features: list[Tensor], selector: DDAS, size: int, mixed: bool, seed: int = 0) -> list[Tensor]:
    """Routes (N,) of each task's pictures where every `size` pictures share one decision, by their mean errors.

    Not mixed: the pictures of a task in a row, as the released code tests. Mixed: pictures of all tasks, shuffled.
    """
    errors = torch.cat([selector.errors(part) for part in features])
    counts = [len(part) for part in features]
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(errors))) if mixed else None
    parts = [errors[order]] if order is not None else list(errors.split(counts))
    routes = torch.cat([_shared(part, selector, size) for part in parts])
    if order is not None:
        routes = torch.empty_like(routes).scatter(0, order, routes)
    return list(routes.split(counts))


def _shared(errors: Tensor, selector: DDAS, size: int) -> Tensor:
    means = torch.stack([part.mean(dim=0) for part in errors.split(size)])
    return selector.route(means).repeat_interleave(size)[: len(errors)]
