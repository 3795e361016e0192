"""Evaluation: one row of the accuracy matrix, without asking anything twice."""

from dataclasses import dataclass

from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.base import Method
from lib.metrics import accuracy
from lib.selector.ddas import count_routes


@dataclass
class Row:
    """After one task: accuracy in percent on every task by each decision, and for selectors who was sent where.

    `routed[decision][j]` counts the pictures of task j sent to each learned task's router, and last to CLIP.
    """

    accuracy: dict[str, list[float]]
    routed: dict[str, list[list[int]]]


def zero_shot_row(tasks: list[Task], features: list[Features], decisions: tuple[str, ...]) -> Row:
    """The row before anything is learned: CLIP answers everything."""
    scores = [accuracy(f.zero_shot, t.test.labels) for t, f in zip(tasks, features, strict=True)]
    return Row({d: list(scores) for d in decisions}, {})


def evaluate(method: Method, tasks: list[Task], features: list[Features], learned: int, before: Row | None) -> Row:
    """The row after learning task number `learned`, given the row before it.

    Answers that surely did not change are taken over (before None: none, since the classes to choose from are
    others now); pictures that go to CLIP were answered once per study.
    """
    row = Row({d: [] for d in method.decisions}, {})
    for number, (task, known) in enumerate(zip(tasks, features, strict=True)):
        if before and method.settled(number, learned):
            for decision, scores in row.accuracy.items():
                scores.append(before.accuracy[decision][number])
            continue
        found = method.predict(task, known, number)
        for decision, scores in row.accuracy.items():
            scores.append(accuracy(found.classes[decision], task.test.labels))
        for decision, routes in found.routes.items():
            row.routed.setdefault(decision, []).append(count_routes(routes, learned + 1))
    return row
