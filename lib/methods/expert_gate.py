"""Expert Gate: a fine-tuned model for every task, and autoencoders that choose one (Aljundi et al. 2017).

    answer by expert argmin_t error_t(image)                                       (Sec. 3.2: the smallest error wins)
    Rel(a) = 1 - (Er_a - Er_new) / Er_new;  start from expert argmax_a Rel(a)      (Sec. 3.3)

Er_t: the mean error of task t's autoencoder on all training images of the new task; the paper takes validation images.
The first expert starts from CLIP. The autoencoders (gates) are the selector's (lib.selector) with the study's settings,
but without a threshold and without a reference, so that an expert answers every image. At test time the method is given
the class names among which to answer, but not the task.

Difference: if two tasks are related above a threshold the paper trains with LwF; here every expert is fine-tuned. As it
is a model of its own, this cannot harm the earlier ones.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.base import Context, Lesson, joined, under
from lib.methods.finetune import FineTune
from lib.methods.scoring import ModelPerTask
from lib.selector import CLIP, DDAS


def relatedness(errors: Tensor) -> Tensor:
    """Of each earlier task (T,) to the new one, from mean errors (T+1,) on its images, its own last; 1 = equal."""
    return 1 - (errors[:-1] - errors[-1]) / errors[-1]


class ExpertGate(ModelPerTask, FineTune):
    """Experts and gates. `model` holds the weights of the one expert that is trained or asked at the time."""

    prefix = "gates."
    saved = ("started", "experts")

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.started = torch.zeros(0, dtype=torch.long)  # the expert from which each started, or CLIP (T,)
        self.experts: dict[str, Tensor] = {}  # the weights, by number and name

    def new_selector(self, width: int) -> DDAS:
        """Gates among which the smallest error wins."""
        return DDAS(width, replace(self.context.selector, rule="absolute", threshold=math.inf, reference=False))

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Learns the task's gate, and starts the new expert from the most related one."""
        related = relatedness(self.learn_route(lesson).errors(lesson.features.train).mean(dim=0))
        start = int(related.argmax()) if len(related) else CLIP
        self.started = torch.cat([self.started, torch.tensor([start])])
        self._load_expert(start)
        return super().begin_task(lesson)

    def _load_expert(self, number: int) -> None:
        weights = self.backbone.model.state_dict() if number == CLIP else under(f"{number}.", self.experts)
        self.model.load_state_dict(weights, strict=False)

    def end_task(self, lesson: Lesson) -> None:
        weights = {name: p.detach().clone() for name, p in self.trained().items()}
        self.experts |= joined(f"{len(self.started) - 1}.", weights)

    def ask(self, task: Task, features: Features, number: int, places: Tensor) -> Tensor:
        self._load_expert(number)
        return self.classes(task, places, number)

    def report(self) -> dict[str, Any]:
        """The expert from which each task's expert started; -1 is CLIP."""
        return {"started_from": self.started.tolist()}
