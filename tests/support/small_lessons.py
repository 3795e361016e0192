"""How the tests teach a method: a lesson of colours after one of stripes, and three in one go or taken up."""

from functools import cache
from typing import Any

import torch
from safetensors.torch import load, save

from lib.data import frozen as features
from lib.data.tasks import Pictures, Task
from lib.methods.base import Lesson
from lib.metrics import accuracy
from lib.study.train import learn_task
from tests.support import small_study


@cache
def colours() -> Lesson:
    """A second lesson: all tasks' pictures, named by colour. Sixty steps are enough for it; stripes take hundreds."""
    images = torch.cat([made.train.images for made in small_study.sequence()[0]])
    pictures = Pictures(images, torch.arange(3).repeat_interleave(len(images) // 3))
    made = Task("colours", small_study.NAMES, small_study.TEMPLATES, pictures, pictures)
    return Lesson(made, 1, features.compute(small_study.backbone(), made, "clip"), [0, 1])


def after_colours(name: str, **settings: Any) -> tuple[list[float], float]:
    """A method's losses on the colours, learned after stripes, and the percentage that it then names rightly."""
    pupil = small_study.teach(small_study.method(name, {"train.steps": 60, "train.smoothing": 0.0}, **settings), 0)
    losses, asked = learn_task(pupil, colours(), pupil.context.train), colours()
    found = pupil.predict(asked.task, asked.features, 1).classes["sample"]
    return losses, accuracy(found, asked.task.test.labels)


def in_one_go_and_taken_up(name: str) -> tuple[bytes, bytes]:
    """A method's state after three tasks: learned in one go, and taken up from its state after the second."""
    first = small_study.teach(small_study.method(name), 0, 1)
    again = small_study.method(name)
    again.restore(load(save(first.state())))  # as a checkpoint holds it
    return save(small_study.teach(first, 2).state()), save(small_study.teach(again, 2).state())
