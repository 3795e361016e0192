"""ZSCL: distil from the original CLIP on a reference set, and average the weights (Zheng et al. 2023).

    loss = CE + weight * (image distillation + text distillation)                              (in feature space)
    average_t = t / (t + 1) * average_{t-1} + 1 / (t + 1) * theta_t,  average_0 = theta before the task

Both distillations compare the logits between n reference images and n reference captions with those of the original
CLIP by T^2 * KL(CLIP || student): for images a softmax over the captions, for captions a softmax over the images.
Images and captions are drawn independently; they need not be pairs. The weights join the average every `average_every`
steps, and the average is the model after the task. CLIP's features of the reference set are computed once.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from lib.clip import encode_text
from lib.clip.towers import image_tower, text_tower
from lib.data.tasks import ReferenceSet
from lib.methods.base import Context, Lesson
from lib.methods.finetune import FineTune
from lib.methods.scoring import distillation, encode_images, logits
from lib.settings import Count, Positive, Rate, Weight

DRAWN = 3  # the random stream of reference images and captions


class ZSCL(FineTune):
    """Fine-tuning that is held to CLIP by its logits on a reference set and by averaging its weights."""

    @dataclass(frozen=True)
    class Settings(FineTune.Settings):
        """weight and temperature of the distillation; reference_batch: images, and captions, of a step;
        average_every: steps between the weights that are averaged, 0 = no averaging."""

        weight: Weight
        temperature: Rate
        reference_batch: Positive
        average_every: Count

    needs_reference = True

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        every, steps = self.settings.average_every, context.train.steps
        if every > steps and not context.train.epochs:
            raise ValueError(f"average_every is {every}, so no weights are averaged; choose 1 to {steps} or 0")

    @cached_property
    def reference(self) -> ReferenceSet:
        """The reference set of the study."""
        return self.context.reference()

    @cached_property
    @torch.no_grad()
    def teacher(self) -> tuple[Tensor, Tensor]:
        """The original CLIP's features (N, F) of all reference images, and of all captions."""
        clip = self.backbone.model
        images = encode_images(lambda x: image_tower(clip, x), self.backbone, self.reference.images, batch=256)
        return images, encode_text(clip, self.reference.tokens)

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Starts the average at the weights as they are."""
        self.rng = np.random.default_rng([*lesson.seed, DRAWN])
        parameters = super().begin_task(lesson)
        self.average = [parameter.detach().clone() for parameter in parameters]
        self.steps = 0
        return parameters

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        return super().loss(images, labels) + self.settings.weight * self.drift()

    def drift(self) -> Tensor:
        """The distillation () in both directions, on a new draw of reference images and captions."""
        count, (image, text) = len(self.reference.images), self.teacher
        size = min(self.settings.reference_batch, count)
        pictures, captions = (torch.from_numpy(self.rng.choice(count, size, replace=False)) for _ in range(2))
        student = logits(
            image_tower(self.model, self.backbone.pixels(self.reference.images[pictures])),
            text_tower(self.model, self.reference.tokens[captions]),
            self.model.logit_scale,
        )
        teacher = logits(image[pictures], text[captions], self.model.logit_scale)
        heat = self.settings.temperature
        return distillation(student, teacher, heat) + distillation(student.T, teacher.T, heat)

    @torch.no_grad()
    def after_step(self) -> None:
        """Adds the weights to the average every `average_every` steps."""
        self.steps += 1
        every = self.settings.average_every
        if every and self.steps % every == 0:
            for mean, now in zip(self.average, self.trained().values(), strict=True):
                mean.lerp_(now, 1 / (self.steps // every + 1))

    @torch.no_grad()
    def end_task(self, lesson: Lesson) -> None:
        if self.settings.average_every:
            for mean, now in zip(self.average, self.trained().values(), strict=True):
                now.copy_(mean)
