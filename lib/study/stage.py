"""A stage of the study: learns some of a run's tasks, evaluates after each, and goes on where it was interrupted."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from lib.clip import compute
from lib.clip.backbone import Backbone, check_noted, load_clip
from lib.data import frozen as feature_files
from lib.data import subsets, tasks
from lib.data.frozen import Features
from lib.data.label_spaces import LabelSpace
from lib.data.tasks import Task
from lib.methods import method_class
from lib.methods.base import Lesson, Method
from lib.study import checkpoint, params, results
from lib.study import code_digests as sources
from lib.study.checkpoint import About
from lib.study.evaluate import Row, evaluate, zero_shot_row
from lib.study.paths import DATA, REPORTS, ROOT
from lib.study.plan import Item, folder_of, items
from lib.study.progress import minutes
from lib.study.train import learn_task
from tools.stages.dvc_process import end_with_parent


@dataclass(frozen=True)
class Scene:
    """All that stays the same while a run learns: the study, the frozen CLIP, the run's lessons, steps and all."""

    study: params.Study
    backbone: Backbone
    lessons: list[Lesson]
    train: params.Train
    space: LabelSpace

    @property
    def tasks(self) -> list[Task]:
        """The tasks in the order of learning."""
        return [lesson.task for lesson in self.lessons]

    @property
    def features(self) -> list[Features]:
        """What the frozen CLIP says of each task."""
        return [lesson.features for lesson in self.lessons]

    @property
    def counts(self) -> list[int]:
        """The number of classes of each task."""
        return [len(task.classes) for task in self.tasks]


def scene(study: params.Study, run: str, order: str, seed: int) -> Scene:
    """Loads the frozen CLIP, the prepared tasks and their features; fewer shots or smaller tasks if the run says so.

    Sets the study's threads and device (compute.begin).
    """
    backbone = load_clip(study.backbone.model, study.backbone.pretrained).to(compute.begin(study.compute))
    check_noted(backbone, DATA / study.study / "backbone.json")
    special = params.SPECIAL | {k: v for k, v in study.runs[run].set.items() if k in params.SPECIAL}
    lessons: list[Lesson] = []
    for task in tasks.sequence(study, order):
        known = feature_files.load(feature_files.path(study.study, task.name))
        for part, told in subsets.cut(backbone, task, known, study.tasks.cut or special["cut"]):
            few = subsets.shots(part, told, special["shots"], seed)
            lessons.append(Lesson(few[0], len(lessons), few[1], [seed, len(lessons)]))
    train = replace(study.train, steps=special["steps"] or study.train.steps)
    told = [lesson.task for lesson in lessons], [lesson.features for lesson in lessons]
    return Scene(study, backbone, lessons, train, LabelSpace(study.tasks.labels, backbone, *told))


def settings_of(study: params.Study, run: str) -> dict:
    """A run's settings: its method's, with what the run sets differently."""
    own = {k: v for k, v in study.runs[run].set.items() if k not in params.SPECIAL}
    return study.methods[params.method_of(run)] | own


def new_method(study: params.Study, backbone: Backbone, run: str, seed: int) -> Method:
    """The run's method, having learned nothing; the seed draws the first weights of its experts."""
    torch.manual_seed(seed)
    try:
        return method_class(params.method_of(run))(backbone, settings_of(study, run), study)
    except ValueError as error:
        raise params.ParamsError(f"study {study.study}, run {run}: {error}") from error


def find(study: params.Study, key: str) -> Item:
    """The plan's item of that name. Raises ParamsError, naming what there is, if the plan has none."""
    plan = items(study)
    if key not in plan:
        raise params.ParamsError(f"study {study.study} has no stage {key!r}; it has: {', '.join(plan)}")
    return plan[key]


def learn(study: params.Study, key: str) -> dict:
    """Learns the tasks of one item of the plan; writes its checkpoint, its result and its cost; returns the result."""
    item = find(study, key)
    if study.compute.processes > 1 and not compute.joined():
        return _in_processes(study, key)
    here = scene(study, item.run, item.order, item.seed)
    method = new_method(study, here.backbone, item.run, item.seed)
    about = About(study.study, item.run, item.order, item.seed, here.backbone.fingerprint, _plain(method), [], [], [])
    for task in here.tasks:
        method.learning_rate(task)  # a task without one is an error now, not after hours
    if item.first:
        about = _take_up(ROOT / item.parent, here, method, about, item.first)
    scratch = DATA / study.study / "scratch" / key / _key(here, item, about)
    for number in range(item.first, item.stop):
        saved = scratch / str(number)
        if saved.exists():
            about = _take_up(saved, here, method, about, number + 1)
            print(f"{item.run}: task {number + 1}/{item.stop} was finished before", flush=True)
        else:
            _learn_one(here, method, about, number)
            if compute.rank() == 0:
                checkpoint.save(saved, about, method.state())
            compute.wait()
    content = {}
    if compute.rank() == 0:
        checkpoint.save(ROOT / item.checkpoint, about, method.state())
        pictures = None if here.space.fixed else [len(task.test) for task in here.tasks]
        content = results.result(about, here.counts, method.size(), method.report(), pictures)
        results.write_json(ROOT / item.result, content)
        shutil.rmtree(scratch.parent, ignore_errors=True)
    compute.wait()
    return content


