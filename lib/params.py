"""The numbers of a study: read once, strictly, from its params file into frozen dataclasses.

An unknown or missing key, or a value of the wrong type, is an error that names the file, the key and what is allowed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from lib.paths import ROOT
from lib.strict import ParamsError, UniqueKeyLoader, build

__all__ = ["ParamsError", "build", "load"]


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
    """Where the pictures come from and in which orders the tasks are learned.

    source: datasets = those of lib/datasets.py, below root; splits: MTIL's, or CoOp's where it has one (X-TAIL).
    labels: among which classes a test picture is answered (lib/labels.py). cut: into tasks of how many classes each
    data set is cut; class_order: in which order its classes come before that (class-incremental learning).
    """

    source: Literal["mini", "folder", "datasets"]
    root: str
    seed: int
    train_per_class: int
    test_per_class: int
    templates: list[str]
    orders: dict[str, list[str]]
    labels: Literal["own", "union", "seen"] = "own"
    splits: Literal["protocol", "coop"] = "protocol"
    cut: list[int] = field(default_factory=list)
    class_order: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Reference:
    """Pictures of none of the tasks, with captions: for ZSCL, LwF-VR and the selector's reference autoencoder.

    source: mini (the pre-training world), folder (<root>/<class>/*.png), or datasets (`name`'s training pictures);
    captions are the first template's. pictures: drawn by the seed.
    """

    source: Literal["mini", "folder", "datasets"]
    root: str
    pictures: int
    seed: int
    name: str = ""


@dataclass(frozen=True)
class Compute:
    """How a run computes. A fixed number of threads on the CPU: the same bytes whatever the number of cores.

    precision: of the products in training; auto: bf16 on a GPU, else fp32. accumulate: parts that a batch is cut
    into, one after the other, to save memory. processes: that share every batch, one a GPU. recompute: a block's
    inner values are computed again for the gradient, not kept, to save memory. compile: the loss by torch.compile.
    """

    threads: int
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    accumulate: int = 1
    processes: int = 1
    recompute: bool = False
    compile: bool = False


@dataclass(frozen=True)
class Train:
    """Training on one task, the same for every method. epochs: passes over a task's pictures instead of steps."""

    steps: int
    batch: int
    warmup: int
    smoothing: float
    crop: float
    epochs: int = 0


@dataclass(frozen=True)
class Selector:
    """DDAS: features, autoencoders, threshold, decision. reference_steps: of the reference's; 0 = steps."""

    features: Literal["clip", "alexnet"]
    code: int
    steps: int
    batch: int
    lr: float
    weight_decay: float
    rule: Literal["quantile", "absolute"]
    threshold: float
    shrinkage: float
    reference: bool
    batch_decision: int
    reference_steps: int = 0


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
    tuning: dict[str, dict[str, list[Any]]] = field(default_factory=dict)


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
    for name, grid in study.tuning.items():
        strange = set(grid) - set(study.methods.get(name, ()))
        if strange or name not in study.methods:
            raise ParamsError(f"{path}: tuning.{name} names what is no method, or no number of it: {grid}")
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
