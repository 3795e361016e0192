"""MAS, memory aware synapses: what the model's output is sensitive to must not move (Aljundi et al. 2018).

    loss    = CE + weight * sum over parameters of omega * (theta - theta_before)^2          (Sec. 4.2)
    omega  += mean over samples x of |d ||f(x)||^2 / d theta|, after each task                 (Sec. 4.1)

theta_before is the model before the task. The importances of the tasks are added up, as in the paper; they grow with
the number of tasks. The paper's f is one network's output. CLIP has two: f is the image features, not normalised, for
the image tower (over training pictures as they are, without crops), and the text features, not normalised, for the text
tower (over the task's class prompts). Normalised features would have a constant length and no gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lib.clip.towers import image_tower, text_tower
from lib.methods.base import Context, Lesson
from lib.methods.finetune import FineTune, FineTuneSettings
from lib.methods.state import beside, joined, under
from lib.settings import Positive, Weight

OMEGA = "omega."  # of the state: the importances
DRAWN = 4  # marks the random stream of the pictures
Named = dict[str, nn.Parameter]


@dataclass(frozen=True)
class MASSettings(FineTuneSettings):
    """weight of the penalty; from how many training pictures, at most, a task's importances are computed."""

    weight: Weight
    pictures: Positive


def importance(output: Callable[[Tensor], Tensor], samples: Tensor, parameters: Named) -> dict[str, Tensor]:
    """Mean over samples (N, ...) of |d ||output(sample)||^2 / d parameter|, by name and of the parameters' shapes.

    output: a batch of one sample to its features (1, F); it depends on all the parameters. Gradients are exact and of
    each sample by itself: the mean of sizes is not the size of the mean.
    """
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for sample in samples.split(1):
        slopes = torch.autograd.grad(output(sample).square().sum(), list(parameters.values()))
        for kept, slope in zip(total.values(), slopes, strict=True):
            kept += slope.abs() / len(samples)
    return total


class MAS(FineTune):
    """Fine-tuning with a spring on every parameter, as stiff as the parameter was important."""

    Settings = MASSettings

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.omega: dict[str, Tensor] = {}  # empty until a task was learned

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Notes where the parameters are."""
        parameters = super().begin_task(lesson)
        self.before = {name: p.detach().clone() for name, p in self.trained().items()}
        return parameters

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of the current task, and from the second task on the weighted penalty."""
        loss = super().loss(images, labels)
        return loss + self.settings.weight * self.penalty() if self.omega else loss

    def penalty(self) -> Tensor:
        """Sum over parameters of omega * (theta - theta_before)^2."""
        trained = self.trained()
        terms = [(w * (trained[name] - self.before[name]).square()).sum() for name, w in self.omega.items()]
        return torch.stack(terms).sum()

    def end_task(self, lesson: Lesson) -> None:
        """Adds the task's importances to those of the earlier tasks."""
        for name, new in self.importances(lesson).items():
            self.omega[name] = self.omega[name] + new if name in self.omega else new

    def importances(self, lesson: Lesson) -> dict[str, Tensor]:
        """Of a task, for all trained parameters: the image tower's over pictures, the text tower's over prompts."""
        rng, images = np.random.default_rng([*lesson.seed, DRAWN]), lesson.task.train.images
        drawn = rng.permutation(len(images))[: self.settings.pictures]
        pictures = self.backbone.pixels(images[drawn])
        towers: tuple[Named, Named] = ({}, {})
        for name, parameter in self.trained().items():
            towers[not name.startswith("visual.")][name] = parameter
        seen = importance(lambda sample: image_tower(self.model, sample), pictures, towers[0])
        return seen | importance(lambda sample: text_tower(self.model, sample), self.prompts, towers[1])

    def state(self) -> dict[str, Tensor]:
        """The model, which is also theta_before of the next task, and the importances."""
        return super().state() | joined(OMEGA, self.omega)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads both."""
        self.omega = {name: v.to(self.backbone.device) for name, v in under(OMEGA, state).items()}
        super().restore(beside(OMEGA, state))
