"""Less of a task: a few pictures of each class (few-shot), or its classes cut into several tasks."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lib.clip.backbone import Backbone
from lib.data import frozen as features
from lib.data.frozen import Features
from lib.data.tasks import Pictures, Task
from lib.study.params import Study


def shots(task: Task, known: Features, count: int, seed: int) -> tuple[Task, Features]:
    """The task with a seeded draw of `count` training pictures of each class (0 = all), and what CLIP says of them.

    Whoever learns the task, adapters and selector alike, sees the same draw. Raises ValueError where a class has fewer.
    """
    if not count:
        return task, known
    rng, kept = np.random.default_rng([seed, count]), []
    for label, name in enumerate(task.classes):
        mine = np.flatnonzero(task.train.labels.numpy() == label)
        if len(mine) < count:
            raise ValueError(f"task {task.name}: class {name} has {len(mine)} training pictures, fewer than {count}")
        kept.append(np.sort(rng.permutation(mine)[:count]))
    index = torch.from_numpy(np.concatenate(kept))
    train = Pictures(task.train.images[index], task.train.labels[index])
    picked = replace(known, train=known.train[index], image_train=known.image_train[index])
    return replace(task, train=train), picked


def cut(backbone: Backbone, task: Task, known: Features, parts: int | list[int]) -> list[tuple[Task, Features]]:
    """The task's classes cut into tasks of neighbouring classes; CLIP then answers among fewer classes.

    parts: their number, or how many classes each has. Raises ValueError where the classes are too few or do not add up.
    """
    if parts == 1:
        return [(task, known)]
    count = len(task.classes)
    if isinstance(parts, list):
        if sum(parts) != count:
            raise ValueError(f"tasks.cut adds up to {sum(parts)} classes; task {task.name} has {count}")
        edges = np.cumsum([0, *parts])
    elif parts > count // 2:
        raise ValueError(f"task {task.name} has {count} classes: too few to cut it into {parts} tasks")
    else:
        edges = np.linspace(0, count, parts + 1).round().astype(int)
    return [
        _between(backbone, task, known, first, end, f"{task.name}.{number + 1}")
        for number, (first, end) in enumerate(pairwise(edges.tolist()))
    ]


def divided(
    study: Study, backbone: Callable[[], Backbone], sequence: list[Task], known: list[Features]
) -> tuple[list[Task], list[Features]]:
    """The tasks that a study learns and what CLIP says of them: data sets as they are, or cut as `tasks.cut` says."""
    if not study.tasks.cut:
        return sequence, known
    pairs, clip = zip(sequence, known, strict=True), backbone()
    parts = [part for task, told in pairs for part in cut(clip, task, told, study.tasks.cut)]
    return [task for task, _ in parts], [told for _, told in parts]


def _between(backbone: Backbone, task: Task, known: Features, first: int, end: int, name: str) -> tuple[Task, Features]:
    train, test = (_inside(split.labels, first, end) for split in (task.train, task.test))
    part = Task(
        name,
        task.classes[first:end],
        task.templates,
        Pictures(task.train.images[train], task.train.labels[train] - first),
        Pictures(task.test.images[test], task.test.labels[test] - first),
    )
    image = known.image_test[test]
    answers = features.zero_shot(backbone, part, image)
    told = Features(answers, known.train[train], known.test[test], known.image_train[train], image)
    return part, told


def _inside(labels: Tensor, first: int, end: int) -> Tensor:
    return ((labels >= first) & (labels < end)).nonzero().flatten()
