"""What each method costs: one after the other, each in a process of its own, on the same two tasks.

A method learns two tasks in a few steps, then answers the test pictures of the second one. Seconds a step are the
median over the second task, since some methods do more from there on. No method remembers an answer, and no feature of
a test picture comes from a file: each method pays for all that its answers need.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
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
from lib.moe import MoECLIP, MoEConfig
from lib.selector import DDAS, ClsToken, SelectorSettings
from lib.study import open_study
from lib.study.train import learn_task
from tools.bench.meters import best, in_new_processes, most


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

    peak = most(work)
    return costs | {"peak memory (MB)": peak}


def learning(method: Method, lessons: list[Lesson], learn_lesson: Callable[[Lesson], object]) -> dict[str, float]:
    """Sizes and seconds of a method that learns two lessons."""
    ends: list[float] = []
    after_step = method.after_step
    method.after_step = lambda: (after_step(), ends.append(time.perf_counter()))  # type: ignore[method-assign]
    step, around, sizes = float("nan"), 0.0, []
    for number in range(2):
        ends.clear()
        lesson, began = method.lesson(lessons, number), time.perf_counter()
        if lesson is not None:
            learn_lesson(lesson)
        seconds = np.diff(ends)
        around = time.perf_counter() - began - float(seconds.sum())
        step = float(np.median(seconds)) if len(seconds) else step
        sizes.append(method.size())
    return {
        "trainable parameters": sizes[1]["trainable_parameters"],
        # iCaRL divides a memory of fixed size anew, to whole pictures: a few bytes less are no gain
        "stored bytes a task": max(0, sizes[1]["stored_bytes"] - sizes[0]["stored_bytes"]),
        "stored bytes": sizes[1]["stored_bytes"],
        "seconds a step": step,
        "seconds around a task": around,
    }


def answering(method: Method, backbone: Backbone, task: Task, kind: str) -> float:
    """Milliseconds a test picture of the second task, with nothing computed before; a few pictures warm up."""
    few = Pictures(task.test.images[:8], task.test.labels[:8])
    for asked in (replace(task, name="warm-up", test=few), task):  # under another name, so no answer is remembered
        features: Any = Uncomputed(partial(frozen.compute, backbone, replace(asked, train=few), kind))
        began = time.perf_counter()
        method.predict(asked, features, 1)
        seconds = time.perf_counter() - began
    return 1000 * seconds / len(task.test)


def measure_all(file: str, runs: list[str], steps: int) -> pd.DataFrame:
    """The costs of some runs, one after the other."""
    return pd.DataFrame(in_new_processes(measure, [(file, run, steps) for run in runs]))


@torch.no_grad()
def scaling(
    backbone: Backbone, images: Tensor, config: MoEConfig, settings: SelectorSettings, counts: list[int]
) -> dict[str, list[float]]:
    """Milliseconds a picture with T learned tasks, for each T of `counts`, on images (B, 3, H, W).

    encoder: the frozen image tower; routed: the tower with adapters and T routers a block, routed by the last one;
    selector: its decision. Routers and autoencoders are new ones: their number matters, not their weights.
    """
    tower, model = ClsToken(backbone), MoECLIP(backbone.model, config).eval()
    times: dict[str, list[float]] = {"encoder": [], "routed": [], "selector": []}
    for count in counts:
        while model.num_tasks < count:
            model.add_task()
        times["encoder"].append(1000 * best(lambda: tower(images), 7) / len(images))
        last = partial(model.encode_image, images, count - 1, whole=False)
        times["routed"].append(1000 * best(last, 7) / len(images))
        times["selector"].append(decision_ms(tower(images), settings, count, 7))
    return times


def decision_ms(features: Tensor, settings: SelectorSettings, learned: int, repeats: int) -> float:
    """Milliseconds a picture that a selector of so many tasks takes to decide, on features (N, S)."""
    selector = DDAS(features.shape[1], replace(settings, steps=0))  # untrained: that does not change the time
    with torch.enable_grad():
        for number in range(learned):
            selector.learn(features, torch.zeros(len(features), dtype=torch.long), [number])
    return 1000 * best(lambda: selector.decide(features), repeats) / len(features)
