"""The rooms of the house: which room imports which, and how large each is.

`python -m tools.rooms` draws docs/architecture.png and prints a table. A test holds the allowed imports (ALLOWED).
"""

import ast
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import networkx as nx
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from lib.study.paths import ROOT

LEAVES = ("lib.settings", "lib.strict_yaml", "lib.files", "lib.metrics")  # modules that every room may import
# Each room may import those named here and the leaves; a room of tools may import all of lib and the tools named.
ALLOWED: dict[str, set[str]] = {
    "lib.clip": set(),
    "lib.moe": {"lib.clip"},
    "lib.selector": {"lib.clip"},
    "lib.data": {"lib.clip", "lib.selector"},
    "lib.methods": {"lib.clip", "lib.moe", "lib.selector", "lib.data"},
    "lib.study": {"lib.clip", "lib.moe", "lib.selector", "lib.data", "lib.methods"},
    "lib.report": set(),
    "tools.miniworld": set(),
    "tools.datasets": set(),
    "tools.stages": {"tools.datasets"},
    "tools.bench": {"tools.datasets"},
    "tools.course": set(),
}
PLACES = {  # of the boxes, in units of the picture: from left to right, from what is imported to what imports
    "lib.clip": (0, 1),
    "lib.moe": (1, 1.7),
    "lib.selector": (1, 0.3),
    "lib.data": (2, 0.3),
    "lib.methods": (3, 1),
    "lib.study": (4, 1),
    "lib.report": (4, -0.4),
    "tools.miniworld": (0, 3),
    "tools.datasets": (1, 3),
    "tools.bench": (2, 3),
    "tools.course": (3, 3),
    "tools.stages": (4, 3),
}


def room_of(module: str) -> str:
    """The room of a module: its package, or the module itself where it stands in no room."""
    return ".".join(module.split(".")[:2])


def modules() -> dict[str, Path]:
    """Every module of lib and tools with its file."""
    files = sorted([*ROOT.glob("lib/**/*.py"), *ROOT.glob("tools/**/*.py")])
    return {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


def imports(file: Path) -> set[str]:
    """The modules of the project that a file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.partition(".")[0] in ("lib", "tools")}


def arrows() -> dict[tuple[str, str], set[str]]:
    """For each pair of rooms of which the first imports the second, the modules that do."""
    pairs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for module, file in modules().items():
        for imported in imports(file):
            if room_of(imported) != room_of(module):
                pairs[room_of(module), room_of(imported)].add(module)
    return pairs


def sizes() -> dict[str, tuple[int, int]]:
    """Files and lines of each room, and of the modules that stand in none."""
    counted: dict[str, tuple[int, int]] = {}
    for module, file in modules().items():
        files, lines = counted.get(room_of(module), (0, 0))
        counted[room_of(module)] = files + 1, lines + len(file.read_text().splitlines())
    return counted


def draw() -> Figure:
    """A box for each room with its size; an arrow points from a room to one that it imports."""
    figure, axes = plt.subplots(figsize=(11, 5))
    counted = sizes()
    pairs = nx.transitive_reduction(nx.DiGraph(pair for pair in arrows() if set(pair) <= set(ALLOWED)))
    for room, (x, y) in PLACES.items():
        colour = "#56B4E9" if room.startswith("lib") else "#e0e0e0"
        axes.add_patch(FancyBboxPatch((x - 0.33, y - 0.2), 0.66, 0.4, boxstyle="round,pad=0.05", fc=colour, ec="black"))
        files, lines = counted[room]
        axes.text(
            x, y, f"{room.replace('.', '/')}\n{files} files, {lines:,} lines", ha="center", va="center", fontsize=8
        )
    for start, end in pairs.edges:
        if start.startswith("lib"):
            axes.add_patch(
                FancyArrowPatch(
                    PLACES[start], PLACES[end], arrowstyle="-|>", mutation_scale=12, color="0.2", lw=1,
                    shrinkA=44, shrinkB=44,
                )
            )  # fmt: skip
    axes.text(-0.35, 2.3, "tools import lib; lib never imports tools", fontsize=9, style="italic")
    axes.text(
        -0.35,
        -0.75,
        "arrow: imports. settings, files and metrics are single modules that every room may import",
        fontsize=8,
    )
    axes.set_xlim(-0.5, 4.5)
    axes.set_ylim(-0.9, 3.4)
    axes.set_axis_off()
    return figure


def main() -> None:
    """Draws the picture and prints the table."""
    for room, (files, lines) in sorted(sizes().items()):
        print(f"{room:22} {files:3} files {lines:6,} lines")
    draw().savefig(ROOT / "docs" / "architecture.png", dpi=130, bbox_inches="tight", metadata={"Software": None})


if __name__ == "__main__":
    main()