def _in_processes(study: params.Study, key: str) -> dict:
    """Has torchrun learn an item in as many processes as the params say, and passes on what the first one prints."""
    file = str(folder_of(study.study) / "params.yaml")
    options = ["--standalone", f"--nproc-per-node={study.compute.processes}", "--local-ranks-filter=0"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "lib.study.stage", file, key]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=end_with_parent,
    ) as group:
        for line in group.stdout or ():
            print(line, end="", flush=True)
    if group.returncode:
        raise RuntimeError(f"the processes of {key} failed; the first error above says why")
    return json.loads((ROOT / find(study, key).result).read_text())


def _take_up(folder: Path, here: Scene, method: Method, about: About, learned: int) -> About:
    """Restores a method from a checkpoint with the first `learned` tasks of the same run; returns what it says."""
    found, state = checkpoint.load(folder, about.backbone, about.run, about.settings)
    names = [task.name for task in here.tasks[:learned]]
    held = (found.study, found.order, found.seed, found.tasks)
    wanted = (about.study, about.order, about.seed, names)
    if held != wanted:
        raise checkpoint.CheckpointError(
            f"{folder} belongs to (study, order, seed, tasks) {held}, not {wanted}; delete it and run the study again"
        )
    try:
        method.restore(state)
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
        raise checkpoint.CheckpointError(
            f"{folder} does not fit the run's method ({error}); delete it and run the study again"
        ) from error
    return found


def _learn_one(here: Scene, method: Method, about: About, number: int) -> None:
    """Learns task `number`, evaluates on all tasks, and adds both to `about`."""
    task, began = here.tasks[number], time.monotonic()
    print(f"{about.run}, seed {about.seed}: task {number + 1}/{len(here.tasks)}, {task.name}", flush=True)
    lesson = method.lesson(here.lessons, number)
    losses = learn_task(method, lesson, here.train, here.study.compute) if lesson else []
    learned, asked = time.monotonic(), method.asked
    if compute.rank() == 0:  # the others hold the same model and wait
        about.rows.append(_tested(here, method, number, about.rows))
    about.tasks.append(task.name)
    about.losses.append([round(loss, 4) for loss in losses[::10]])
    seconds = {"training": learned - began, "evaluation": time.monotonic() - learned}
    cost = REPORTS / "cost" / about.study / f"{results.name(about.run, about.order, about.seed)}.json"
    if compute.rank() == 0:
        spent = {"peak_memory_mb": results.peak_memory_mb(), "peak_gpu_memory_mb": compute.peak_gpu_mb()}
        results.write_cost(cost, task.name, seconds, spent | {"encoded_pictures": method.asked - asked})
        print(f"  {_summary(about.rows[-1], number)} after {minutes(sum(seconds.values()))}", flush=True)


def _tested(here: Scene, method: Method, number: int, rows: list[Row]) -> Row:
    """The row of the accuracy matrix after task `number`, given those before."""
    tested, known = here.space.after(number)
    if not here.space.fixed:
        return evaluate(method, tested, known, number, None)
    before = rows[-1] if rows else zero_shot_row(tested, known, method.decisions)
    return evaluate(method, tested, known, number, before)


def _summary(row: Row, number: int) -> str:
    scores = next(iter(row.accuracy.values()))
    learned = sum(scores[: number + 1]) / (number + 1)
    return f"this task {scores[number]:.1f} %, learned so far {learned:.1f} %, all {sum(scores) / len(scores):.1f} %"


def _plain(method: Method) -> dict:
    return json.loads(json.dumps(asdict(method.settings)))


def _key(here: Scene, item: Item, about: About) -> str:
    """A hash of everything a stage depends on: progress made under other circumstances is never taken up."""
    study, special = here.study, here.study.runs[item.run].set
    known = [
        asdict(item),
        about.settings,
        special,
        asdict(study.train),
        asdict(study.selector),
        about.backbone,
    ]
    digest = hashlib.sha256(json.dumps([*known, about.tensors, sources.of_method(item.method)]).encode())
    names = [*study.tasks.orders[item.order], *([feature_files.REFERENCE] if study.reference else [])]
    for file in (where(study.study, name) for where in (tasks.path, feature_files.path) for name in names):
        if file.exists():  # its date instead of its bytes, which can be gigabytes
            digest.update(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


if __name__ == "__main__":  # one of torchrun's processes
    end_with_parent()
    learn(params.load(sys.argv[1]), sys.argv[2])
