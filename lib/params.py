"""The numbers of a study: read once, strictly, from its params file into frozen dataclasses.

An unknown or missing key, or a value of the wrong type, is an error that names the file, the key and what is allowed.
"""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from lib.paths import ROOT


class ParamsError(ValueError):
    """A params file that cannot be used; the message says where and what to do."""


@dataclass(frozen=True)
class Pretrain:
    """The tiny CLIP's training (notebook 02)."""

    seed: int
    pictures: int
    held_out: int
    steps: int
    batch: int
    lr: float
    config: dict[str, int]


@dataclass(frozen=True)
class Backbone:
    """Which CLIP is frozen: a local folder, or an open_clip name with a tag or file of weights."""

    model: str
    pretrained: str


@dataclass(frozen=True)
class Tasks:
    """Where the pictures come from and in which orders the tasks are learned."""

    source: Literal["mini", "folder"]
    root: str
    seed: int
    train_per_class: int
    test_per_class: int
    templates: list[str]
    orders: dict[str, list[str]]


@dataclass(frozen=True)
class Reference:
    """Pictures of none of the tasks, with captions: for ZSCL, LwF-VR and the selector's reference autoencoder.

    source: mini (the pre-training world), or folder (<root>/<class>/*.png, captions by the first template).
    """

    source: Literal["mini", "folder"]
    root: str
    pictures: int
    seed: int


@dataclass(frozen=True)
class Compute:
    """How a run computes. A fixed number of threads: the same bytes whatever the number of cores."""

    threads: int


@dataclass(frozen=True)
class Train:
    """Training on one task, the same for every method (method.md, section 3: the paper's schedule)."""

    steps: int
    batch: int
    warmup: int
    smoothing: float
    crop: float


@dataclass(frozen=True)
class Selector:
    """DDAS: features, autoencoders, threshold, decision."""

    features: Literal["clip", "alexnet"]
    code: int
    steps: int
    batch: int
    lr: float
    weight_decay: float
    rule: Literal["quantile", "absolute"]
    threshold: float
    reference: bool
    batch_decision: int


@dataclass(frozen=True)
class Run:
    """One line of the comparison, named <method> or <method>+<variant>.

    set: what differs: settings of the method, and of SPECIAL. orders: empty = the first. story: part of the main
    story. by_task: in the main story each task is a stage of its own.
    """

    seeds: list[int]
    set: dict[str, Any]
    orders: list[str] = field(default_factory=list)
    story: bool = False
    by_task: bool = False


# What a run may set besides its method's settings, with the value that changes nothing: training pictures of a class
# (0 = all), into how many tasks each task is cut, training steps of a task (0 = the study's).
SPECIAL = {"shots": 0, "cut": 1, "steps": 0}


@dataclass(frozen=True)
class Study:
    """A whole params file."""

    study: str
    backbone: Backbone
    tasks: Tasks
    train: Train
    selector: Selector
    methods: dict[str, dict[str, Any]]
    runs: dict[str, Run]
    compute: Compute
    reference: Reference | None = None
    pretrain: Pretrain | None = None


def load(path: str | Path = "params.yaml") -> Study:
    """The study of a params file (relative paths start at the project's root).

    Raises ParamsError if the file is missing, is not YAML, or has a key or value that the study does not know.
    """
    file = ROOT / path
    try:
        raw = yaml.load(file.read_text(), UniqueKeyLoader)
    except (FileNotFoundError, IsADirectoryError):
        known = ", ".join(["mini", *sorted(p.parent.name for p in ROOT.glob("studies/*/params.yaml"))])
        raise ParamsError(f"there is no params file {path}; the studies here are: {known}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from error
    study = build(Study, raw, str(path))
    if not study.tasks.orders:
        raise ParamsError(f"{path}: tasks.orders is empty; give at least one, such as {{I: [first, second]}}")
    for name, run in study.runs.items():
        _check_run(study, run, name, f"{path}: runs.{name}")
    return study


def _check_run(study: Study, run: Run, name: str, where: str) -> None:
    method = method_of(name)
    if method not in study.methods:
        allowed = ", ".join(study.methods)
        raise ParamsError(f"{where} is a run of method {method!r}; there are: {allowed}")
    if not run.seeds:
        raise ParamsError(f"{where}.seeds is empty; give at least one")
    unknown = set(run.orders) - set(study.tasks.orders)
    if unknown:
        raise ParamsError(
            f"{where}.orders has {', '.join(sorted(unknown))}; there are: {', '.join(study.tasks.orders)}"
        )
    strange = set(run.set) - set(study.methods[method]) - set(SPECIAL)
    if strange:
        allowed = ", ".join([*study.methods[method], *SPECIAL])
        raise ParamsError(f"{where}.set has {', '.join(sorted(strange))}; allowed: {allowed}")
    for key, least in SPECIAL.items():
        value = run.set.get(key, least)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ParamsError(f"{where}.set.{key} is {value!r}; it is a whole number, {least} or more")


def method_of(run: str) -> str:
    """The method of a run: its name without the variant."""
    return run.partition("+")[0]


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
