"""A learning stage: learns some tasks of a run, evaluates after each task, and goes on where it was interrupted.

It leaves two small JSONs by one name, from which every figure and table is made (lib.report.tables): the result, the
same bytes on every rerun, in reports/results/<study>, and the cost, which varies, in reports/cost/<study>.
"""

import hashlib
import json
import math
import shutil
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from lib.clip.backbone import peak_gpu_mb
from lib.data.scenarios import LabelSpace
from lib.files import write_json
from lib.methods.base import Lesson, Method, TrainSettings
from lib.metrics import METRICS, incremental
from lib.study import checkpoint, code_digests, log
from lib.study.checkpoint import AGAIN, About, CheckpointError
from lib.study.plan import Item
from lib.study.train import Row, evaluate, learn_task, zero_shot_row


@dataclass(frozen=True)
class Curriculum:
    """What one run learns: a lesson for every task in order, the training settings, and how tasks are tested.

    tested_after: after how many tasks; empty = after each.
    """

    lessons: list[Lesson]
    train: TrainSettings
    space: LabelSpace
    tested_after: list[int] = field(default_factory=list)

    def tests_after(self, number: int) -> bool:
        """Whether all tasks are tested after task `number`; they always are after the last."""
        return not self.tested_after or number + 1 in (*self.tested_after, len(self.lessons))


@dataclass(frozen=True)
class Stage:
    """One entry of the plan, ready to be learned.

    about: what its first checkpoint says before any task. inputs: everything else that the outcome depends on; progress
    that was made with other inputs is not used. root: the folder that the item's paths start at.
    """

    item: Item
    curriculum: Curriculum
    method: Method
    about: About
    inputs: list[Any]
    precision: str
    root: Path

    def learn(self) -> dict[str, Any]:
        """Learns the stage's tasks; writes its checkpoint, its result and its cost; returns the result."""
        tasks = [lesson.task for lesson in self.curriculum.lessons]
        for task in tasks:
            self.method.learning_rate(task)  # a task without one is an error now, not after hours
        about = self.about
        scratch = self.root / "data" / about.study / "scratch" / Path(self.item.checkpoint).name
        saved = [scratch / self._progress_key() / str(number) for number in range(self.item.tasks)]
        done = max((number for number, folder in enumerate(saved, 1) if folder.exists()), default=0)
        if done:
            print(f"{about.run}: task {done}/{self.item.tasks} was finished before", flush=True)
            about = self._restored(saved[done - 1], [task.name for task in tasks[:done]])
        for number in range(done, self.item.tasks):
            self._learn_task(about, number)
            checkpoint.save(saved[number], about, self.method.state())
            if number and not self.item.every_task:  # the newest is enough to go on
                shutil.rmtree(saved[number - 1], ignore_errors=True)
        *before, last = (self.root / folder for folder in self.item.moments)
        checkpoint.save(last, about, self.method.state())
        for source, folder in zip(saved, before, strict=False):
            shutil.copytree(source, folder)
        pictures = None if self.curriculum.space.fixed else [len(task.test) for task in tasks]
        size, report = self.method.size(), self.method.report()
        after = [n + 1 for n in range(len(tasks)) if self.curriculum.tests_after(n)]
        content = result(about, [len(task.classes) for task in tasks], size, report, pictures, after)
        write_json(self.root / self.item.result, content)
        shutil.rmtree(scratch, ignore_errors=True)
        return content

    def finished(self) -> Method:
        """The method as it was after the last task, from its checkpoint. Raises CheckpointError if there is none."""
        _, state = checkpoint.load(
            self.root / self.item.checkpoint, self.about.backbone, self.about.run, self.about.settings
        )
        self.method.restore(state)
        return self.method

    def _learn_task(self, about: About, number: int) -> None:
        """Learns task `number`, evaluates on all tasks, and adds both to `about` and to the cost file."""
        method, lessons = self.method, self.curriculum.lessons
        task, began = lessons[number].task, time.monotonic()
        print(f"{about.run}, seed {about.seed}: task {number + 1}/{len(lessons)}, {task.name}", flush=True)
        lesson = method.lesson(lessons, number)
        losses = learn_task(method, lesson, self.curriculum.train, self.precision) if lesson else []
        learned, asked = time.monotonic(), method.asked
        if self.curriculum.tests_after(number):
            about.rows.append(self._row(number, about.rows))
        about.tasks.append(task.name)
        about.losses.append([round(loss, 4) for loss in losses[::10]])
        seconds = {"training": learned - began, "evaluation": time.monotonic() - learned}
        spent = {"peak_memory_mb": log.peak_memory_mb(), "peak_gpu_memory_mb": peak_gpu_mb()}
        spent |= {"encoded_pictures": method.asked - asked, "stored_bytes": method.size()["stored_bytes"]}
        costs = self.root / "reports" / "cost" / about.study
        log.write_cost(costs / Path(self.item.result).name, task.name, seconds, spent)
        if not self.curriculum.tests_after(number):
            return
        scores = next(iter(about.rows[-1].accuracy.values()))
        means = f"learned so far {fmean(scores[: number + 1]):.1f} %, all {fmean(scores):.1f} %"
        print(f"  this task {scores[number]:.1f} %, {means} after {log.minutes(sum(seconds.values()))}", flush=True)

    def _row(self, number: int, rows: list[Row]) -> Row:
        """The row of the accuracy matrix after task `number`, given the rows before it."""
        views, before = self.curriculum.space.after(number), None
        if self.curriculum.space.fixed and (not number or self.curriculum.tests_after(number - 1)):
            before = rows[-1] if number else zero_shot_row(views, self.method.decisions)
        return evaluate(self.method, views, number, before)

    def _restored(self, folder: Path, learned: list[str]) -> About:
        """Restores the method from a checkpoint of this run's tasks `learned`; returns what it says of itself."""
        mine = self.about
        about, state = checkpoint.load(folder, mine.backbone, mine.run, mine.settings)
        held, wanted = (about.study, about.order, about.seed, about.tasks), (mine.study, mine.order, mine.seed, learned)
        if held != wanted:
            raise CheckpointError(f"{folder} belongs to (study, order, seed, tasks) {held}, not {wanted}; {AGAIN}")
        try:
            self.method.restore(state)
        except (ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{folder} does not fit the run's method ({error}); {AGAIN}") from error
        return about

    def _progress_key(self) -> str:
        """A hash of everything that the stage depends on."""
        code = code_digests.of_method(self.item.method)
        depends = [asdict(self.item), self.about.settings, self.about.backbone, code, self.inputs]
        return hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:16]


