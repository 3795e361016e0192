"""Label spaces: the classes among which a test picture is answered (params `tasks.labels`).

own (MTIL): the classes of the picture's task. union (X-TAIL, Xu et al. 2024): those of all tasks, learned or not.
seen (class-incremental): those of the tasks learned so far, and only these tasks are tested. A class name that two
tasks share is one class.
"""

from dataclasses import replace

import torch

from lib.clip.backbone import Backbone
from lib.data import frozen
from lib.data.frozen import Features
from lib.data.tasks import Pictures, Task, TaskError

Tested = tuple[list[Task], list[Features]]  # tasks, and the frozen CLIP's features of each


class LabelSpace:
    """The tasks as they are tested after each of them, with the frozen CLIP's answers in that label space."""

    def __init__(self, kind: str, backbone: Backbone, tasks: list[Task], features: list[Features]) -> None:
        self.kind, self.backbone, self.tasks, self.features = kind, backbone, tasks, features
        odd = [task.name for task in tasks if task.templates != tasks[0].templates]
        if kind != "own" and odd:
            names = f"those of {odd[0]} differ from those of {tasks[0].name}: set tasks.templates"
            raise TaskError(f"tasks.labels is {kind}, so all tasks need the same templates, but {names}")
        self.made: dict[int, Tested] = {}  # by the number of tasks whose classes are in the space

    @property
    def fixed(self) -> bool:
        """True if a task is tested among the same classes at all times."""
        return self.kind != "seen"

    def after(self, learned: int) -> Tested:
        """The tasks that are tested after task number `learned`, each among the classes of the space (`places`)."""
        if self.kind == "own":
            return self.tasks, self.features
        count = len(self.tasks) if self.fixed else learned + 1
        if count not in self.made:
            self.made[count] = self._among(self.tasks[:count], self.features[:count])
        return self.made[count]

    def _among(self, members: list[Task], features: list[Features]) -> Tested:
        """Some tasks, each among the classes of all of them."""
        names = list(dict.fromkeys(name for task in members for name in task.classes))
        place = {name: number for number, name in enumerate(names)}
        places = {i: torch.tensor([place[name] for name in t.classes]) for i, t in enumerate(members)}
        tests = [Pictures(task.test.images, places[i][task.test.labels]) for i, task in enumerate(members)]
        views = [replace(t, classes=names, test=test, places=places) for t, test in zip(members, tests, strict=True)]
        classes = frozen.class_features(self.backbone, views[0])  # (C, F), the same for all of them
        return views, [replace(f, zero_shot=(f.image_test @ classes.T).argmax(dim=1)) for f in features]
