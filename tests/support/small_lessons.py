"""How the tests teach a method: begun, stirred, after a lesson of colours, in one go or resumed; and label spaces."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from safetensors.torch import load, save

from lib.clip.towers import image_tower, text_tower
from lib.data import frozen
from lib.data.scenarios import LabelSpace, Tested
from lib.data.tasks import Pictures, Task
from lib.methods.base import Lesson, Method, Predictions
from lib.metrics import accuracy
from lib.study.train import learn_task
from tests.support import small_study

NAMES = [["lined", "plain sheet", "upright"], ["tilted", "plain sheet", "bare"], ["across", "lying", "sheer"]]


def named() -> list[Task]:
    """The small study's tasks under other class names; the second class of the first two is the same."""
    return [replace(task, classes=names) for task, names in zip(small_study.sequence()[0], NAMES, strict=True)]


@cache
def views(kind: str = "union", learned: int = 1) -> dict[str, Tested]:
    """What is tested after task number `learned` in a label space of these tasks."""
    return LabelSpace(kind, small_study.backbone(), named(), small_study.sequence()[1]).after(learned)


@cache
def colours() -> Lesson:
    """A second lesson: all tasks' pictures, named by colour. Sixty steps are enough for it; stripes take hundreds."""
    images = torch.cat([made.train.images for made in small_study.sequence()[0]])
    pictures = Pictures(images, torch.arange(3).repeat_interleave(len(images) // 3))
    made = Task("colours", small_study.NAMES, small_study.TEMPLATES, pictures, pictures)
    return Lesson(made, 1, frozen.compute(small_study.backbone(), made, "clip"), [0, 1])


def after_colours(name: str, steps: int = 60, **settings: Any) -> tuple[list[float], float]:
    """A method's losses on the colours, learned after stripes, and the percentage of colours that it then names."""
    pupil = small_study.teach(small_study.method(name, {"train.steps": steps, "train.smoothing": 0.0}, **settings), 0)
    losses, asked = learn_task(pupil, colours(), pupil.context.train), colours()
    answers = pupil.predict(asked.task, asked.features, 1).classes["sample"]
    return losses, accuracy(answers, asked.task.test.labels)


def in_one_go_and_resumed(name: str) -> tuple[bytes, bytes]:
    """A method's state after three tasks: learned in one go, and resumed from its state after the second."""
    whole = small_study.teach(small_study.method(name), 0, 1)
    again = small_study.method(name)
    again.restore(load(save(whole.state())))  # as a checkpoint holds it
    return save(small_study.teach(whole, 2).state()), save(small_study.teach(again, 2).state())


def predicted(method: Method, number: int) -> Predictions:
    """A method's answers on the test pictures of a small task."""
    tasks, features = small_study.sequence()
    return method.predict(tasks[number], features[number], number)


def begun(name: str, *before: int, **settings: Any) -> Any:
    """A method that has learned some tasks and has just begun the next."""
    method = small_study.teach(small_study.method(name, **settings), *before)
    method.begin_task(small_study.lessons()[len(before)])
    return method


@torch.no_grad()
def stir(method: Any, size: float = 0.02) -> Any:
    """The method after a small random change of everything that it trains."""
    generator = torch.Generator().manual_seed(0)
    for parameter in method.trained().values():
        parameter += size * torch.randn(parameter.shape, generator=generator)
    return method


def bare_loss(method: Any, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The cross entropy alone of a method that fine-tunes."""
    image, text = image_tower(method.model, images), text_tower(method.model, method.prompts)
    return method.cross_entropy(image, text, labels)


def copied(method: Any) -> dict[str, torch.Tensor]:
    """The tensors of a method's model as they are now."""
    return {name: tensor.clone() for name, tensor in method.model.state_dict().items()}


def moved(method: Any, before: dict[str, torch.Tensor]) -> set[str]:
    """The names of the model's tensors that are not bit for bit as they were before."""
    after = method.model.state_dict()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
