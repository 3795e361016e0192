"""Curves over a long sequence, worked by hand, and their figure."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt

from lib.files import write_json
from lib.report import long, tables
from tests.support.made_results import result, write


def sparse(run: str, seed: int = 0) -> dict[str, Any]:
    """Three tasks, tested after the first and the last."""
    rows = [[90.0, 40.0, 30.0], [70.0, 99.0, 85.0 + seed]]
    routed = {"union_sample": [[[5, 0], [3, 1], [0, 4]], [[5, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0]]]}
    return result(run, seed, accuracy={"sample": rows, "union_sample": rows}, tested_after=[1, 3], routed=routed)


def test_curves_by_hand() -> None:
    content = sparse("beyond")
    assert long.accuracy_of(content, learned=True) == {1: 90.0, 3: pytest.approx((70 + 99 + 85) / 3)}
    assert long.accuracy_of(content, learned=False) == {1: 35.0}
    assert long.claimed(content) == {1: pytest.approx(100 * 3 / 8)}  # of eight pictures of tasks to come
    assert long.claimed(content | {"routed": {}}) == {}


def test_what_was_spent_comes_from_the_cost_file(tmp_path: Path) -> None:
    assert long.spent(tmp_path, sparse("beyond"), "training") == {}
    seconds = {task: {"training": number, "evaluation": 9} for number, task in enumerate(("red", "green", "blue"), 1)}
    cost = {"seconds": seconds, "stored_bytes": {"red": 1_000_000, "green": 2_500_000}}
    write_json(tmp_path / "beyond--I--s0.json", cost)
    assert long.spent(tmp_path, sparse("beyond"), "training") == {1: 1, 2: 2, 3: 3}
    assert long.spent(tmp_path, sparse("beyond"), "stored_bytes") == {1: 1.0, 2: 2.5}


def test_results_with_some_rows_are_read_and_drawn(tmp_path: Path, no_window: None) -> None:
    write(tmp_path, *(sparse(run, seed) for run in ("beyond", "moe_adapters") for seed in (0, 1)))
    figure = plt.figure(figsize=(12, 6))
    long.over_tasks(tables.read(tmp_path), tmp_path / "cost", figure)
    assert np.asarray(figure.axes[0].lines[0].get_ydata()).tolist() == pytest.approx([90, (70 + 99 + 85.5) / 3])


def test_a_result_with_a_row_too_few_is_broken(tmp_path: Path) -> None:
    write(tmp_path, sparse("beyond") | {"tested_after": [1, 2, 3]})
    with pytest.raises(tables.ResultError, match="rows of"):
        tables.read(tmp_path)
