"""Training on one task: batches, crops, schedule, AdamW (paper, Sec. 4.1; released code)."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from lib.clip import compute
from lib.methods.base import Lesson, Method
from lib.study.params import Compute, Train
from lib.study.progress import Progress

Loss = Callable[[Tensor, Tensor], Tensor]  # of images and labels
ON_CPU = Compute(threads=1)


class TrainingError(RuntimeError):
    """Training that cannot go on; the message names the task and the step."""


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """The share of the peak learning rate at a step: linear up over `warmup` steps, then a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def batches(count: int, batch: int, steps: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices (batch,) for every step: shuffled epochs, the odd rest of an epoch left out; small sets whole."""
    size = min(batch, count)
    drawn: list[np.ndarray] = []
    while len(drawn) < steps:
        order = rng.permutation(count)
        drawn += [order[i : i + size] for i in range(0, count - size + 1, size)]
    return drawn[:steps]


def random_crop(images: Tensor, smallest: float, rng: np.random.Generator) -> Tensor:
    """RandomResizedCrop of each image (B, 3, H, W), bicubic: area share `smallest` to 1, sides 3:4 to 4:3, no flip."""
    count = len(images)
    area = rng.uniform(smallest, 1, count)
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), count) / 2)
    wide, high = np.minimum(np.sqrt(area) * ratio, 1), np.minimum(np.sqrt(area) / ratio, 1)
    x, y = rng.uniform(-1, 1, (2, count)) * (1 - np.stack([wide, high]))
    zero = np.zeros(count)
    maps = np.stack([np.stack([wide, zero, x], 1), np.stack([zero, high, y], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(torch.from_numpy(maps).to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False)


def learn_task(method: Method, lesson: Lesson, settings: Train, how: Compute = ON_CPU) -> list[float]:
    """Teaches a method a lesson and returns the loss of every step.

    All randomness comes from the lesson's seed, so a task learned again from the same state gives the same bytes (on
    the CPU). Several processes draw the same batches and crops, and each takes its part of them.
    Raises TrainingError when a loss is not a number; the method is then not fit for use, its checkpoint is.
    """
    rng = np.random.default_rng(lesson.seed)
    torch.manual_seed(int(rng.integers(2**31)))
    parameters = method.begin_task(lesson)
    losses = _train(method, lesson, settings, how, parameters, rng) if parameters else []
    method.end_task(lesson)
    return losses


def _train(
    method: Method,
    lesson: Lesson,
    settings: Train,
    how: Compute,
    parameters: list[Parameter],
    rng: np.random.Generator,
) -> list[float]:
    task, peak = lesson.task, method.learning_rate(lesson.task)
    epoch = max(1, len(task.train) // settings.batch)
    steps = settings.epochs * epoch or settings.steps * lesson.parts
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.999), weight_decay=0.0, fused=True)
    progress, losses = Progress(task.name, steps), []
    loss_of: Loss = torch.compile(method.loss) if how.compile else method.loss
    for step, batch in enumerate(batches(len(task.train), settings.batch, steps, rng)):
        optimizer.param_groups[0]["lr"] = peak * warmup_cosine(step, steps, settings.warmup)
        pictures = method.backbone.pixels(task.train.images[batch])
        labels = task.train.labels[batch].to(pictures.device)
        optimizer.zero_grad()
        loss = _backward(loss_of, random_crop(pictures, settings.crop, rng), labels, how)
        compute.average(parameters)
        method.before_step()
        optimizer.step()
        method.after_step()
        losses.append(loss)
        if progress.due(step + 1):
            _check(losses, task.name)
            progress.step(step + 1, loss.item())
    optimizer.zero_grad()  # a router's gradients would stay in memory for every task to come
    return (compute.total(torch.stack(losses)) / compute.processes()).tolist()


def _backward(loss_of: Loss, images: Tensor, labels: Tensor, how: Compute) -> Tensor:
    """Adds up the gradients of this process's part of a batch, in so many parts; returns its share of the loss."""
    whole, total = len(images), images.new_zeros(())
    mine = zip(compute.share(images).chunk(how.accumulate), compute.share(labels).chunk(how.accumulate), strict=True)
    for some, told in mine:
        with compute.training(how, images.device):
            loss = loss_of(some, told)
        if len(some) < whole:
            loss = loss * (len(some) * compute.processes() / whole)
        loss.backward()
        total = total + loss.detach()
    return total


def _check(losses: list[Tensor], task: str) -> None:
    bad = (~torch.isfinite(torch.stack(losses))).nonzero().flatten().tolist()
    if bad:
        raise TrainingError(
            f"the loss is not a number at step {bad[0]} of task {task}; the checkpoint before this task is kept. "
            f"Try a smaller lr in the params file"
        )
