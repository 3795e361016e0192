"""Diagrams drawn by code: a block with its mixture, when experts are frozen, and how a picture is answered.

The palette is that of the figures. Frozen parts are hatched, so that the diagrams also read in grey.
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from lib.report.figures import AMBER, BLUE, SKY

# colour and hatch of a box: CLIP and what is frozen; experts and routers; what decides; everything else
KINDS = {"frozen": ("#e0e0e0", "///"), "learns": (SKY, ""), "decides": (AMBER, ""), "": ("white", "")}
Box = tuple[float, float, float, float, str, str]  # centre, width, height, kind, name
Arrow = tuple[float, float, float, float, str]  # from x, y to x, y; the line
Word = tuple[float, float, str]


def block() -> Figure:
    """A block of either tower: CLIP's frozen attention and MLP, and the experts that a router chooses."""
    boxes: list[Box] = [
        (2.2, 2.3, 2.0, 0.8, "frozen", "attention"),
        (7.2, 1.0, 2.0, 0.8, "frozen", "MLP"),
        (3.6, 5.4, 2.6, 0.8, "decides", "router of task t"),
        (10.4, 2.3, 0.5, 0.5, "", "+"),
        *((7.2, 5.4 - 0.9 * e, 2.0, 0.6, "learns" if e else "frozen", f"expert {e + 1}") for e in range(3)),
    ]
    arrows: list[Arrow] = [
        (0.2, 2.3, 1.1, 2.3, "-"),
        (3.3, 2.3, 10.1, 2.3, "-"),
        (3.3, 2.3, 3.6, 4.9, "-"),
        (3.3, 2.3, 6.1, 1.1, "-"),
        (8.3, 1.1, 10.1, 2.15, "-"),
        (10.7, 2.3, 12.1, 2.3, "-"),
    ]
    for y in (5.4, 4.5):  # the two experts that the router has chosen
        arrows += [(3.3, 2.3, 6.1, y - 0.1, "-"), (5.0, 5.4, 6.1, y + 0.1, ":"), (8.3, y, 10.2, 2.6, "-")]
    words = [(0, 2.3, "x"), (12.3, 2.3, "x'"), (2.5, 3.6, "class token"), (11.2, 4.4, "weighted by the gates")]
    return _diagram((8.5, 4.6), boxes, arrows, words, legend=-0.4)


def prediction() -> Figure:
    """How a picture is answered: frozen features, the autoencoders' errors, then a router or the frozen CLIP."""
    boxes: list[Box] = [
        (0, 2.5, 1.6, 0.8, "", "picture"),
        (2.7, 2.5, 2.0, 0.8, "frozen", "frozen CLIP"),
        (8.9, 3.3, 1.9, 1.4, "decides", "least error\nbelow its\nthreshold?"),
        (11.9, 4.2, 2.7, 1.0, "learns", "CLIP with the\nrouter of that task"),
        (11.9, 1.6, 2.7, 0.8, "frozen", "the untouched CLIP"),
        *((5.9, 4.3 - t, 2.2, 0.7, "learns", f"autoencoder {t + 1}") for t in range(3)),
    ]
    arrows: list[Arrow] = [(0.9, 2.5, 1.6, 2.5, "-"), (9.95, 3.6, 10.45, 4.1, "-"), (9.95, 3.0, 10.45, 1.8, "-")]
    for y in (4.3, 3.3, 2.3):
        arrows += [(3.8, 2.5, 4.7, y, "-"), (7.1, y, 7.85, 3.3, "-")]
    words = [(9.8, 4.25, "yes"), (9.8, 2.1, "no"), (5.9, 1.5, "one for each learned task")]
    return _diagram((10, 3.6), boxes, arrows, words, legend=0.25)


def frozen_when(froze: list[list[int]], experts: int, tasks: list[str]) -> Figure:
    """Which of a block's experts are frozen before each task (a row). froze: the experts that each task froze."""
    figure, axes = plt.subplots(figsize=(0.45 * experts + 2, 0.45 * len(tasks) + 1.2))
    held: set[int] = set()
    for row, new in enumerate(froze):
        for e in range(experts):
            _box(axes, (e, row, 0.76, 0.64, "frozen" if e in held else "", ""))
        axes.plot(new, [row] * len(new), "o", color=BLUE, mec="black", ms=8)
        held |= set(new)
    axes.set(xlim=(-0.7, experts - 0.3), ylim=(len(tasks) - 0.4, -0.6), xticks=range(experts))
    axes.set_yticks(range(len(tasks)), tasks)
    axes.set_xlabel("expert (hatched: frozen before the task; dot: most used by it, so frozen after)")
    axes.grid(False)
    return figure


def _diagram(
    size: tuple[float, float], boxes: list[Box], arrows: list[Arrow], words: list[Word], legend: float
) -> Figure:
    figure, axes = plt.subplots(figsize=size)
    kinds: list[Box] = [(0.2 + 2.4 * i, legend, 0.6, 0.35, kind, "") for i, kind in enumerate(list(KINDS)[:3])]
    for box in boxes + kinds:
        _box(axes, box)
    for x, y, name in words + [(box[0] + 1.0, legend, box[4]) for box in kinds]:
        axes.text(x, y, name, ha="center", va="center", fontsize=9)
    for x, y, end_x, end_y, line in arrows:
        axes.annotate("", (end_x, end_y), (x, y), arrowprops={"arrowstyle": "-|>", "color": "black", "ls": line})
    axes.update_datalim([(x, y) for x, y, _ in words])
    axes.autoscale_view()
    axes.margins(0.04)
    axes.set_axis_off()
    return figure


def _box(axes: Axes, box: Box) -> None:
    """Draws a box and its name, on a white ground if the box is hatched."""
    x, y, width, height, kind, name = box
    colour, hatch = KINDS[kind]
    shape = FancyBboxPatch((x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0.03")
    shape.set(facecolor=colour, edgecolor="black", hatch=hatch)
    axes.add_patch(shape)
    ground = {"fc": "white", "ec": "none", "pad": 1.5, "alpha": 0.85} if hatch else None
    axes.text(x, y, name, ha="center", va="center", fontsize=9, bbox=ground)
