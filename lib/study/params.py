"""The numbers of a study: read once, strictly, from its params file into frozen dataclasses.

An unknown or missing key, or a value of the wrong type or outside its range, is an error that names the file, the key
and what is allowed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from lib.data.reference import ReferenceSettings
from lib.data.tasks import TaskSettings
from lib.methods.base import TrainSettings
from lib.selector.ddas import SelectorSettings
from lib.settings import (
    Count,
    Name,
    ParamsError,
    Positive,
    Rate,
    Rule,
    Sizes,
    build,
    each_once,
    read_yaml,
    shown,
)
from lib.study.paths import ROOT

__all__ = ["ParamsError", "build", "load"]


@dataclass(frozen=True)
class Pretrain:
    """The tiny CLIP's training (notebook 02)."""

    seed: Count
    pictures: Positive
    held_out: Positive
    steps: Positive
    batch: Positive
    lr: Rate
    config: Sizes


@dataclass(frozen=True)
class Backbone:
    """Which CLIP is frozen: a local folder, or an open_clip name with a tag or file of weights."""

    model: str
    pretrained: str


@dataclass(frozen=True)
class Compute:
    """How a run computes. A fixed number of threads on the CPU gives the same bytes on any number of cores.

    precision: of matrix products in training; auto is bf16 on a GPU and fp32 on a CPU.
    """

    threads: Positive
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    precision: Literal["auto", "fp32", "bf16"] = "auto"


@dataclass(frozen=True)
class Run:
    """One line of the comparison, named <method> or <method>+<variant>.

    set: what differs: settings of the method, and of SPECIAL. orders: empty = the first. story: part of the main
    story. by_task: the first seed learns each task in a stage of its own, so that a checkpoint stays of each moment.
    """

    seeds: Annotated[list[Count], Rule("different numbers", each_once)]
    set: dict[str, Any]
    orders: Annotated[list[str], Rule("different orders", each_once)] = field(default_factory=list)
    story: bool = False
    by_task: bool = False


# What a run may set besides its method's settings, with the value that changes nothing: training pictures of a class
# (0 = all), into how many tasks each task is cut, training steps of a task (0 = the study's).
SPECIAL = {"shots": 0, "cut": 1, "steps": 0}


@dataclass(frozen=True)
class Study:
    """A whole params file."""

    study: Name
    backbone: Backbone
    tasks: TaskSettings
    train: TrainSettings
    selector: SelectorSettings
    methods: dict[str, dict[str, Any]]
    runs: dict[Name, Run]
    compute: Compute
    reference: ReferenceSettings | None = None
    pretrain: Pretrain | None = None
    tuning: dict[str, dict[str, list[Any]]] = field(default_factory=dict)


def load(path: str | Path = "params.yaml") -> Study:
    """The study of a params file (relative paths start at the project's root).

    Raises ParamsError if the file is missing, is not YAML, or has a key or value that the study does not know.
    """
    try:
        raw = read_yaml((ROOT / path).read_bytes())
    except (FileNotFoundError, IsADirectoryError):
        known = ", ".join(["mini", *sorted(p.parent.name for p in ROOT.glob("studies/*/params.yaml"))])
        raise ParamsError(f"there is no params file {path}; the studies here are: {known}") from None
    except OSError as error:
        raise ParamsError(f"{path} cannot be read ({error}); mend that first") from error
    except ParamsError as error:
        raise ParamsError(f"{path} is {error}") from error
    study = build(Study, raw, str(path))
    _check_numbers(study, path)
    for name, grid in study.tuning.items():
        strange = set(grid) - set(study.methods.get(name, ()))
        if strange or name not in study.methods:
            raise ParamsError(f"{path}: tuning.{name} names what is no method, or no number of it: {shown(grid)}")
    for name, run in study.runs.items():
        _check_run(study, run, name, f"{path}: runs.{name}")
    return study


def _check_numbers(study: Study, path: str | Path) -> None:
    """Raises ParamsError for the first thing that does not go with another."""
    tasks, train, selector = study.tasks, study.train, study.selector
    if not tasks.orders:
        raise ParamsError(f"{path}: tasks.orders is empty; give at least one, such as {{I: [first, second]}}")
    if tasks.source == "mini" and not (tasks.train_per_class and tasks.test_per_class):
        raise ParamsError(f"{path}: tasks.train_per_class and test_per_class are drawn for mini: 1 or more")
    if not train.steps and not train.epochs:
        raise ParamsError(f"{path}: train.steps and train.epochs are both 0; give one of them")
    if train.warmup > train.steps and not train.epochs:
        raise ParamsError(f"{path}: train.warmup is {train.warmup}; choose 0 to {train.steps}, train.steps")
    if selector.rule == "quantile" and selector.threshold > 1:
        raise ParamsError(f"{path}: selector.threshold is {selector.threshold}; a quantile is 1 at most")
    if selector.reference and study.reference is None:
        raise ParamsError(f"{path}: selector.reference needs pictures; add a section `reference:`")


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
            raise ParamsError(f"{where}.set.{key} is {shown(value)}; it is a whole number, {least} or more")


def method_of(run: str) -> str:
    """The method of a run: its name without the variant."""
    return run.partition("+")[0]


def special(study: Study, run: str) -> dict[str, int]:
    """What a run sets besides its method's settings, with SPECIAL's values where it sets nothing."""
    return SPECIAL | {k: v for k, v in study.runs[run].set.items() if k in SPECIAL}


def settings_of(study: Study, run: str) -> dict[str, Any]:
    """The settings of a run's method, with what the run sets differently."""
    own = {k: v for k, v in study.runs[run].set.items() if k not in SPECIAL}
    return study.methods[method_of(run)] | own
