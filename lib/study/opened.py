"""An open study: its backbone, tasks and features, and what learns on them. Notebooks and stages begin here.

    study = open_study("params.yaml")
    study.tasks, study.features        what the study learns, in the main order
    study.learn("moe_adapters--I--s0") learns a run of the plan; returns its result

Everything that is not there yet is made on first use, so that a notebook also runs by itself.
"""

import json
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from lib.clip.backbone import Backbone, load_clip, set_up
from lib.data import frozen, scenarios, tasks
from lib.data.folders import source
from lib.data.frozen import Features
from lib.data.scenarios import LabelSpace
from lib.data.tasks import ReferenceSet, Task, TaskError
from lib.files import write_json
from lib.methods import method_class
from lib.methods.base import Context, Lesson, Method, TrainSettings
from lib.selector.features import extract, selector_features
from lib.settings import ParamsError
from lib.study import params
from lib.study.checkpoint import About
from lib.study.plan import find, main_order, manifest
from lib.study.stage import Curriculum, Stage
from lib.study.studies import ROOT

REFERENCE = "_reference"  # the file name of the reference set beside the tasks, and of its features


class OpenStudy:
    """A study and its folders below `root`. Opening it sets the number of threads and the device."""

    def __init__(self, study: params.Study, root: Path = ROOT) -> None:
        self.params, self.root, self.name = study, root, study.study
        self.data = root / "data" / self.name
        self.reports = root / "reports"
        self.figures = self.reports / "figures" / self.name
        self.tables = self.reports / "tables" / self.name
        self.device = set_up(study.compute.threads, study.compute.device, study.compute.precision)

    @cached_property
    def backbone(self) -> Backbone:
        """The frozen CLIP. Raises ValueError if its weights are not those with which the study began."""
        chosen = self.params.backbone
        backbone = load_clip(chosen.model, chosen.pretrained, self.root).to(self.device)
        _check_fingerprint(backbone, self.data / "backbone.json")
        return backbone

    @property
    def main_order(self) -> str:
        """The name of the first order."""
        return main_order(self.params)

    def task_file(self, name: str) -> Path:
        """Where a prepared task lies."""
        return self.data / "tasks" / f"{name}.safetensors"

    def feature_file(self, name: str) -> Path:
        """Where the features of a task lie."""
        return self.data / "features" / f"{name}.safetensors"

    def prepare_tasks(self) -> list[Task]:
        """Makes and writes all tasks and the reference set; returns the tasks in the main order."""
        settings, size = self.params.tasks, self.backbone.image_size
        for name in tasks.names(settings):
            source(settings.source).prepare(name, settings, size, self.root, self.task_file(name))
            if settings.source in ("folder", "hub"):  # names that others chose
                tasks.check_prompts(tasks.load(self.task_file(name)), self.backbone.tokenizer)
        self._prepare_reference(size)
        return self.sequence(self.main_order)

    def _prepare_reference(self, size: int) -> None:
        if (wanted := self.params.reference) is None:
            return
        template = (self.params.tasks.templates or ["a photo of a {}."])[0]
        images, captions = source(wanted.source).reference(wanted, template, size, self.root)
        if images.shape[1] != size:
            raise TaskError(f"the reference pictures have {images.shape[1]} pixels a side, the backbone wants {size}")
        classes = [name for task in self.sequence(self.main_order) for name in task.classes]
        named = torch.tensor([tasks.names_any(caption, classes) for caption in captions])
        tokens = self.backbone.tokenizer(captions)
        tasks.save_reference(ReferenceSet(tasks.channels_first(images), tokens, named), self.task_file(REFERENCE))

    def prepare_features(self) -> list[Features]:
        """Computes and writes the features of all tasks and of the reference set; returns the tasks' features."""
        kind, computed = self.params.selector.features, []
        if self.params.selector.reference:
            module = selector_features(self.backbone, kind).to(self.device)
            features = extract(module, self.reference().images, self.backbone)
            frozen.save(features, self.feature_file(REFERENCE))
        for task in self.sequence(self.main_order):
            computed.append(frozen.compute(self.backbone, task, kind))
            frozen.save(computed[-1], self.feature_file(task.name))
        files = ({name: file(name) for name in self._names} for file in (self.task_file, self.feature_file))
        write_json(self.root / manifest(self.name), frozen.manifest(self.backbone, kind, *files))
        return computed

    @property
    def _names(self) -> list[str]:
        """What has features: all tasks, and the reference set where the selector learns from it."""
        return [*tasks.names(self.params.tasks), *([REFERENCE] if self.params.selector.reference else [])]

    def ensure(self) -> None:
        """Prepares tasks and features if some are missing, as when a notebook is opened by itself."""
        if not all(self.task_file(name).exists() for name in tasks.names(self.params.tasks)):
            self.prepare_tasks()
        if not all(self.feature_file(name).exists() for name in self._names):
            self.prepare_features()

    def sequence(self, order: str) -> list[Task]:
        """The prepared data sets in one of the study's orders. Raises TaskError for an unknown order."""
        orders = self.params.tasks.orders
        if order not in orders:
            raise TaskError(f"study {self.name} has no order {order!r}; it has: {', '.join(orders)}")
        return [tasks.arranged(tasks.load(self.task_file(name)), self.params.tasks) for name in orders[order]]

    def learned(self, order: str, cut: int | list[int], data_seed: int = 0) -> list[tuple[Task, Features]]:
        """The tasks of an order, or their parts, with features. data_seed: 0, or that of other pictures, drawn now."""
        self.ensure()
        if data_seed:
            pairs = [self._drawn_anew(name, data_seed) for name in self.params.tasks.orders[order]]
        else:
            pairs = [(task, frozen.load(self.feature_file(task.name))) for task in self.sequence(order)]
        return [part for task, features in pairs for part in scenarios.cut(self.backbone, task, features, cut)]

    def _drawn_anew(self, name: str, seed: int) -> tuple[Task, Features]:
        settings = replace(self.params.tasks, seed=seed)
        with TemporaryDirectory() as folder:  # of this run alone: runs side by side draw the same
            file = Path(folder) / f"{name}.safetensors"
            source(settings.source).prepare(name, settings, self.backbone.image_size, self.root, file)
            task = tasks.arranged(tasks.load(file), settings)
        return task, frozen.compute(self.backbone, task, self.params.selector.features)

    @cached_property
    def _main(self) -> list[tuple[Task, Features]]:
        return self.learned(self.main_order, self.params.tasks.cut or 1)

    @property
    def tasks(self) -> list[Task]:
        """The tasks in the main order, made now if they are missing."""
        return [task for task, _ in self._main]

    @property
    def features(self) -> list[Features]:
        """What the frozen CLIP says of each task of the main order, computed now if it is missing."""
        return [features for _, features in self._main]

    @property
    def lessons(self) -> list[Lesson]:
        """The tasks of the main order as a method is taught them, with seed 0."""
        return [Lesson(task, number, features, [0, number]) for number, (task, features) in enumerate(self._main)]

    def train(self, steps: int) -> TrainSettings:
        """The study's training settings with another number of steps; 0 = the study's."""
        return replace(self.params.train, steps=steps or self.params.train.steps)

    def task(self, name: str) -> Task:
        """The task of that name. Raises KeyError, with the names that exist."""
        return self._named(name)[0]

    def features_of(self, name: str) -> Features:
        """What the frozen CLIP says of the task of that name. Raises KeyError like `task`."""
        return self._named(name)[1]

    def _named(self, name: str) -> tuple[Task, Features]:
        pairs = {pair[0].name: pair for pair in self._main}
        if name not in pairs:
            raise KeyError(f"there is no task {name!r}; there are: {', '.join(pairs)}")
        return pairs[name]

    def reference(self) -> ReferenceSet:
        """The reference set. Raises TaskError if the study names none or has not prepared it."""
        if self.params.reference is None:
            needs = "ZSCL, LwF-VR and selector.reference need one"
            raise TaskError(f"study {self.name} has no `reference:` section; {needs}")
        return tasks.load_reference(self.task_file(REFERENCE))

    def context(self, steps: int = 0) -> Context:
        """What every method of the study is given. steps: of training on a task; 0 = the study's."""
        features = partial(frozen.load_reference, self.feature_file(REFERENCE))
        return Context(self.backbone, self.train(steps), self.params.selector, self.reference, features)

    def lessons_of(self, order: str, seed: int, shots: int = 0, cut: int = 1, data_seed: int = 0) -> list[Lesson]:
        """The tasks of an order as a method is taught them; the last three as in params.SPECIAL."""
        lessons: list[Lesson] = []
        for task, features in self.learned(order, self.params.tasks.cut or cut, data_seed):
            few = scenarios.shots(task, features, shots, seed)
            lessons.append(Lesson(few[0], len(lessons), few[1], [seed, len(lessons)]))
        return lessons

    def curriculum(self, run: str, order: str, seed: int) -> Curriculum:
        """The lessons of a run: fewer pictures or smaller tasks where the run says so."""
        special = params.special(self.params, run)
        lessons = self.lessons_of(order, seed, special["shots"], special["cut"], special["data_seed"])
        taught, features = [lesson.task for lesson in lessons], [lesson.features for lesson in lessons]
        space = LabelSpace(self.params.tasks.labels, self.backbone, taught, features)
        return Curriculum(lessons, self.train(special["steps"]), space, self.params.tasks.tested_after)

    def method(self, run: str, seed: int = 0, steps: int = 0) -> Method:
        """A run's method before it has learned anything; the seed draws its first weights. steps: as in `context`."""
        torch.manual_seed(seed)
        try:
            return method_class(params.method_of(run))(self.context(steps), params.settings_of(self.params, run))
        except ValueError as error:
            raise ParamsError(f"study {self.name}, run {run}: {error}") from error

    def stage(self, key: str) -> Stage:
        """A stage of the plan, ready to be learned. Raises ParamsError for an unknown one."""
        item = find(self.params, key)
        method = self.method(item.run, item.seed)
        settings = json.loads(json.dumps(asdict(method.settings)))
        about = About(self.name, item.run, item.order, item.seed, self.backbone.fingerprint, settings, [], [], [])
        curriculum = self.curriculum(item.run, item.order, item.seed)
        inputs = [self.params.runs[item.run].set, asdict(self.params.train), asdict(self.params.selector)]
        names = [*self.params.tasks.orders[item.order], *([REFERENCE] if self.params.reference else [])]
        files = [where(name) for where in (self.task_file, self.feature_file) for name in names]
        read = [(file.name, file.stat()) for file in files if file.exists()]  # their bytes can be gigabytes
        inputs += [curriculum.tested_after] + [f"{name} {file.st_size} {file.st_mtime_ns}" for name, file in read]
        return Stage(item, curriculum, method, about, inputs, self.params.compute.precision, self.root)

    def learn(self, key: str) -> dict[str, Any]:
        """Learns a stage of the plan, or goes on where it was interrupted; returns its result."""
        return self.stage(key).learn()


def open_study(file: str | Path | params.Study = "params.yaml") -> OpenStudy:
    """Opens the study of a params file (relative paths start at the project's root). Raises ParamsError."""
    return OpenStudy(file if isinstance(file, params.Study) else params.load(file))


def _check_fingerprint(backbone: Backbone, file: Path) -> None:
    """Raises ValueError if the weights are not those that the stage `data` wrote down, if it has."""
    try:
        expected = str(json.loads(file.read_text())["fingerprint"]) if file.exists() else backbone.fingerprint
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} has no fingerprint of a CLIP ({error!r}); the stage `data` makes it again") from error
    if expected != backbone.fingerprint:
        raise ValueError(
            f"{backbone.name} has other weights ({backbone.fingerprint[:12]}) than when the study began "
            f"({expected[:12]}, {file}); restore those weights, or run the stage `data` to begin the study again"
        )
