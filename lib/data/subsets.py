"""Smaller tasks from one: few-shot draws of its training pictures, and class-incremental cuts by its classes."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

from lib.clip.backbone import Backbone
from lib.data import frozen
from lib.data.frozen import Features
from lib.data.tasks import Task


def shots(task: Task, features: Features, count: int, seed: int) -> tuple[Task, Features]:
    """The task and its features with `count` training pictures of each class (0 = all), drawn by the seed.

    Adapters and selector learn from the same draw. Raises ValueError if a class has fewer pictures.
    """
    if not count:
        return task, features
    rng, kept = np.random.default_rng([seed, count]), []
    for label, name in enumerate(task.classes):
        places = np.flatnonzero(task.train.labels.numpy() == label)
        if len(places) < count:
            raise ValueError(f"task {task.name}: class {name} has {len(places)} training pictures, fewer than {count}")
        kept.append(np.sort(rng.permutation(places)[:count]))
    index = torch.from_numpy(np.concatenate(kept))
    picked = replace(features, train=features.train[index], image_train=features.image_train[index])
    return replace(task, train=task.train.at(index)), picked


def cut(backbone: Backbone, task: Task, features: Features, parts: int | list[int]) -> list[tuple[Task, Features]]:
    """Cuts a task into tasks of neighbouring classes; CLIP answers each among its own classes.

    parts: the number of tasks, or the number of classes of each. Raises ValueError if there are too few classes or
    the numbers do not add up.
    """
    if parts == 1:
        return [(task, features)]
    count = len(task.classes)
    edges = np.linspace(0, count, parts + 1).round().astype(int) if isinstance(parts, int) else np.cumsum([0, *parts])
    if edges[-1] != count:
        raise ValueError(f"tasks.cut adds up to {edges[-1]} classes; task {task.name} has {count}")
    if isinstance(parts, int) and parts > count // 2:
        raise ValueError(f"task {task.name} has {count} classes: too few to cut it into {parts} tasks")
    made = []
    for number, (first, end) in enumerate(pairwise(edges.tolist())):
        train, test = ((split.labels >= first) & (split.labels < end) for split in (task.train, task.test))
        splits = task.train.at(train, first), task.test.at(test, first)
        part = Task(f"{task.name}.{number + 1}", task.classes[first:end], task.templates, *splits)
        image = features.image_test[test]
        answers = frozen.zero_shot(backbone, part, image)
        kept = Features(answers, features.train[train], features.test[test], features.image_train[train], image)
        made.append((part, kept))
    return made
