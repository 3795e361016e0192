"""A study: its params and plan, learning stages, and the results they leave.

`from lib.study import open_study` opens one.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lib.study.opened import OpenStudy, open_study

__all__ = ["OpenStudy", "open_study"]


def __getattr__(name: str) -> Any:
    """Loads what it takes to open a study only when somebody does: it takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lib.study import opened

    return getattr(opened, name)
