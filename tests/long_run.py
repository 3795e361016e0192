"""A hundred tasks in sequence on a toy: does a task take as much time and memory in the end as in the beginning?

    python tests/long_run.py               writes reports/long_run.json and reports/figures/long_run.png
    python tests/long_run.py --figure      draws the figure again from the numbers that are there

MoE-Adapters around the tiny CLIP learn, save and answer as in a study. A task is to tell four colours apart.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.data import frozen
from lib.data.tasks import Pictures, Task
from lib.methods.base import Lesson
from lib.metrics import accuracy
from lib.report import figures
from lib.study import checkpoint, open_study
from lib.study.checkpoint import About
from lib.study.evaluate import Row
from lib.study.paths import REPORTS
from lib.study.provenance import origin
from lib.study.results import write_json
from lib.study.train import learn_task
from tools.bench import meters

TASKS = 100
CLASSES, TRAIN, TEST, TILES = 4, 16, 16, 6  # of a task; pictures of a class; tiles of a sheet's side
FILE, FIGURE = REPORTS / "long_run.json", REPORTS / "figures" / "long_run.png"


def task(number: int, size: int) -> Task:
    """Task `number`: sheets of tiles in four colours of its own."""
    rng = np.random.default_rng([7, number])
    colours, splits = rng.uniform(40, 215, (CLASSES, 3)), []
    for count in (TRAIN, TEST):
        labels = np.repeat(range(CLASSES), count)
        tiles = colours[labels][:, :, None, None] + rng.normal(0, 25, (len(labels), 3, TILES, TILES))
        shown = np.clip(tiles, 0, 255).repeat(size // TILES, 2).repeat(size // TILES, 3)
        splits.append(Pictures(torch.from_numpy(shown.astype(np.uint8)), torch.from_numpy(labels)))
    names = [f"sheet {word}" for word in ("one", "two", "three", "four")]
    return Task(f"sheets_{number:03}", names, ["a photo of a {}."], *splits)


class LongRun:
    """The method, and what each task took. home: where its checkpoint lies."""

    def __init__(self, steps: int, home: Path) -> None:
        self.study, self.steps = open_study("studies/short.yaml"), steps
        self.folder = home / "checkpoint"
        self.method = self.new_method()

    def new_method(self) -> Any:
        """The method before its first task."""
        return self.study.method("moe_adapters", steps=self.steps)

    def lesson(self, number: int) -> Lesson:
        """Task `number` as the method learns it."""
        sheets = task(number, self.study.backbone.image_size)
        return Lesson(sheets, number, frozen.compute(self.study.backbone, sheets, "clip"), [0, number])

    def learn(self, number: int) -> dict[str, float]:
        """Learns one more task; returns seconds and milliseconds of the processor, megabytes and percent."""
        lesson, clock = self.lesson(number), []

        def learn() -> None:
            clock.append(time.process_time())  # of one thread, whatever else runs on the machine
            learn_task(self.method, lesson, self.study.train(self.steps))
            clock.append(time.process_time())

        step = meters.most(learn)
        began = time.process_time()
        answers = self.method.predict(lesson.task, lesson.features, number).classes
        answered = time.process_time() - began
        self.save(number)
        return {
            "learn_s": clock[1] - clock[0],
            "predict_ms": 1000 * answered / len(lesson.task.test),
            "resident_mb": meters.held(),
            "step_mb": step,
            "checkpoint_mb": sum(file.stat().st_size for file in self.folder.iterdir()) / 2**20,
            "stored_bytes": self.method.size()["stored_bytes"],
            "accuracy": accuracy(answers["sample"], lesson.task.test.labels),
        }

    def save(self, number: int) -> None:
        """Writes the checkpoint as a stage does."""
        names = [f"sheets_{each:03}" for each in range(number + 1)]
        settings, fingerprint = asdict(self.method.settings), self.study.backbone.fingerprint
        about = About("long", "moe_adapters", "I", 0, fingerprint, settings, names, [Row({}, {})], [])
        checkpoint.save(self.folder, about, self.method.state())

    def restored(self) -> Any:
        """A new method with the state of the checkpoint."""
        again, settings = self.new_method(), asdict(self.method.settings)
        again.restore(checkpoint.load(self.folder, self.study.backbone.fingerprint, "moe_adapters", settings)[1])
        return again


def measure(tasks: int, steps: int, home: Path) -> dict[str, Any]:
    """Learns that many tasks; returns what each took, and the accuracy on all of them at the end, in percent."""
    run, rows = LongRun(steps, home), []
    for number in range(tasks):
        rows.append(run.learn(number))
        if (number + 1) % 10 == 0:
            print(f"{number + 1} tasks: " + ", ".join(f"{k} {v:.4g}" for k, v in rows[-1].items()), flush=True)
    last = run.restored()
    lessons = [run.lesson(number) for number in range(tasks)]
    answers = [last.predict(each.task, each.features, each.number).classes for each in lessons]
    after = {
        way: [accuracy(a[way], each.task.test.labels) for a, each in zip(answers, lessons, strict=True)]
        for way in ("sample", "oracle")
    }
    taken = {name: [round(row[name], 4) for row in rows] for name in rows[0]}
    return {"tasks": tasks, "steps": steps, "pictures": CLASSES * TEST, "taken": taken, "after": after}


def ends(values: list[float], count: int = 20) -> tuple[float, float]:
    """The medians of the first and of the last tasks, without the very first, which warms up."""
    return float(np.median(values[1 : count + 1])), float(np.median(values[-count:]))


def _curve(axes: Axes, values: list[float], name: str, look: tuple[str, str], smooth: int = 9) -> None:
    """Each task as a dot, and the running median as a line."""
    ways = np.lib.stride_tricks.sliding_window_view(np.pad(values, smooth // 2, mode="edge"), smooth)
    numbers = np.arange(1, len(values) + 1)
    axes.plot(numbers, values, look[1], color=look[0], ms=3, alpha=0.4)
    axes.plot(numbers, np.median(ways, axis=1), color=look[0], ls="-" if look[1] == "o" else "--", label=name)
    axes.set_xlabel("task")
    axes.set_ylim(bottom=0)


def figure(content: dict[str, Any]) -> Figure:
    """Three panels over the tasks: seconds to learn one, milliseconds to answer a picture, megabytes."""
    figures.use_style()
    drawn, taken = plt.figure(figsize=(13, 3.6)), content["taken"]
    time_axes, answer_axes, memory_axes = drawn.subplots(1, 3)
    _curve(time_axes, taken["learn_s"], "learning a task", (figures.BLUE, "o"))
    time_axes.set_ylabel("seconds of a core")
    _curve(answer_axes, taken["predict_ms"], "answering a picture", (figures.BLUE, "o"))
    answer_axes.set_ylabel("milliseconds of a core")
    grown = [each - taken["resident_mb"][0] for each in taken["resident_mb"]]
    for values, name, look in (
        (taken["step_mb"], "peak while a task is learned", (figures.ORANGE, "s")),
        (grown, "held, beyond the first task's", (figures.BLUE, "o")),
        (taken["checkpoint_mb"], "checkpoint", (figures.BLACK, "^")),
    ):
        _curve(memory_axes, values, name, look)
    memory_axes.set_ylabel("megabytes")
    for axes, title in zip(drawn.axes, ("Time to learn", "Time to answer", "Memory"), strict=True):
        axes.set_title(title, loc="left")
    memory_axes.set_ylim(top=1.4 * memory_axes.get_ylim()[1])
    memory_axes.legend(fontsize=8, loc="upper left")
    drawn.tight_layout()
    return drawn


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="A hundred tasks in sequence on a toy.")
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--steps", type=int, default=15, help="of training, for each task")
    parser.add_argument("--figure", action="store_true", help="only draw the figure again")
    asked = parser.parse_args()
    if not asked.figure:
        with tempfile.TemporaryDirectory() as home:
            write_json(FILE, measure(asked.tasks, asked.steps, Path(home)) | origin())
    content = json.loads(FILE.read_text())
    figures.save(figure(content), FIGURE)
    for name, values in content["taken"].items():
        print("{:15} {:10.4g} in the first tasks, {:10.4g} in the last".format(name, *ends(values)))


if __name__ == "__main__":
    main()
