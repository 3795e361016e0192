"""What each method costs, all measured in one go: a process of its own for each, one thread, the same two tasks.

Seconds a step are the median over the steps of the second task (some methods do more from there on), after the
first has been learned in a few steps; memory is the process's peak beyond what it held before the method was made.
"""

import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib.clip.backbone import Backbone
from lib.data.frozen import ClsToken
from lib.methods.base import Method
from lib.moe.mixture import MoEConfig
from lib.moe.model import MoECLIP
from lib.selector.ddas import Selector
from lib.study import params
from lib.study import stage as learn
from lib.study.paths import REPORTS
from lib.study.results import peak_memory_mb
from lib.study.train import learn_task


class Stopwatch:
    """Notes when each training step of a method ended."""

    def __init__(self, method: Method) -> None:
        self.ends: list[float] = []
        inner = method.after_step

        def after_step() -> None:
            inner()
            self.ends.append(time.perf_counter())

        method.after_step = after_step

    @property
    def step(self) -> float:
        """Median seconds a step, of two steps or more."""
        return float(np.median(np.diff(self.ends)))


def measure(file: str, run: str, steps: int) -> dict[str, Any]:
    """One run's costs on the first two tasks, `steps` steps each; in a process that does nothing else."""
    study = params.load(file)
    here = learn.scene(study, run, next(iter(study.tasks.orders)), 0)
    train, before = replace(here.train, steps=steps), peak_memory_mb()
    method = learn.new_method(study, here.backbone, run, 0)
    step, around, sizes = float("nan"), 0.0, []
    for number in range(2):
        lesson = method.lesson(here.lessons[:2], number)
        watch, began = Stopwatch(method), time.perf_counter()
        if lesson is not None:
            learn_task(method, lesson, train, study.compute)
        around = time.perf_counter() - began - float(np.sum(np.diff(watch.ends)))
        step = watch.step if len(watch.ends) > 1 else step
        sizes.append(method.size())
    task, known = here.tasks[1], here.features[1]
    began = time.perf_counter()
    method.predict(task, known, 1)
    return {
        "run": run,
        "trainable parameters": sizes[1]["trainable_parameters"],
        "stored bytes a task": sizes[1]["stored_bytes"] - sizes[0]["stored_bytes"],
        "stored bytes": sizes[1]["stored_bytes"],
        "seconds a step": step,
        "seconds around a task": around,
        "peak memory (MB)": peak_memory_mb() - before,
        "ms a picture": 1000 * (time.perf_counter() - began) / len(task.test),
    }


def measure_all(file: str, runs: list[str], steps: int) -> list[dict[str, Any]]:
    """The costs of some runs, one after the other, each in a new process, forked from one that has only imported."""
    clean = get_context("forkserver")
    clean.set_forkserver_preload(["tools.bench.cost"])
    with ProcessPoolExecutor(1, mp_context=clean, max_tasks_per_child=1) as pool:
        return [pool.submit(measure, file, run, steps).result() for run in runs]


def minutes_of_study(study: str) -> pd.DataFrame:
    """Minutes of training and of evaluation of every run by its name, from the cost files that runs leave.

    They are of whatever machine a run had, with whatever ran beside it.
    """
    lines = {}
    for path in sorted((REPORTS / "cost" / study).glob("*.json")):
        seconds = json.loads(path.read_text())["seconds"].values()
        lines[path.stem] = {part: sum(s[part] for s in seconds) / 60 for part in ("training", "evaluation")}
    return pd.DataFrame.from_dict(lines, orient="index", columns=["training", "evaluation"])


@torch.no_grad()
def scaling(
    backbone: Backbone, images: torch.Tensor, selector: Selector, config: MoEConfig, counts: list[int]
) -> dict[str, list[float]]:
    """Milliseconds a picture with T learned tasks, for each T of `counts`.

    encoder: the frozen image tower; routed: the tower with adapters and T routers in each block, asked by the last;
    selector: its errors and decision. The tasks are copies of the selector's first and new routers: their number
    matters for the time, not what they have learned.
    """
    tower, model = ClsToken(backbone), MoECLIP(backbone.model, config).eval()
    features, first = tower(images), selector.tasks[0]
    found: dict[str, list[float]] = {"encoder": [], "routed": [], "selector": []}
    for count in counts:
        while model.num_tasks < count:
            model.add_task()
        selector.tasks = torch.nn.ModuleList([first] * count)
        selector.thresholds = selector.thresholds[:1].expand(count)
        ways: dict[str, Callable[[], object]] = {
            "encoder": lambda: tower(images),
            "routed": lambda last=count - 1: model.encode_image(images, last, whole=False),
            "selector": lambda: selector.decide(features),
        }
        for name, work in ways.items():
            found[name].append(_milliseconds(work, len(images)))
    return found


def _milliseconds(work: Callable[[], object], pictures: int, repeats: int = 7) -> float:
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times[1:])) / pictures
