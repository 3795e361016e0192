"""Transfer, Average, Last and Forgetting, worked by hand."""

import math
from collections.abc import Callable

import pytest
import torch

from lib import metrics

Formula = Callable[[metrics.Matrix], float]
# after task 0 1 2 (rows) on task 0 1 2 (columns)
MATRIX = [[90.0, 40.0, 30.0], [80.0, 95.0, 20.0], [70.0, 99.0, 85.0]]


def test_accuracy_is_the_percent_of_right_answers() -> None:
    assert metrics.accuracy([0, 1, 2], [0, 2, 2]) == 66.6667
    assert metrics.accuracy(torch.tensor([1, 1]), torch.tensor([1, 1])) == 100


def test_metrics_by_hand() -> None:
    # task 1: 40 before it was learned; task 2: (30 + 20) / 2 = 25; together (40 + 25) / 2
    assert metrics.transfer(MATRIX) == pytest.approx(32.5)
    assert metrics.average(MATRIX) == pytest.approx(609 / 9)
    assert metrics.last(MATRIX) == pytest.approx((70 + 99 + 85) / 3)
    # task 0: max(90, 80, 70) - 70 = 20; task 1: max(95, 99) - 99 = 0, the 40 before it does not count
    assert metrics.forgetting(MATRIX) == pytest.approx(10.0)


def test_forgetting_does_not_count_what_was_known_before_learning() -> None:
    # task 1 was at 100 zero-shot and fell to 60 by being learned: nothing learned was forgotten
    assert metrics.forgetting([[50.0, 100.0], [50.0, 60.0]]) == 0


def test_one_task_has_neither_transfer_nor_forgetting() -> None:
    assert math.isnan(metrics.transfer([[70.0]]))
    assert math.isnan(metrics.forgetting([[70.0]]))
    assert metrics.average([[70.0]]) == metrics.last([[70.0]]) == 70


def test_metrics_of_some_rows_by_hand() -> None:
    rows, after = [MATRIX[0], MATRIX[2]], [1, 3]
    # task 1: 40, task 2: 30 in the one row before each
    assert metrics.transfer(rows, after) == pytest.approx(35)
    assert metrics.average(rows, after) == pytest.approx((90 + 40 + 30 + 70 + 99 + 85) / 6)
    assert metrics.last(rows, after) == metrics.last(MATRIX)
    assert metrics.forgetting(rows, after) == pytest.approx(10)  # task 0: 90 - 70; task 1: 99 - 99
    assert metrics.transfer(MATRIX[1:], [2, 3]) == pytest.approx(20)  # no row comes before task 1, one before task 2


def test_the_last_row_must_be_there() -> None:
    with pytest.raises(ValueError, match="T x T"):
        metrics.last(MATRIX[:2], [1, 2])


@pytest.mark.parametrize("formula", metrics.METRICS.values())
@pytest.mark.parametrize(("matrix", "shape"), [([[1.0, 2.0]], "1, 2"), ([1.0, 2.0], "2,")])
def test_another_shape_is_refused(formula: Formula, matrix: metrics.Matrix, shape: str) -> None:
    with pytest.raises(ValueError, match=f"T x T .* this one is .{shape}"):
        formula(matrix)


def test_class_incremental_metrics_by_hand() -> None:
    rows, pictures = [[90.0], [60.0, 80.0], [30.0, 60.0, 90.0]], [100, 50, 50]
    assert metrics.seen(rows, pictures) == pytest.approx([90, (6000 + 4000) / 150, (3000 + 3000 + 4500) / 200])
    found = {name: formula(rows) for name, formula in metrics.incremental(pictures).items()}
    assert math.isnan(found["transfer"])
    assert found["average"] == pytest.approx((90 + 66.6667 + 52.5) / 3, abs=1e-3)
    assert found["last"] == pytest.approx(52.5)
    assert found["forgetting"] == pytest.approx(((90 - 30) + (80 - 60)) / 2)
