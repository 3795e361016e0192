"""The numbers of a study: read once, strictly, from its params file into frozen dataclasses.

An unknown or missing key, or a value of the wrong type or outside its range, is an error that names the file, the key
and what is allowed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from lib.settings import (
    Count,
    Name,
    Order,
    ParamsError,
    Positive,
    PositiveShare,
    Rate,
    Rule,
    Share,
    Sizes,
    Template,
    Weight,
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
class Tasks:
    """Where the pictures come from and in which orders the tasks are learned.

    source: datasets = those of tools/datasets/catalogue.py, below root; splits: MTIL's, or CoOp's where it has one (X-TAIL).
    labels: among which classes a test picture is answered (lib/data/label_spaces.py). cut: into tasks of how many classes each
    data set is cut; class_order: in which order its classes come before that (class-incremental learning).
    """

    source: Literal["mini", "folder", "datasets"]
    root: str
    seed: Count
    train_per_class: Count
    test_per_class: Count
    templates: list[Template]
    orders: dict[Name, Order]
    labels: Literal["own", "union", "seen"] = "own"
    splits: Literal["protocol", "coop"] = "protocol"
    cut: list[Positive] = field(default_factory=list)
    class_order: Annotated[list[Count], Rule("class numbers, each once", each_once)] = field(default_factory=list)


@dataclass(frozen=True)
class Reference:
    """Pictures of none of the tasks, with captions: for ZSCL, LwF-VR and the selector's reference autoencoder.

    source: mini (the pre-training world), folder (<root>/<class>/*.png), or datasets (`name`'s training pictures);
    captions are the first template's. pictures: drawn by the seed.
    """

    source: Literal["mini", "folder", "datasets"]
    root: str
    pictures: Positive
    seed: Count
    name: str = ""


@dataclass(frozen=True)
class Compute:
    """How a run computes. A fixed number of threads on the CPU: the same bytes whatever the number of cores.

    precision: of the products in training; auto: bf16 on a GPU, else fp32. accumulate: parts that a batch is cut
    into, one after the other, to save memory. processes: that share every batch, one a GPU. recompute: a block's
    inner values are computed again for the gradient, not kept, to save memory. compile: the loss by torch.compile.
    """

    threads: Positive
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    accumulate: Positive = 1
    processes: Positive = 1
    recompute: bool = False
    compile: bool = False


@dataclass(frozen=True)
class Train:
    """Training on one task, the same for every method. epochs: passes over a task's pictures instead of steps."""

    steps: Count
    batch: Positive
    warmup: Count
    smoothing: Share
    crop: PositiveShare
    epochs: Count = 0


@dataclass(frozen=True)
class Selector:
    """DDAS: features, autoencoders, threshold, decision. reference_steps: of the reference's; 0 = steps."""

    features: Literal["clip", "alexnet"]
    code: Positive
    steps: Positive
    batch: Positive
    lr: Rate
    weight_decay: Weight
    rule: Literal["quantile", "absolute"]
    threshold: Rate
    shrinkage: Share
    reference: bool
    batch_decision: Positive
    reference_steps: Count = 0


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
    tasks: Tasks
    train: Train
    selector: Selector
    methods: dict[str, dict[str, Any]]
    runs: dict[Name, Run]
    compute: Compute
    reference: Reference | None = None
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
