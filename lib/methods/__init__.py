"""The methods of the comparison. A method is one class in a module here, and one line in names.py.

The classes are loaded when asked for: a stage then depends on its own method's modules and on no other's.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lib.methods.names import METHODS
from lib.settings import ParamsError

if TYPE_CHECKING:
    from lib.methods.base import Method


def method_class(name: str) -> "type[Method]":
    """The class of a method. Raises ParamsError, naming those there are, if it is unknown."""
    if name not in METHODS:
        raise ParamsError(f"there is no method {name!r}; there are: {', '.join(METHODS)}")
    module, _, cls = METHODS[name].partition(".")
    return getattr(import_module(f"lib.methods.{module}"), cls)
