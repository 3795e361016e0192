"""Where tasks come from: one module for each source, loaded only when its pictures are needed.

A source has two functions: `prepare(name, settings, size, root, file)` writes a prepared task (lib.data.tasks), and
`reference(settings, template, size, root)` gives pictures (N, H, W, 3) uint8 and captions of the reference set.
`size` is in pixels a side; relative paths in the settings start at `root`.
"""

from importlib import import_module
from typing import Any

SOURCES = {
    "mini": "tools.miniworld.mini_tasks",
    "folder": "lib.data.folder_tasks",
    "datasets": "tools.datasets.decode",
}


def source(name: str) -> Any:
    """The module of a source."""
    return import_module(SOURCES[name])
