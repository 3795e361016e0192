"""Reading YAML strictly into dataclasses: a key given twice, an unknown or missing key, or a wrong type is an error."""

import dataclasses
import types
import typing
from typing import Any, Literal

import yaml


class ParamsError(ValueError):
    """A params file that cannot be used; the message says where and what to do."""


def build(cls: Any, raw: Any, where: str) -> Any:
    """An instance of a dataclass from a mapping, checked key by key and type by type."""
    if not isinstance(raw, dict):
        raise ParamsError(f"{where}: expected a mapping, found {raw!r}")
    hints = typing.get_type_hints(cls)
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
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if hint is Any:
        return value
    if origin is Literal:
        if value not in args:
            raise ParamsError(f"{where} is {value!r}; allowed: {', '.join(map(str, args))}")
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
    raise ParamsError(f"{where} is {value!r}; expected {getattr(hint, '__name__', hint)}")


def _any_of(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    for hint in hints:
        if dataclasses.is_dataclass(hint) and isinstance(value, dict):
            return build(hint, value, where)  # its own message names the key
        try:
            return None if hint is type(None) and value is None else _value(hint, value, where)
        except ParamsError:
            continue
    raise ParamsError(f"{where} is {value!r}; expected {' or '.join(_in_words(h) for h in hints)}")


def _in_words(hint: Any) -> str:
    """A type hint as a message names it: int, None, list[int], or the choices of a Literal."""
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
        keys = [key.value for key, _ in node.value if key.value != "<<"]
        twice = {k for k in keys if keys.count(k) > 1}
        if twice:
            raise yaml.YAMLError(f"key {', '.join(sorted(twice))} given twice{node.start_mark}")
        return node
