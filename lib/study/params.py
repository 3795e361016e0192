"""The numbers of a study: read once, strictly, from its params file into frozen dataclasses.

Whatever is wrong is a ParamsError: one line that names the file, the key, its value and what is allowed. What only the
methods and the sources of tasks know, lib.study.plan.check asks them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from lib.data import folders
from lib.data.task_settings import ReferenceSettings, TaskSettings
from lib.data.tasks import TaskError
from lib.methods.base import TrainSettings
from lib.selector.ddas import SelectorSettings
from lib.settings import Count, Name, ParamsError, Positive, Rate, build, each_once, rule, shown
from lib.study import studies
from lib.study.studies import ROOT

SIZES = ["image_size", "width", "layers", "heads", "embed", "context", "text_layers"]  # of the tiny CLIP
Sizes = Annotated[dict[str, Positive], rule(f"a number for each of {', '.join(SIZES)}", lambda s: set(s) == {*SIZES})]


@dataclass(frozen=True)
class PretrainSettings:
    """The tiny CLIP's training (params `pretrain`; notebook 02)."""

    seed: Count
    pictures: Positive
    held_out: Positive
    steps: Positive
    batch: Positive
    lr: Rate
    config: Sizes


@dataclass(frozen=True)
class BackboneSettings:
    """The frozen CLIP (params `backbone`): a local folder, or a name of open_clip with a tag or a file of weights."""

    model: str
    pretrained: str


@dataclass(frozen=True)
class ComputeSettings:
    """How a run computes (params `compute`). With a fixed number of threads a CPU gives the same bytes on every run.

    precision: of matrix products in training; auto is bf16 on a GPU and fp32 on a CPU.
    """

    threads: Positive
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    precision: Literal["auto", "fp32", "bf16"] = "auto"


@dataclass(frozen=True)
class Run:
    """One line of the comparison, named <method> or <method>+<variant>.

    set: the settings of the method that differ, and those of SPECIAL. orders: the orders that it learns, empty = the
    first; as a mapping, how many of the seeds learn each order. story: whether the run is part of the main story.
    by_task: whether the first seed leaves a checkpoint of every task.
    """

    seeds: Annotated[list[Count], rule("one seed or more, each once", lambda seeds: bool(seeds) and each_once(seeds))]
    set: dict[str, Any]
    orders: Annotated[list[str], rule("orders, each once", each_once)] | dict[str, Positive] = field(
        default_factory=list
    )
    story: bool = False
    by_task: bool = False


# What a run may set besides its method's settings, with the value that changes nothing: training pictures of a class
# (0 = all), the number of tasks into which each task is cut, training steps of a task (0 = the study's), the seed of
# other pictures of the same tasks (0 = the study's).
SPECIAL = {"shots": 0, "cut": 1, "steps": 0, "data_seed": 0}


@dataclass(frozen=True)
class Study:
    """A whole params file."""

    study: Name
    backbone: BackboneSettings
    tasks: TaskSettings
    train: TrainSettings
    selector: SelectorSettings
    methods: dict[str, dict[str, Any]]
    runs: dict[Name, Run]
    compute: ComputeSettings
    reference: ReferenceSettings | None = None
    pretrain: PretrainSettings | None = None
    tuning: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    tuning_order: str = ""


def load(path: str | Path = "params.yaml") -> Study:
    """The study of a params file (relative paths start at the project's root). Raises ParamsError."""
    return parse(studies.read(ROOT / path), str(path))


def parse(raw: Any, where: str) -> Study:
    """The study of a mapping as a params file holds it. Raises ParamsError, which begins with `where`."""
    study = build(Study, with_orders(raw, where), where)
    for problem in _problems(study):
        raise ParamsError(f"{where}: {problem}")
    return study


