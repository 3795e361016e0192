"""Transfer, Average, Last and Forgetting of an accuracy matrix.

A[i, j] is the accuracy in percent on task j after learning task i, rows and columns in the order of learning
(definitions of ZSCL, Zheng et al. 2023, which the paper uses). A long sequence may be tested after some tasks only
(R of T); then the metrics are those formulas over the rows that there are, the last of which is after task T-1.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

Matrix = np.ndarray | list[list[float]]


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Percent of predicted classes (N,) that are right, to four decimals."""
    return round(100 * float(np.mean(np.asarray(predicted) == np.asarray(labels))), 4)


def _checked(matrix: Matrix, after: list[int] | None) -> tuple[np.ndarray, np.ndarray]:
    """The matrix (R, T), and the number of the last task learned at each row (R,)."""
    values = np.asarray(matrix, dtype=np.float64)
    rows = np.arange(len(values)) if after is None else np.asarray(after) - 1
    if values.ndim != 2 or len(values) != len(rows) or rows[-1] != values.shape[1] - 1:
        raise ValueError(f"an accuracy matrix is T x T (a row after each task, or `after`); this one is {values.shape}")
    return values, rows


def transfer(matrix: Matrix, after: list[int] | None = None) -> float:
    """Zero-shot ability kept, in percent: mean over tasks j >= 1 of the mean of A[i, j] over i < j; nan if T = 1.

    after: how many tasks were learned at each row (R,); None = 1 to T. A task that no row precedes is left out.
    """
    values, rows = _checked(matrix, after)
    before = [values[rows < j, j].mean() for j in range(values.shape[1]) if (rows < j).any()]
    return float(np.mean(before)) if before else np.nan


def average(matrix: Matrix, after: list[int] | None = None) -> float:
    """Mean of all A[i, j], in percent."""
    return float(_checked(matrix, after)[0].mean())


def last(matrix: Matrix, after: list[int] | None = None) -> float:
    """Mean of the last row, in percent: every task after all were learned."""
    return float(_checked(matrix, after)[0][-1].mean())


def forgetting(matrix: Matrix, after: list[int] | None = None) -> float:
    """Mean over tasks j < T-1 of (max over i >= j of A[i, j]) - A[T-1, j], in percentage points; nan if T = 1."""
    values, rows = _checked(matrix, after)
    drops = [values[rows >= j, j].max() - values[-1, j] for j in range(values.shape[1] - 1)]
    return float(np.mean(drops)) if drops else np.nan


def seen(matrix: list[list[float]], pictures: list[int]) -> list[float]:
    """Class-incremental: after each task the percent of all test pictures so far that are right (as in released code).

    Row i of the matrix has the i + 1 tasks learned so far, answered among all their classes. pictures: of each task.
    """
    return [float(np.average(row, weights=pictures[: len(row)])) for row in matrix]


def incremental(pictures: list[int]) -> dict[str, Callable[[list[list[float]]], float]]:
    """The four metrics of class-incremental learning: Average and Last are of `seen`; there is no Transfer."""
    return {
        "transfer": lambda matrix: np.nan,
        "average": lambda matrix: float(np.mean(seen(matrix, pictures))),
        "last": lambda matrix: seen(matrix, pictures)[-1],
        # filled up with zeros, because it looks below the diagonal only
        "forgetting": lambda matrix: forgetting([[*row, *[0.0] * (len(matrix) - len(row))] for row in matrix]),
    }


METRICS = {"transfer": transfer, "average": average, "last": last, "forgetting": forgetting}
