"""Results made up for tests, with metrics that follow from their matrices."""

from pathlib import Path
from typing import Any

import numpy as np

from lib.files import write_json
from lib.metrics import METRICS

MATRIX = [[50.0, 80.0, 60.0], [48.0, 90.0, 62.0], [46.0, 88.0, 85.0]]
SELECTS = ("sample", "batch", "oracle")  # the decisions of a method with a selector


def result(
    run: str, seed: int = 0, order: str = "I", more: float = 0, union: float | None = None, **changes: Any
) -> dict[str, Any]:
    """A result of three tasks: `more` is added to each accuracy; a metric in `changes` is its value by the sample.

    The mixture and Expert Gate have a selector: per batch everything is a point higher, by the oracle two. union: so
    many points lower is all of it among the classes of all tasks; None: that was not tested.
    """
    method, _, variant = run.partition("+")
    shifts: dict[str, float] = dict(zip(SELECTS, (0, 1, 2), strict=True))
    if method not in ("moe_adapters", "expert_gate"):
        shifts = {"sample": 0}
    if union is not None:
        shifts |= {f"union_{decision}": shift - union for decision, shift in shifts.items()}
    accuracy = {decision: np.array(MATRIX) + more + shift for decision, shift in shifts.items()}
    content = {"study": "tiny", "method": method, "variant": variant, "order": order, "seed": seed}
    content |= {"tasks": ["red", "green", "blue"], "classes": [5, 6, 7]}
    content |= {"accuracy": {decision: matrix.tolist() for decision, matrix in accuracy.items()}}
    content |= {"trainable_parameters": 1000, "stored_bytes": 1_000_000}
    for metric, formula in METRICS.items():
        value = changes.pop(metric, None)
        content[metric] = {
            decision: formula(matrix) if value is None else value + shifts[decision]
            for decision, matrix in accuracy.items()
        }
    return content | changes


def write(folder: Path, *results: dict[str, Any]) -> None:
    """Writes results under their names."""
    for content in results:
        run = content["method"] + (f"+{content['variant']}" if content["variant"] else "")
        write_json(folder / f"{run}--{content['order']}--s{content['seed']}.json", content)