def with_orders(raw: Any, where: str, root: Path = ROOT) -> Any:
    """The mapping of a params file. If a folder study names no order, it gets one: all its tasks, sorted by name."""
    tasks = raw.get("tasks") if isinstance(raw, dict) else None
    if not isinstance(tasks, dict) or (tasks.get("source"), tasks.get("orders")) != ("folder", {}):
        return raw
    try:
        names = folders.task_names(root / str(tasks.get("root")))
    except TaskError as error:
        raise ParamsError(f"{where}: {error}") from error
    return raw | {"tasks": tasks | {"orders": {"I": names}}}


def _problems(study: Study) -> Iterator[str]:
    """Each value that does not go with another."""
    tasks, train, selector = study.tasks, study.train, study.selector
    if not tasks.orders:
        yield "tasks.orders is empty; give at least one, such as {I: [first, second]}"
    for name, most in (("train_per_class", tasks.train_per_class), ("test_per_class", tasks.test_per_class)):
        listed = sorted({task for order in tasks.orders.values() for task in order})
        if isinstance(most, dict) and set(most) != set(listed):
            yield f"tasks.{name} has {', '.join(most)}; it must have each task, or be one number: {', '.join(listed)}"
        elif tasks.source == "mini" and 0 in (most.values() if isinstance(most, dict) else [most]):
            yield f"tasks.{name} is 0; mini draws 1 picture or more"
    if tasks.tested_after and tasks.labels == "seen":
        yield "tasks.tested_after leaves out rows that tasks.labels: seen needs; set it to []"
    if tasks.tested_after and max(tasks.tested_after) > (most := len(next(iter(tasks.orders.values()), []))):
        yield f"tasks.tested_after has {max(tasks.tested_after)}; there are {most} tasks"
    if tasks.source == "hub" and (lacking := set(next(iter(tasks.orders.values()), [])) - set(tasks.sets)):
        yield f"tasks.sets has no {', '.join(sorted(lacking))}; name the data set of each task"
    if not train.steps and not train.epochs:
        yield "train.steps and train.epochs are both 0; give one of them"
    if train.warmup > train.steps and not train.epochs:
        yield f"train.warmup is {train.warmup}; choose 0 to {train.steps}, train.steps"
    if selector.rule == "quantile" and selector.threshold > 1:
        yield f"selector.threshold is {selector.threshold}; a quantile is 1 at most"
    if selector.reference and study.reference is None:
        yield "selector.reference needs pictures; add a section `reference:`"
    for name, grid in study.tuning.items():
        has = vars(selector) if name == "selector" else study.methods.get(name, {})
        if len(grid) != 1 or set(grid) - set(has):
            yield f"tuning.{name} is {shown(grid)}; allowed: a method or selector, and one setting that it has"
    if study.tuning and study.tuning_order not in tasks.orders:
        yield f"tuning_order is {study.tuning_order!r}; there are: {', '.join(tasks.orders)}"
    for name, run in study.runs.items():
        yield from (f"runs.{name}{problem}" for problem in _problems_of_run(study, run, method_of(name)))


def _problems_of_run(study: Study, run: Run, method: str) -> Iterator[str]:
    if method not in study.methods:
        yield f" is a run of method {method!r}; there are: {', '.join(study.methods)}"
    allowed = [*study.methods.get(method, ()), *SPECIAL]
    if unknown := [order for order in run.orders if order not in study.tasks.orders]:
        yield f".orders has {', '.join(unknown)}; there are: {', '.join(study.tasks.orders)}"
    if isinstance(run.orders, dict) and (most := max(run.orders.values(), default=1)) > len(run.seeds):
        yield f".orders wants {most} seeds; there are {len(run.seeds)}"
    if run.set.get("data_seed") and study.tasks.source == "datasets":
        yield ".set.data_seed draws other pictures; datasets has the published ones only"
    if unknown := [key for key in run.set if key not in allowed]:
        yield f".set has {', '.join(unknown)}; allowed: {', '.join(allowed)}"
    for key, least in SPECIAL.items():
        value = run.set.get(key, least)
        if type(value) is not int or value < least:
            yield f".set.{key} is {shown(value)}; it is a whole number, {least} or more"


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
