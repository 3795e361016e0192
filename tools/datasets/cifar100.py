"""CIFAR-100 without unpickling: the published files are pickles, and a pickle can run any code.

This reader builds lists, dicts, text and numbers, and reads the one numpy array of a file from its recorded parts.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np


class _Recorded:
    """Stands in for a numpy object of the pickle: records its arguments and its state, and runs no numpy code."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def pixels(self) -> np.ndarray:
        """The recorded array. Raises ValueError if it does not hold bytes."""
        _, shape, dtype, fortran, raw = self.state
        if dtype.arguments[0] != "u1":
            raise ValueError(f"its pictures are of type {dtype.arguments[0]!r}, not bytes (u1)")
        return np.frombuffer(raw.encode("latin1"), np.uint8).reshape(shape, order="F" if fortran else "C")


class _Unpickler(pickle.Unpickler):
    """Refuses every name in a pickle except the three that make a numpy array, and records these."""

    ALLOWED = (("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"))

    def find_class(self, module: str, name: str) -> type[_Recorded]:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}: not the published file")
        return _Recorded


def _load(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        try:
            return _Unpickler(opened, encoding="latin1").load()  # Python 2 wrote it: its bytes are text here
        except Exception as error:  # a damaged pickle can raise anything
            raise ValueError(f"{file} cannot be read: {error}") from error


def read(folder: Path, split: str) -> tuple[list[str], list[int], np.ndarray]:
    """Class names, labels and pictures (N, 32, 32, 3) uint8 of a split. Raises ValueError for a file it refuses."""
    content, meta = _load(folder / split), _load(folder / "meta")
    pictures = content["data"].pixels().reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return list(meta["fine_label_names"]), [int(label) for label in content["fine_labels"]], pictures