def result(
    about: About,
    classes: list[int],
    size: dict[str, int],
    report: dict[str, Any],
    pictures: list[int] | None,
    after: list[int],
) -> dict[str, Any]:
    """The content of a result file, from what a run's last checkpoint says: matrices in percent and their metrics.

    classes: of each task. size, report: the method's. pictures: the numbers of test pictures of the tasks, in
    class-incremental learning (lib.metrics). after: how many tasks were learned at each row of the matrices.
    """
    method, _, variant = about.run.partition("+")
    rows = about.rows
    accuracy = {decision: [row.accuracy[decision] for row in rows] for decision in rows[0].accuracy}
    routed = {decision: [row.routed[decision] for row in rows] for decision in rows[0].routed}
    content = {"study": about.study, "method": method, "variant": variant, "order": about.order, "seed": about.seed}
    content |= {"tasks": about.tasks, "classes": classes, "accuracy": accuracy}
    if len(after) < len(about.tasks):
        content["tested_after"] = after
    formulas = {name: partial(f, after=after) for name, f in METRICS.items()}
    for metric, formula in (formulas if pictures is None else incremental(pictures)).items():
        values = {decision: formula(matrix) for decision, matrix in accuracy.items()}
        content[metric] = {decision: None if math.isnan(v) else round(v, 4) for decision, v in values.items()}
    return content | size | {"routed": routed, "losses": about.losses} | report
