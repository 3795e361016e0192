"""Label spaces: among which classes a test picture is answered (params `tasks.labels`).

own (MTIL): those of its own task. union (X-TAIL, Xu et al. 2024): those of all tasks, learned or not. seen
(class-incremental): those of the tasks learned so far, and only these tasks are tested. A class name that two tasks
share is one class.
"""

from dataclasses import replace

import torch
from torch import Tensor

from lib.clip.backbone import Backbone
from lib.data import frozen as features
from lib.data.frozen import Features
from lib.data.tasks import Pictures, Task, TaskError

Tested = tuple[list[Task], list[Features]]  # tasks, and what the frozen CLIP says of each


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
        self.made: dict[int, Tested] = {}  # by the number of tasks whose classes it has

    @property
    def fixed(self) -> bool:
        """True if a task is tested among the same classes at all times."""
        return self.kind != "seen"

    def after(self, learned: int) -> Tested:
        """The tasks that are tested after task number `learned`, each among the classes of the space.

        `places` of such a task says where each task's classes are; its labels count the same way.
        """
        if self.kind == "own":
            return self.tasks, self.known
        count = len(self.tasks) if self.fixed else learned + 1
        if count not in self.made:
            self.made[count] = self._among(self.tasks[:count], self.known[:count])
        return self.made[count]

    def _among(self, members: list[Task], known: list[Features]) -> Tested:
        """Some tasks, each among the classes of all of them."""
        names = list(dict.fromkeys(name for task in members for name in task.classes))
        place = {name: number for number, name in enumerate(names)}
        places = {i: torch.tensor([place[name] for name in t.classes]) for i, t in enumerate(members)}
        views = [
            replace(task, classes=names, test=_moved(task.test, places[i]), places=places)
            for i, task in enumerate(members)
        ]
        classes = features.class_features(self.backbone, views[0])  # (C, F): once, for all of them
        return views, [replace(told, zero_shot=(told.image_test @ classes.T).argmax(dim=1)) for told in known]


def _moved(pictures: Pictures, places: Tensor) -> Pictures:
    return Pictures(pictures.images, places[pictures.labels])
