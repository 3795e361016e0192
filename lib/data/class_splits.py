"""Class-incremental learning: one data set cut into several tasks by its classes."""

from itertools import pairwise

import numpy as np
from torch import Tensor

from lib.clip.backbone import Backbone
from lib.data import frozen
from lib.data.frozen import Features
from lib.data.tasks import Pictures, Task


def cut(backbone: Backbone, task: Task, features: Features, parts: int | list[int]) -> list[tuple[Task, Features]]:
    """Cuts a task into tasks of neighbouring classes; CLIP answers each among its own classes.

    parts: the number of tasks, or the number of classes of each. Raises ValueError if there are too few classes or
    the numbers do not add up.
    """
    if parts == 1:
        return [(task, features)]
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
        _between(backbone, task, features, first, end, f"{task.name}.{number + 1}")
        for number, (first, end) in enumerate(pairwise(edges.tolist()))
    ]


def _between(
    backbone: Backbone, task: Task, features: Features, first: int, end: int, name: str
) -> tuple[Task, Features]:
    """The part of a task with the classes from `first` up to, but not including, `end`."""
    train, test = (_places(split.labels, first, end) for split in (task.train, task.test))
    part = Task(
        name,
        task.classes[first:end],
        task.templates,
        Pictures(task.train.images[train], task.train.labels[train] - first),
        Pictures(task.test.images[test], task.test.labels[test] - first),
    )
    image = features.image_test[test]
    answers = frozen.zero_shot(backbone, part, image)
    kept = Features(answers, features.train[train], features.test[test], features.image_train[train], image)
    return part, kept


def _places(labels: Tensor, first: int, end: int) -> Tensor:
    return ((labels >= first) & (labels < end)).nonzero().flatten()
