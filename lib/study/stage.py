"""A learning stage: learns some tasks of a run, evaluates after each task, and goes on where it was interrupted."""

import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lib.clip.backbone import peak_gpu_mb
from lib.data.scenarios import LabelSpace
from lib.methods.base import Lesson, Method, TrainSettings
from lib.study import checkpoint, code_digests, results
from lib.study.checkpoint import AGAIN, About, CheckpointError
from lib.study.log import minutes
from lib.study.plan import Item
from lib.study.train import Row, evaluate, learn_task, zero_shot_row


@dataclass(frozen=True)
class Curriculum:
    """What one run learns: a lesson for every task in order, the training settings, and how tasks are tested."""

    lessons: list[Lesson]
    train: TrainSettings
    space: LabelSpace


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
        for lesson in self.curriculum.lessons:
            self.method.learning_rate(lesson.task)  # a task without one is an error now, not after hours
        about = self.about
        scratch = self.root / "data" / about.study / "scratch" / Path(self.item.checkpoint).name
        saved = scratch / self._progress_key(about)
        for number in range(self.item.tasks):
            about = self._learn_or_resume(saved / str(number), about, number)
        *before, last = (self.root / folder for folder in self.item.moments)
        checkpoint.save(last, about, self.method.state())
        for number, folder in enumerate(before):
            shutil.copytree(saved / str(number), folder)
        result = self._result(about)
        results.write_json(self.root / self.item.result, result)
        shutil.rmtree(scratch, ignore_errors=True)
        return result

    def _learn_or_resume(self, saved: Path, about: About, number: int) -> About:
        """Learns task `number` and saves a checkpoint, unless an interrupted call has done both."""
        if saved.exists():
            print(f"{about.run}: task {number + 1}/{self.item.tasks} was finished before", flush=True)
            return self._restored(saved, number + 1)
        self._learn_task(about, number)
        checkpoint.save(saved, about, self.method.state())
        return about

    def _learn_task(self, about: About, number: int) -> None:
        """Learns task `number`, evaluates on all tasks, and adds both to `about`."""
        method, lessons = self.method, self.curriculum.lessons
        task, began = lessons[number].task, time.monotonic()
        print(f"{about.run}, seed {about.seed}: task {number + 1}/{len(lessons)}, {task.name}", flush=True)
        lesson = method.lesson(lessons, number)
        losses = learn_task(method, lesson, self.curriculum.train, self.precision) if lesson else []
        learned, asked = time.monotonic(), method.asked
        about.rows.append(self._row(number, about.rows))
        about.tasks.append(task.name)
        about.losses.append([round(loss, 4) for loss in losses[::10]])
        seconds = {"training": learned - began, "evaluation": time.monotonic() - learned}
        self._write_cost(about, task.name, seconds, method.asked - asked)
        print(f"  {_summary(about.rows[-1], number)} after {minutes(sum(seconds.values()))}", flush=True)

    def _write_cost(self, about: About, task: str, seconds: dict[str, float], encoded: int) -> None:
        file = f"{results.name(about.run, about.order, about.seed)}.json"
        spent = {"peak_memory_mb": results.peak_memory_mb(), "peak_gpu_memory_mb": peak_gpu_mb()}
        folder = self.root / "reports" / "cost" / about.study
        results.write_cost(folder / file, task, seconds, spent | {"encoded_pictures": encoded})

    def _row(self, number: int, rows: list[Row]) -> Row:
        """The row of the accuracy matrix after task `number`, given the rows before it."""
        space = self.curriculum.space
        tested, features = space.after(number)
        if not space.fixed:
            return evaluate(self.method, tested, features, number, None)
        before = rows[-1] if rows else zero_shot_row(tested, features, self.method.decisions)
        return evaluate(self.method, tested, features, number, before)

    def _result(self, about: About) -> dict[str, Any]:
        tasks = [lesson.task for lesson in self.curriculum.lessons]
        pictures = None if self.curriculum.space.fixed else [len(task.test) for task in tasks]
        classes = [len(task.classes) for task in tasks]
        return results.result(about, classes, self.method.size(), self.method.report(), pictures)

    def _restored(self, folder: Path, learned: int) -> About:
        """Restores the method from a checkpoint of this run's first `learned` tasks; returns what it says of itself."""
        mine = self.about
        about, state = checkpoint.load(folder, mine.backbone, mine.run, mine.settings)
        names = [lesson.task.name for lesson in self.curriculum.lessons[:learned]]
        held, wanted = (about.study, about.order, about.seed, about.tasks), (mine.study, mine.order, mine.seed, names)
        if held != wanted:
            raise CheckpointError(f"{folder} belongs to (study, order, seed, tasks) {held}, not {wanted}; {AGAIN}")
        try:
            self.method.restore(state)
        except (ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{folder} does not fit the run's method ({error}); {AGAIN}") from error
        return about

    def _progress_key(self, about: About) -> str:
        """A hash of everything that the stage depends on."""
        code = code_digests.of_method(self.item.method)
        depends = [asdict(self.item), about.settings, about.backbone, code, self.inputs]
        return hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:16]


def _summary(row: Row, number: int) -> str:
    scores = next(iter(row.accuracy.values()))
    learned = sum(scores[: number + 1]) / (number + 1)
    return f"this task {scores[number]:.1f} %, learned so far {learned:.1f} %, all {sum(scores) / len(scores):.1f} %"
