"""Reads settings strictly: YAML, then a dataclass; an unknown or missing key, a wrong type or range is one line.

A range is declared where the type is, and nowhere else: `crop: PositiveShare`. pydantic does the checking.
"""

import dataclasses
import json
import re
import reprlib
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

from annotated_types import Interval
from pydantic import AfterValidator, TypeAdapter, ValidationError

LARGEST = 2**53  # up to here every whole number is exact as a float; nan and infinity lie outside every range
Count = Annotated[int, Interval(ge=0, le=LARGEST)]
Positive = Annotated[int, Interval(ge=1, le=LARGEST)]
Number = Annotated[float, Interval(ge=-LARGEST, le=LARGEST)]
Weight = Annotated[float, Interval(ge=0, le=LARGEST)]
Rate = Annotated[float, Interval(gt=0, le=LARGEST)]
Share = Annotated[float, Interval(ge=0, le=1)]
PositiveShare = Annotated[float, Interval(gt=0, le=1)]


def rule(words: str, holds: Callable[[Any], object]) -> AfterValidator:
    """What a value must be besides its type: in words, for the message, and as a test."""

    def checked(value: Any) -> Any:
        if not holds(value):
            raise ValueError(f"it must be {words}")
        return value

    return AfterValidator(checked)


def each_once(values: list[Any]) -> bool:
    """True if no value is in the list twice."""
    return len(set(values)) == len(values)


# a part of a file's name: it can name no other folder, and is not hidden
Name = Annotated[str, rule("letters, digits, and _ + - . inside", re.compile(r"[\w+][\w+.-]*").fullmatch)]
Template = Annotated[
    str, rule("text with {} for the class name, and no other braces", re.compile(r"[^{}]*({}[^{}]*)+").fullmatch)
]
Order = Annotated[list[Name], rule("one task or more, each once", lambda names: bool(names) and each_once(names))]

# the name of a type, which pydantic puts between the keys where a value may have several types
_TYPE = re.compile(r"\[|^constrained-|^(bool|int|float|str)$")
_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 2, 200, 200
shown = _short.repr  # how a message shows a bad value: cut short


class ParamsError(ValueError):
    """A file of settings that cannot be used; the message names the file, the key, its value and what is allowed."""


def build(cls: Any, raw: Any, where: str) -> Any:
    """An instance of a dataclass from a mapping of plain values. An int is taken for a float, no text for a number.

    Raises ParamsError, in one line that begins with `where` and names every key that is wrong.
    """
    try:
        # As JSON: from Python values, pydantic's strict mode takes no mapping for a dataclass.
        return TypeAdapter(cls).validate_json(json.dumps(raw, default=str), strict=True, extra="forbid")
    except ValidationError as error:
        raise ParamsError(f"{where}: {_in_words(cls, error.errors())}") from None
    except (RecursionError, TypeError, ValueError) as error:  # nested without end, or with a date as a key
        raise ParamsError(f"{where} holds more than plain values ({error})") from None


def _in_words(cls: Any, errors: list[Any]) -> str:
    """One clause for every key that is wrong. A value that fits none of several types has an error for each of them."""
    clauses: dict[tuple[str, ...], str] = {}
    for error in sorted(errors, key=lambda error: error["type"] == "missing"):  # a misspelt key comes first
        path = tuple(str(part) for part in error["loc"] if not _TYPE.search(str(part)))
        other = error["msg"].removeprefix("Input should be ")
        clauses[path] = f"{clauses[path]} or {other}" if path in clauses else _clause(cls, error, path)
    innermost = [path for path in clauses if not any(path == other[: len(path)] != other for other in clauses)]
    return "; ".join(clauses[path] for path in innermost[:5]).replace("an object", "a mapping").replace("array", "list")


def _clause(cls: Any, error: Any, path: tuple[str, ...]) -> str:
    key, message = ".".join(path)[:200] or "all of it", error["msg"].removeprefix("Value error, ")
    match error["type"]:
        case "missing":
            return f"missing key {key}"
        case "unexpected_keyword_argument":
            return f"unknown key {key}; allowed: {', '.join(_keys(cls, path[:-1]))}"
        case "value_error" if isinstance(error["input"], dict):  # of a __post_init__, which names the key and its value
            return f"{'.'.join(path)}: {message}".removeprefix(": ")
    return f"{key} is {shown(error['input'])}; {message.replace('Input', 'it')}"


def _keys(hint: Any, path: tuple[str, ...]) -> list[str]:
    """The keys of the dataclass to which a path leads from `hint`."""
    for key in path:
        hint = typing.get_type_hints(hint)[key] if dataclasses.is_dataclass(hint) else typing.get_args(hint)[-1]
        hint = typing.get_args(hint)[0] if isinstance(hint, types.UnionType) else hint  # of `Class | None`
    return [field.name for field in dataclasses.fields(hint)]
