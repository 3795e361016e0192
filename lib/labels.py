"""Label spaces: among which classes a test picture is answered (params `tasks.labels`).

own (MTIL): those of its own task. union (X-TAIL, Xu et al. 2024): those of all tasks, learned or not. seen
(class-incremental): those of the tasks learned so far, and only these tasks are tested. A class name that two tasks
share is one class.
"""

from dataclasses import replace

import torch
from torch import Tensor

from lib import features
from lib.clip import Backbone
from lib.features import Features
from lib.tasks import Pictures, Task, TaskError


class LabelSpace:
    """The tasks as they are tested after each of them, with what the frozen CLIP answers there."""

    def __init__(self, kind: str, backbone: Backbone, tasks: list[Task], known: list[Features]) -> None:
        self.kind, self.backbone, self.tasks, self.known = kind, backbone, tasks, known
        odd = [task.name for task in tasks if task.templates != tasks[0].templates]
        if kind != "own" and odd:
            raise TaskError(
                f"tasks.labels is {kind}, so all tasks need the same templates; {odd[0]} has others than "
                f"{tasks[0].name}: set tasks.templates"
            )
        self.classes: dict[int, Tensor] = {}  # CLIP's features (C, F) of the classes of so many tasks

    @property
    def fixed(self) -> bool:
        """True if a task is tested among the same classes at all times."""
        return self.kind != "seen"

    def after(self, learned: int) -> tuple[list[Task], list[Features]]:
        """The tasks that are tested after task number `learned`, each among the classes of the space.

        `places` of such a task says where each task's classes are; its labels count the same way.
        """
        if self.kind == "own":
            return self.tasks, self.known
        members = self.tasks if self.fixed else self.tasks[: learned + 1]
        names = list(dict.fromkeys(name for task in members for name in task.classes))
        place = {name: number for number, name in enumerate(names)}
        places = {i: torch.tensor([place[name] for name in t.classes]) for i, t in enumerate(members)}
        views = [
            replace(task, classes=names, test=_moved(task.test, places[i]), places=places)
            for i, task in enumerate(members)
        ]
        if len(members) not in self.classes:
            self.classes[len(members)] = features.class_features(self.backbone, views[0])
        answers = [(known.image_test @ self.classes[len(members)].T).argmax(dim=1) for known in self.known]
        told = [replace(known, zero_shot=found) for known, found in zip(self.known, answers, strict=True)]
        return views, told[: len(members)]


def _moved(pictures: Pictures, places: Tensor) -> Pictures:
    return Pictures(pictures.images, places[pictures.labels])
