"""Transfer, Average, Last and Forgetting of an accuracy matrix.

A[i, j] is the accuracy in percent on task j after learning task i, rows and columns in the order of learning
(definitions of ZSCL, Zheng et al. 2023, which the paper uses).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

Matrix = np.ndarray | list[list[float]]


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Percent of predicted classes (N,) that are right, to four decimals."""
    return round(100 * float(np.mean(np.asarray(predicted) == np.asarray(labels))), 4)


def _square(matrix: Matrix) -> np.ndarray:
    values = np.asarray(matrix, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(f"an accuracy matrix is T x T (a row after each task); this one is {values.shape}")
    return values


def transfer(matrix: Matrix) -> float:
    """Zero-shot ability kept, in percent: mean over tasks j >= 1 of the mean of A[i, j] over i < j; nan if T = 1."""
    values = _square(matrix)
    return float(np.mean([values[:j, j].mean() for j in range(1, len(values))])) if len(values) > 1 else np.nan


def average(matrix: Matrix) -> float:
    """Mean of all A[i, j], in percent."""
    return float(_square(matrix).mean())


def last(matrix: Matrix) -> float:
    """Mean of the last row, in percent: every task after all were learned."""
    return float(_square(matrix)[-1].mean())


def forgetting(matrix: Matrix) -> float:
    """Mean over tasks j < T-1 of (max over i >= j of A[i, j]) - A[T-1, j], in percentage points; nan if T = 1."""
    values = _square(matrix)
    drops = [values[j:, j].max() - values[-1, j] for j in range(len(values) - 1)]
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
