"""Diagrams drawn by code: a block with its mixture, when experts are frozen, and how a picture is answered.

The palette is that of the figures. Frozen parts are hatched, so that the diagrams also read in grey.
"""

from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from lib.report.figures import AMBER, BLUE, SKY

FROZEN, LEARNS, DECIDES = "#e0e0e0", SKY, AMBER  # CLIP and what is frozen; experts and routers; what decides
HATCH = "///"


@dataclass(frozen=True)
class Box:
    """A box with a name around a place (x, y), in the diagram's own units."""

    x: float
    y: float
    name: str
    colour: str = "white"
    hatch: str = ""
    width: float = 2.0
    height: float = 0.8

    def draw(self, axes: Axes) -> None:
        """Draws the box and its name, on a white ground if the box is hatched."""
        corner = (self.x - self.width / 2, self.y - self.height / 2)
        axes.add_patch(_rounded(corner, self.width, self.height, 0.04, fc=self.colour, hatch=self.hatch, lw=1))
        ground = {"fc": "white", "ec": "none", "pad": 1.5, "alpha": 0.85} if self.hatch else None
        axes.text(self.x, self.y, self.name, ha="center", va="center", fontsize=9, bbox=ground)


def _rounded(corner: tuple[float, float], width: float, height: float, pad: float, **look: Any) -> FancyBboxPatch:
    return FancyBboxPatch(corner, width, height, boxstyle=f"round,pad={pad}", ec="black", **look)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], line: str = "-") -> None:
    """An arrow from one place to another."""
    look = {"arrowstyle": "-|>", "mutation_scale": 12, "color": "black", "ls": line}
    axes.add_patch(FancyArrowPatch(start, end, **look, shrinkA=2, shrinkB=2))


def block() -> Figure:
    """A block of either tower: CLIP's frozen attention and MLP, and the experts that a router chooses."""
    figure, axes = _sheet(8.5, 4.6, (-0.4, 12.6), (-0.7, 6.3))
    attention = Box(2.2, 2.3, "attention", FROZEN, HATCH)
    mlp = Box(7.2, 1.0, "MLP", FROZEN, HATCH)
    router = Box(3.6, 5.4, "router of task t", DECIDES, width=2.6)
    experts = [
        Box(7.2, 5.4 - 0.9 * e, f"expert {e + 1}", LEARNS if e else FROZEN, "" if e else HATCH, height=0.6)
        for e in range(3)
    ]
    total = Box(10.4, 2.3, "+", width=0.5, height=0.5)
    for box in (attention, mlp, router, *experts, total):
        box.draw(axes)
    axes.text(0, 2.3, "x", ha="center", va="center", fontsize=11)
    axes.text(12.3, 2.3, "x'", ha="center", va="center", fontsize=11)
    arrow(axes, (0.2, 2.3), (1.1, 2.3))
    arrow(axes, (3.3, 2.3), (10.1, 2.3))
    arrow(axes, (3.3, 2.3), (3.6, 4.9))
    arrow(axes, (3.3, 2.3), (6.1, 1.1))
    arrow(axes, (8.3, 1.1), (10.1, 2.15))
    for expert in experts[:2]:  # the two that the router has chosen
        arrow(axes, (3.3, 2.3), (6.1, expert.y - 0.1))
        arrow(axes, (5.0, 5.4), (6.1, expert.y + 0.1), ":")
        arrow(axes, (8.3, expert.y), (10.2, 2.6))
    arrow(axes, (10.7, 2.3), (12.1, 2.3))
    axes.text(3.3, 3.6, "class token", fontsize=8, ha="right")
    axes.text(9.7, 4.4, "weighted by the gates", fontsize=8)
    _legend(axes, -0.4)
    return figure


def frozen_when(froze: list[list[int]], experts: int, tasks: list[str]) -> Figure:
    """Which of a block's experts are frozen before each task (a row). froze: the experts that each task froze."""
    figure, axes = plt.subplots(figsize=(0.55 * experts + 2, 0.45 * len(tasks) + 1.2))
    held: set[int] = set()
    for row, new in enumerate(froze):
        for e in range(experts):
            look = {"fc": FROZEN, "hatch": HATCH} if e in held else {"fc": "white"}
            axes.add_patch(_rounded((e - 0.38, row - 0.32), 0.76, 0.64, 0.02, lw=0.8, **look))
            if e in new:
                axes.plot(e, row, "o", color=BLUE, mec="black", ms=8)
        held |= set(new)
    axes.set_xlim(-0.7, experts - 0.3)
    axes.set_ylim(len(tasks) - 0.4, -0.6)
    axes.set_xticks(range(experts))
    axes.set_yticks(range(len(tasks)), tasks)
    axes.set_xlabel("expert (hatched: frozen before the task; dot: most used by it, so frozen after)")
    axes.grid(False)
    return figure


def prediction() -> Figure:
    """How a picture is answered: frozen features, the autoencoders' errors, then a router or the frozen CLIP."""
    figure, axes = _sheet(10, 3.6, (-1.3, 14.2), (-0.2, 5.2))
    picture = Box(0, 2.5, "picture", width=1.6)
    clip = Box(2.7, 2.5, "frozen CLIP", FROZEN, HATCH)
    coders = [Box(5.9, 4.3 - 1.0 * t, f"autoencoder {t + 1}", LEARNS, width=2.2, height=0.7) for t in range(3)]
    chooser = Box(8.9, 3.3, "least error\nbelow its\nthreshold?", DECIDES, width=1.9, height=1.4)
    routed = Box(11.9, 4.2, "CLIP with the\nrouter of that task", LEARNS, width=2.7, height=1.0)
    plain = Box(11.9, 1.6, "the untouched CLIP", FROZEN, HATCH, width=2.7)
    for box in (picture, clip, *coders, chooser, routed, plain):
        box.draw(axes)
    arrow(axes, (0.9, 2.5), (1.6, 2.5))
    for coder in coders:
        arrow(axes, (3.8, 2.5), (4.7, coder.y))
        arrow(axes, (7.1, coder.y), (7.85, 3.3))
    arrow(axes, (9.95, 3.6), (10.45, 4.1))
    arrow(axes, (9.95, 3.0), (10.45, 1.8))
    axes.text(10.1, 4.25, "yes", fontsize=9, ha="right")
    axes.text(10.0, 2.1, "no", fontsize=9, ha="right")
    axes.text(5.9, 1.5, "one for each learned task", fontsize=8, ha="center")
    _legend(axes, 0.25)
    return figure


def _sheet(width: float, height: float, x: tuple[float, float], y: tuple[float, float]) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(width, height))
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    axes.set_axis_off()
    return figure, axes


def _legend(axes: Axes, y: float) -> None:
    kinds = ((0.2, FROZEN, HATCH, "frozen"), (2.6, LEARNS, "", "learns"), (5.0, DECIDES, "", "decides"))
    for x, colour, hatch, name in kinds:
        Box(x, y, "", colour, hatch, width=0.6, height=0.35).draw(axes)
        axes.text(x + 0.5, y, name, va="center", fontsize=9)
