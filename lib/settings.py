"""Reading YAML strictly into dataclasses: a key given twice, unknown or missing, a wrong type or range is an error.

A range is declared where the type is, and nowhere else: `crop: PositiveShare`, or `Annotated[int, Rule(...)]`.
"""

import dataclasses
import re
import reprlib
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import yaml

LARGEST = 2**53  # whole numbers up to here are exact as floats too

_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 2, 200, 200
shown = _short.repr  # a bad value in a message: what a file holds may be long and deep


class ParamsError(ValueError):
    """A params file that cannot be used; the message says where and what to do."""


class Rule(NamedTuple):
    """What a value must be besides its type: in the words of a message, and as a test whose answer is true or not."""

    words: str
    holds: Callable[[Any], object]


def each_once(values: list[Any]) -> bool:
    """True if no value is in the list twice."""
    return len(set(values)) == len(values)


def _has_place(template: str) -> bool:
    try:
        return "{}" in template and bool(template.format("x"))
    except (ValueError, LookupError, AttributeError):
        return False


Count = Annotated[int, Rule("0 or more", lambda n: n >= 0)]
Positive = Annotated[int, Rule("1 or more", lambda n: n >= 1)]
Weight = Annotated[float, Rule("0 or more", lambda x: x >= 0)]
Rate = Annotated[float, Rule("more than 0", lambda x: x > 0)]
Share = Annotated[float, Rule("0 to 1", lambda x: 0 <= x <= 1)]
PositiveShare = Annotated[float, Rule("more than 0 and at most 1", lambda x: 0 < x <= 1)]
# what becomes a part of a file's name: never a folder, nor hidden
Name = Annotated[str, Rule("letters, digits, and _ + - . inside", re.compile(r"[\w+][\w+.-]*").fullmatch)]
SIZES = ["image_size", "width", "layers", "heads", "embed", "context", "text_layers"]  # of the tiny CLIP
Sizes = Annotated[dict[str, Positive], Rule(f"a number for each of {', '.join(SIZES)}", lambda s: set(s) == {*SIZES})]
Template = Annotated[str, Rule("text with {} for the class name, and no other braces", _has_place)]
Order = Annotated[list[Name], Rule("one task or more, each once", lambda names: bool(names) and each_once(names))]


def build(cls: Any, raw: Any, where: str) -> Any:
    """An instance of a dataclass from a mapping, checked key by key, type by type and rule by rule."""
    if not isinstance(raw, dict):
        raise ParamsError(f"{where}: expected a mapping, found {shown(raw)}")
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = set(raw) - set(fields)
    if unknown:
        named = ", ".join(sorted(map(str, unknown)))
        raise ParamsError(f"{where}: unknown key {named}; allowed: {', '.join(fields)}")
    optional = {n for n, f in fields.items() if not _required(f)}
    missing = set(fields) - set(raw) - optional
    if missing:
        raise ParamsError(f"{where}: missing key {', '.join(sorted(missing))}")
    return cls(**{name: _value(hints[name], value, f"{where}: {name}") for name, value in raw.items()})


def _required(entry: dataclasses.Field) -> bool:
    return entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING


def _value(hint: Any, value: Any, where: str) -> Any:
    """`value` checked against a type hint; an int is taken where a float is meant, a bool never for a number."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, int | float) and not abs(value) <= LARGEST:  # nan is not, either
        raise ParamsError(f"{where} is no number that can be computed with; give one of at most {LARGEST}")
    if origin is Annotated:
        return _ruled(args[0], args[1], value, where)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if hint is Any:
        return value
    if origin is Literal:
        if value not in args:
            raise ParamsError(f"{where} is {shown(value)}; allowed: {', '.join(map(str, args))}")
        return value
    if origin in (types.UnionType, typing.Union):
        return _any_of(args, value, where)
    if origin is list and isinstance(value, list):
        return [_value(args[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {_value(args[0], k, where): _value(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is None and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise ParamsError(f"{where} is {shown(value)}; expected {getattr(hint, '__name__', hint)}")


def _ruled(hint: Any, rule: Rule, value: Any, where: str) -> Any:
    found = _value(hint, value, where)
    if not rule.holds(found):
        raise ParamsError(f"{where} is {shown(value)}; it must be {rule.words}")
    return found


def _any_of(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    for hint in hints:
        if dataclasses.is_dataclass(hint) and isinstance(value, dict):
            return build(hint, value, where)  # its own message names the key
        try:
            return None if hint is type(None) and value is None else _value(hint, value, where)
        except ParamsError:
            continue
    raise ParamsError(f"{where} is {shown(value)}; expected {' or '.join(map(_in_words, hints))}")


def _in_words(hint: Any) -> str:
    """A type hint as a message names it: int, None, list[int], a rule, or the choices of a Literal."""
    if typing.get_origin(hint) is Annotated:
        inner, rule = typing.get_args(hint)
        return f"{_in_words(inner)} ({rule.words})"
    if typing.get_origin(hint) is dict:
        return f"dict[{', '.join(map(_in_words, typing.get_args(hint)))}]"
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(str, typing.get_args(hint)))
    if hint is type(None):
        return "None"
    return str(hint) if typing.get_args(hint) else getattr(hint, "__name__", str(hint))


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, but a key given twice is an error instead of a silent last word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping as it is written, before merges are resolved; its keys are all different."""
        node = super().compose_mapping_node(anchor)
        keys = [str(key.value) for key, _ in node.value if key.value != "<<"]
        twice = {k for k in keys if keys.count(k) > 1}
        if twice:
            raise yaml.YAMLError(f"key {', '.join(sorted(twice))} given twice{node.start_mark}")
        return node


def read_yaml(raw: bytes) -> Any:
    """What a YAML file holds, as plain values. Raises ParamsError, which says where, if it is not valid."""
    try:
        return yaml.load(raw.decode(), UniqueKeyLoader)
    except RecursionError:
        raise ParamsError("not valid YAML: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:  # a date that is none, a number of 5000 digits
        raise ParamsError(f"not valid YAML: {error}") from error
