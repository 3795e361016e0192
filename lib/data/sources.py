"""Where tasks come from: one module for each source, imported only when its pictures are needed.

It has `prepare(name, settings, size, root, file)`, which writes a task by lib.data.tasks.save, and `reference(settings,
template, size, root)`, which gives pictures (N, H, W, 3) uint8 of a reference set and their captions (by `template` if
they have none). size: pixels a side; root: where relative paths in the settings start. Both raise TaskError for what
cannot be used. A source that has certain tasks and no others lists them in NAMES.
"""

from importlib import import_module
from types import ModuleType

SOURCES = {"mini": "tools.miniworld.mini_tasks", "folder": "lib.data.folders", "datasets": "tools.datasets.decode"}


def source(name: str) -> ModuleType:
    """The module of a source."""
    return import_module(SOURCES[name])
