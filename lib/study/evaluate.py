"""Evaluation: one row of the accuracy matrix, without asking for an answer twice."""

from dataclasses import dataclass

from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.base import Method
from lib.metrics import accuracy
from lib.selector.ddas import count_routes
from lib.settings import Number


@dataclass
class Row:
    """After one task: the accuracy in percent on every task by each decision, and the routes of a selector.

    `routed[decision][j]` counts the pictures of task j that were sent to each learned task's router, and last to CLIP.
    """

    accuracy: dict[str, list[Number]]
    routed: dict[str, list[list[int]]]


def zero_shot_row(tasks: list[Task], features: list[Features], decisions: tuple[str, ...]) -> Row:
    """The row before anything is learned: CLIP answers everything."""
    scores = [accuracy(f.zero_shot, t.test.labels) for t, f in zip(tasks, features, strict=True)]
    return Row({d: list(scores) for d in decisions}, {})


def evaluate(method: Method, tasks: list[Task], features: list[Features], learned: int, before: Row | None) -> Row:
    """The row after learning task number `learned`, given the row before it.

    Where learning cannot have changed the answers on a task, its numbers are copied from the row before. before: None
    where the classes to choose from have changed, so that nothing can be copied.
    """
    row = Row({d: [] for d in method.decisions}, {})
    for number, (task, frozen) in enumerate(zip(tasks, features, strict=True)):
        if before and method.settled(number, learned):
            for decision, scores in row.accuracy.items():
                scores.append(before.accuracy[decision][number])
            continue
        answers = method.predict(task, frozen, number)
        for decision, scores in row.accuracy.items():
            scores.append(accuracy(answers.classes[decision], task.test.labels))
        for decision, routes in answers.routes.items():
            row.routed.setdefault(decision, []).append(count_routes(routes, learned + 1))
    return row
