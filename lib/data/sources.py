"""Where tasks come from: one module for each source, imported only when its pictures are needed.

The two functions of `Source` are all that a source module must have. Both raise TaskError for what cannot be used.
A source that has certain tasks and no others lists them in NAMES.
"""

from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from lib.data.reference import ReferenceSettings
from lib.data.tasks import TaskSettings

SOURCES = {"mini": "tools.miniworld.mini_tasks", "folder": "lib.data.folders", "datasets": "tools.datasets.decode"}


class Source(Protocol):
    """A source's functions. size: pixels a side. root: where relative paths in the settings start."""

    def prepare(self, name: str, settings: TaskSettings, size: int, root: Path, file: Path) -> None:
        """Writes the task of that name to `file`, as `lib.data.tasks.save` does."""

    def reference(
        self, settings: ReferenceSettings, template: str, size: int, root: Path
    ) -> tuple[np.ndarray, list[str]]:
        """Pictures (N, H, W, 3) uint8 of a reference set, and their captions (by `template`, if they have none)."""
        raise NotImplementedError


def source(name: str) -> Source:
    """The module of a source."""
    return cast(Source, import_module(SOURCES[name]))
