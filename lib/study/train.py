"""Training on one task: batches, learning rate, AdamW (paper, Sec. 4.1; released code); and evaluation on all tasks."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from lib.clip.backbone import is_bf16
from lib.data.scenarios import Tested
from lib.data.tasks import random_crop
from lib.methods.base import Lesson, Method, TrainSettings
from lib.metrics import accuracy
from lib.selector.ddas import count_routes
from lib.settings import Number
from lib.study.log import Progress


class TrainingError(RuntimeError):
    """Training that cannot go on; the message names the task and the step."""


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """The share of the peak learning rate at a step: linear up over `warmup` steps, then a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def batches(count: int, batch: int, steps: int, rng: Generator) -> list[np.ndarray]:
    """The indices (batch,) of every step: shuffled epochs without their incomplete last batch; small sets whole."""
    size = min(batch, count)
    drawn: list[np.ndarray] = []
    while len(drawn) < steps:
        order = rng.permutation(count)
        drawn += [order[i : i + size] for i in range(0, count - size + 1, size)]
    return drawn[:steps]


def learn_task(method: Method, lesson: Lesson, settings: TrainSettings, precision: str = "fp32") -> list[float]:
    """Teaches a method one task and returns the loss of every step.

    All randomness comes from the lesson's seed: the same state and lesson give the same bytes on a CPU.
    Raises TrainingError for a loss that is not a finite number. The method cannot be used then; its checkpoint can.
    """
    rng = np.random.default_rng(lesson.seed)
    torch.manual_seed(int(rng.integers(2**31)))
    parameters = method.begin_task(lesson)
    if not parameters:
        method.end_task(lesson)
        return []
    task, peak = lesson.task, method.learning_rate(lesson.task)
    epoch = max(1, len(task.train) // settings.batch)
    steps = settings.epochs * epoch or settings.steps * lesson.parts
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.999), weight_decay=0.0, fused=True)
    progress, losses = Progress(task.name, steps), []
    for step, batch in enumerate(batches(len(task.train), settings.batch, steps, rng)):
        optimizer.param_groups[0]["lr"] = peak * warmup_cosine(step, steps, settings.warmup)
        images = random_crop(method.backbone.pixels(task.train.images[batch]), settings.crop, rng)
        labels = task.train.labels[batch].to(images.device)
        method.batch = batch
        optimizer.zero_grad()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=is_bf16(precision, images.device)):
            loss = method.loss(images, labels)
        loss.backward()
        method.before_step()
        optimizer.step()
        method.after_step()
        losses.append(loss.detach())
        if progress.due(step + 1):
            _check(losses, task.name)
            progress.report(step + 1, f"steps, loss {loss.item():.3f}")
    optimizer.zero_grad()  # the gradients of a router would stay in memory for all tasks to come
    method.end_task(lesson)
    return torch.stack(losses).tolist()


def _check(losses: list[Tensor], task: str) -> None:
    bad = (~torch.isfinite(torch.stack(losses))).nonzero().flatten().tolist()
    if bad:
        what = f"the loss is not a number at step {bad[0]} of task {task}"
        raise TrainingError(f"{what}; the checkpoint before this task is kept. Try a smaller lr in the params file")


@dataclass
class Row:
    """A row of the accuracy matrix, and the routes of a selector, by decision; its numbers are those after one task."""

    accuracy: dict[str, list[Number]]  # of every task, in percent
    routed: dict[str, list[list[int]]]  # of every task, its pictures sent to each learned task's router, last to CLIP


def zero_shot_row(views: dict[str, Tested], decisions: tuple[str, ...]) -> Row:
    """The row before anything is learned: CLIP answers everything."""
    row = Row({}, {})
    for space, tested in views.items():
        scores = [accuracy(f.zero_shot, t.test.labels) for t, f in zip(*tested, strict=True)]
        row.accuracy |= {space + decision: list(scores) for decision in decisions}
    return row


def evaluate(method: Method, views: dict[str, Tested], learned: int, before: Row | None) -> Row:
    """The row after learning task number `learned`. views: the tasks in each label space (LabelSpace.after).

    Where learning cannot have changed the answers on a task, its numbers are copied from the row before; None if the
    classes to choose from have changed. Routes are those of the first space, where class names do not change them.
    """
    row = Row({space + decision: [] for space in views for decision in method.decisions}, {})
    tested = {space: list(zip(*view, strict=True)) for space, view in views.items()}
    method.made = {}
    for number in range(len(tested[""])):
        if before and method.settled(number, learned):
            for decision, scores in row.accuracy.items():
                scores.append(before.accuracy[decision][number])
            continue
        method.encoded = {}
        for space, pairs in tested.items():
            task, frozen = pairs[number]
            answers = method.predict(task, frozen, number)
            for decision in method.decisions:
                row.accuracy[space + decision].append(accuracy(answers.classes[decision], task.test.labels))
            for decision, routes in answers.routes.items() if method.routes_by_names or not space else ():
                row.routed.setdefault(space + decision, []).append(count_routes(routes, learned + 1))
    method.encoded = method.made = None
    return row
