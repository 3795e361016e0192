"""What a study makes of prepared tasks: few-shot draws, class-incremental cuts, and label spaces."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import torch

from lib.clip.backbone import Backbone
from lib.data import frozen
from lib.data.frozen import Features
from lib.data.tasks import Pictures, Task, TaskError

Tested = tuple[list[Task], list[Features]]  # tasks, and the frozen CLIP's features of each


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

    parts: the number of tasks, or the number of classes of each. Raises ValueError if there are too few classes or the
    numbers do not add up.
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
    for number, (first, end) in enumerate(pairwise(edges.tolist()), 1):
        train, test = ((split.labels >= first) & (split.labels < end) for split in (task.train, task.test))
        splits = task.train.at(train, first), task.test.at(test, first)
        part = Task(f"{task.name}.{number}", task.classes[first:end], task.templates, *splits)
        image = features.image_test[test]
        answers = frozen.zero_shot(backbone, part, image)
        kept = Features(answers, features.train[train], features.test[test], features.image_train[train], image)
        made.append((part, kept))
    return made


class LabelSpace:
    """The classes among which a test picture is answered (params `tasks.labels`), and CLIP's answers among them.

    own (MTIL): the classes of the picture's task. union: the same, and beside it among those of all tasks, learned or
    not (X-TAIL, Xu et al. 2024), in decisions whose names begin with `union_`. seen (class-incremental): those of the
    tasks learned so far, and only these tasks are tested. A class name that two tasks share is one class. Raises
    TaskError if tasks that share a space have different templates.
    """

    def __init__(self, kind: str, backbone: Backbone, tasks: list[Task], features: list[Features]) -> None:
        self.kind, self.backbone, self.tasks, self.features = kind, backbone, tasks, features
        self.fixed = kind != "seen"  # a task is tested among the same classes at all times
        # the same views every time, and CLIP reads the classes once
        self._own, self._among = cache(self._own), cache(self._among)
        odd = [task.name for task in tasks if task.templates != tasks[0].templates]
        if kind != "own" and odd:
            names = f"those of {odd[0]} differ from those of {tasks[0].name}: set tasks.templates"
            raise TaskError(f"tasks.labels is {kind}, so all tasks need the same templates, but {names}")

    def after(self, learned: int) -> dict[str, Tested]:
        """What is tested after task number `learned`, by what the names of its decisions begin with."""
        match self.kind:
            case "own":
                return {"": self._own()}
            case "union":
                return {"": self._own(), "union_": self._among(len(self.tasks))}
            case _:
                return {"": self._among(learned + 1)}

    def _own(self) -> Tested:
        """All tasks, each among its own classes."""
        classes = [frozen.class_features(self.backbone, task) for task in self.tasks]
        owners = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(own) for own in classes]))
        nearest = [owners[(held.image_test @ torch.cat(classes).T).argmax(dim=1)] for held in self.features]
        lists = [task.classes for task in self.tasks]
        views = [
            replace(task, nearest_task=near, listed=lists.index(task.classes), places=_alike(lists, task.classes))
            for task, near in zip(self.tasks, nearest, strict=True)
        ]
        return views, self.features

    def _among(self, count: int) -> Tested:
        """The first `count` tasks, each among the classes of all of them (`places`)."""
        members = self._own()[0][:count] if self.fixed else self.tasks[:count]
        names = list(dict.fromkeys(name for task in members for name in task.classes))
        places = {i: torch.tensor([names.index(name) for name in t.classes]) for i, t in enumerate(members)}
        tests = [Pictures(task.test.images, places[i][task.test.labels]) for i, task in enumerate(members)]
        listed = next((i for i, task in enumerate(members) if task.classes == names), None)
        changed = {"classes": names, "places": places, "listed": listed}
        views = [replace(task, test=test, **changed) for task, test in zip(members, tests, strict=True)]
        classes = frozen.class_features(self.backbone, views[0])  # (C, F), the same for all of them
        return views, [replace(f, zero_shot=(f.image_test @ classes.T).argmax(dim=1)) for f in self.features[:count]]


def _alike(lists: list[list[str]], classes: list[str]) -> dict[int, torch.Tensor]:
    """The places of the tasks that have exactly these classes; {} if only one has: then the list tells the task."""
    alike = [number for number, listed in enumerate(lists) if listed == classes]
    return dict.fromkeys(alike, torch.arange(len(classes))) if len(alike) > 1 else {}
