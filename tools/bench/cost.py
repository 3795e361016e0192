"""What each method costs: one after the other, each in a process of its own, on the same two tasks.

A method learns two tasks in a few steps, then answers the test pictures of the second one. Seconds a step are the
median over the second task, since some methods do more from there on. No method remembers an answer, and no feature of
a test picture comes from a file: each method pays for all that its answers need.
"""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.clip import Backbone
from lib.data import frozen
from lib.data.frozen import Features
from lib.data.tasks import Pictures, Task
from lib.methods.base import Lesson, Method
from lib.selector import DDAS, SelectorSettings
from lib.study import open_study
from lib.study.train import learn_task
from tools.bench.meters import best, most, seconds


class Uncomputed:
    """A task's Features, computed when one of them is first read."""

    def __init__(self, compute: Callable[[], Features]) -> None:
        self.compute = compute

    def __getattr__(self, name: str) -> Tensor:
        self.__dict__.update(vars(self.compute()))
        return self.__dict__[name]


def measure(file: str, run: str, steps: int) -> dict[str, Any]:
    """One run's costs on the first two tasks, `steps` steps each; for a process that does nothing else."""
    study = open_study(file)
    curriculum, precision = study.curriculum(run, study.main_order, 0), study.params.compute.precision
    lessons, train = curriculum.lessons[:2], replace(curriculum.train, steps=steps)
    costs: dict[str, Any] = {"run": run}

    def work() -> None:
        method = study.method(run)
        costs.update(learning(method, lessons, lambda lesson: learn_task(method, lesson, train, precision)))
        costs["ms a picture"] = answering(method, study.backbone, lessons[1].task, study.params.selector.features)

    costs["peak memory (MB)"] = most(work)
    return costs


def learning(method: Method, lessons: list[Lesson], learn_lesson: Callable[[Lesson], object]) -> dict[str, float]:
    """Sizes and seconds of a method that learns two lessons."""
    ends: list[float] = []
    after_step = method.after_step
    method.after_step = lambda: (after_step(), ends.append(time.perf_counter()))  # type: ignore[method-assign]
    step, around, sizes = float("nan"), 0.0, []
    for number in range(2):
        ends.clear()
        lesson = method.lesson(lessons, number)
        taken = seconds(lambda lesson=lesson: lesson and learn_lesson(lesson))
        steps = np.diff(ends)
        around = taken - float(steps.sum())
        step = float(np.median(steps)) if len(steps) else step
        sizes.append(method.size())
    return {
        "trainable parameters": sizes[1]["trainable_parameters"],
        # iCaRL divides a memory of fixed size anew, to whole pictures: a few bytes less are no gain
        "stored bytes a task": max(0, sizes[1]["stored_bytes"] - sizes[0]["stored_bytes"]),
        "seconds a step": step,
        "seconds around a task": around,
    }


def answering(method: Method, backbone: Backbone, task: Task, kind: str) -> float:
    """Milliseconds a test picture of the second task, with nothing computed before; a few pictures warm up."""
    few = Pictures(task.test.images[:8], task.test.labels[:8])
    for asked in (replace(task, name="warm-up", test=few), task):  # under another name, so no answer is remembered
        features: Any = Uncomputed(partial(frozen.compute, backbone, replace(asked, train=few), kind))
        taken = seconds(lambda asked=asked, features=features: method.predict(asked, features, 1))
    return 1000 * taken / len(task.test)


def measure_all(file: str, runs: list[str], steps: int) -> pd.DataFrame:
    """The costs of some runs, one after the other, each in a process that has only imported this module."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        return pd.DataFrame([pool.submit(measure, file, run, steps).result() for run in runs])


def decision_ms(features: Tensor, settings: SelectorSettings, learned: int) -> float:
    """Milliseconds a picture that a selector of so many tasks takes to decide, on features (N, S).

    Its autoencoders are new ones: their number matters, not their weights.
    """
    selector = DDAS(features.shape[1], replace(settings, steps=0))
    for number in range(learned):
        selector.learn(features, torch.zeros(len(features), dtype=torch.long), [number])
    with torch.no_grad():
        return 1000 * best(lambda: selector.decide(features), 7) / len(features)
