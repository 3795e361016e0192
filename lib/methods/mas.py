"""MAS, memory aware synapses: parameters to which the output is sensitive must not move (Aljundi et al. 2018).

    loss    = CE + weight * sum over parameters of omega * (theta - theta_before)^2          (Sec. 4.2)
    omega  += mean over samples x of |d ||f(x)||^2 / d theta|, after each task                (Sec. 4.1)

theta_before is the model before the task. The importances omega of all tasks are added up, as in the paper. The paper's
f is the output of one network; CLIP has two. For the image tower f is the image features of training images (without
crops), for the text tower the text features of the class prompts. Neither is normalised: the squared length of a
normalised feature is constant and has no gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lib.clip.towers import image_tower, text_tower
from lib.methods.base import Context, Lesson, joined, under
from lib.methods.finetune import FineTune
from lib.settings import Positive, Weight

OMEGA = "omega."  # the prefix of the importances in the state dict
DRAWN = 4  # the random stream of the images


def importance(
    output: Callable[[Tensor], Tensor], samples: Tensor, parameters: dict[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Mean over samples (N, ...) of |d ||output(sample)||^2 / d parameter|, by name, in the shapes of the parameters.

    output: from a batch of one sample to its features (1, F). The gradient of each sample is taken by itself: the mean
    of absolute values is not the absolute value of the mean.
    """
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for sample in samples.split(1):
        gradients = torch.autograd.grad(output(sample).square().sum(), list(parameters.values()))
        for omega, gradient in zip(total.values(), gradients, strict=True):
            omega += gradient.abs() / len(samples)
    return total


class MAS(FineTune):
    """Fine-tuning with a quadratic penalty on every parameter, weighted by the parameter's importance."""

    @dataclass(frozen=True)
    class Settings(FineTune.Settings):
        """weight of the penalty; pictures: at most so many training images give a task's importances."""

        weight: Weight
        pictures: Positive

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.omega: dict[str, Tensor] = {}  # empty before the first task is learned

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        parameters = super().begin_task(lesson)
        self.before = {name: p.detach().clone() for name, p in self.trained().items()}
        return parameters

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of the current task; from the second task on plus the weighted penalty."""
        loss = super().loss(images, labels)
        return loss + self.settings.weight * self.penalty() if self.omega else loss

    def penalty(self) -> Tensor:
        """Sum () over parameters of omega * (theta - theta_before)^2."""
        now = self.trained()
        terms = [(omega * (now[name] - self.before[name]).square()).sum() for name, omega in self.omega.items()]
        return torch.stack(terms).sum()

    def end_task(self, lesson: Lesson) -> None:
        """Adds the importances of the task to those of the earlier tasks."""
        for name, new in self.importances(lesson).items():
            self.omega[name] = self.omega[name] + new if name in self.omega else new

    def importances(self, lesson: Lesson) -> dict[str, Tensor]:
        """Of all trained parameters for a task: the image tower's from images, the text tower's from class prompts."""
        rng, images = np.random.default_rng([*lesson.seed, DRAWN]), lesson.task.train.images
        pixels = self.backbone.pixels(images[rng.permutation(len(images))[: self.settings.pictures]])
        visual = {name: p for name, p in self.trained().items() if name.startswith("visual.")}
        text = {name: p for name, p in self.trained().items() if name not in visual}
        of_images = importance(lambda sample: image_tower(self.model, sample), pixels, visual)
        return of_images | importance(lambda sample: text_tower(self.model, sample), self.prompts, text)

    def state(self) -> dict[str, Tensor]:
        return super().state() | joined(OMEGA, self.omega)

    def restore(self, state: dict[str, Tensor]) -> None:
        self.omega = {name: v.to(self.backbone.device) for name, v in under(OMEGA, state).items()}
        super().restore(state)
