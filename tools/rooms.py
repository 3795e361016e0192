"""The rooms of the house: which room imports which, and how large each is.

`python -m tools.rooms` draws docs/architecture.png. A test holds the allowed imports (ALLOWED).
"""

import ast
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import networkx as nx
from matplotlib.figure import Figure

from lib.study.studies import ROOT

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
    "tools.course": {"tools.stages"},
}
ROWS = (  # of the picture; a room stands to the right of those that it imports
    "tools.miniworld tools.datasets tools.bench tools.course tools.stages",
    "- lib.moe - - lib.report",
    "lib.clip - - lib.methods lib.study",
    "- lib.selector lib.data - -",
)
PLACES = {room: (x, -y) for y, row in enumerate(ROWS) for x, room in enumerate(row.split()) if room != "-"}


def room_of(module: str) -> str:
    """The room of a module: its package, or the module itself where it stands in no room."""
    return ".".join(module.split(".")[:2])


def modules() -> dict[str, Path]:
    """Every module of lib and tools with its file."""
    files = sorted([*ROOT.glob("lib/**/*.py"), *ROOT.glob("tools/**/*.py")])
    return {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


def arrows() -> dict[tuple[str, str], set[str]]:
    """For each pair of rooms of which the first imports the second, at any depth, the modules that do."""
    pairs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for module, file in modules().items():
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name}" for name in names]
            for room in map(room_of, names):
                if room.startswith(("lib.", "tools.")) and room != room_of(module):
                    pairs[room_of(module), room].add(module)
    return pairs


def draw() -> Figure:
    """A box for each room with its size; an arrow points from a room of lib to one that it imports."""
    pairs = [pair for pair in arrows() if set(pair) <= ALLOWED.keys() and pair[0].startswith("lib")]
    graph = nx.transitive_reduction(nx.DiGraph(pairs))
    graph.add_nodes_from(PLACES)
    labels = {}
    for room in graph:
        lines = [len(file.read_text().splitlines()) for module, file in modules().items() if room_of(module) == room]
        labels[room] = f"{room.replace('.', '/')}\n{len(lines)} files, {sum(lines):,} lines"
    box = {"boxstyle": "round,pad=0.5", "fc": "#cfe8f7", "ec": "black"}
    figure, axes = plt.subplots(figsize=(10, 4))
    nx.draw_networkx(graph, PLACES, labels=labels, ax=axes, font_size=8, node_size=6500, node_color="none", bbox=box)
    axes.set_title("arrow: imports. tools import lib; lib never imports tools", fontsize=9, loc="left")
    axes.margins(x=0.1, y=0.15)
    axes.set_axis_off()
    return figure


if __name__ == "__main__":
    draw().savefig(ROOT / "docs" / "architecture.png", dpi=130, bbox_inches="tight", metadata={"Software": None})
