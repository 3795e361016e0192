"""ZSCL: distil from the original CLIP on pictures and captions of no task, and average the weights (Zheng et al. 2023).

    loss = CE + weight * (image distillation + text distillation)                  (in feature space)

Both compare the logits between n reference pictures and n reference captions with those of the original CLIP by
T^2 * KL(CLIP || student): in the image direction each picture has a softmax over the captions, in the text direction
each caption one over the pictures. Pictures and captions are drawn apart: they need not be pairs.

    average_t = t / (t + 1) * average_{t-1} + 1 / (t + 1) * theta_t,  average_0 = theta before the task

is taken in parameter space every `average_every` steps and becomes the model after the task. CLIP's features of the
whole reference set are computed once; nothing of the teacher is computed during training.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from lib.clip.backbone import encode_text
from lib.clip.towers import image_tower, text_tower
from lib.data.reference import ReferenceSet
from lib.methods.base import Context, Lesson, distillation, logits
from lib.methods.finetune import FineTune, FineTuneSettings
from lib.settings import Count, Positive, Rate, Weight

DRAWN = 3  # marks the random stream of reference pictures and captions


@dataclass(frozen=True)
class ZSCLSettings(FineTuneSettings):
    """weight and temperature of the distillation; pictures (and captions) of a step; steps between the weights that
    are averaged, 0 = no averaging."""

    weight: Weight
    temperature: Rate
    reference_batch: Positive
    average_every: Count


class ZSCL(FineTune):
    """Fine-tuning that is held to CLIP in what it says of a reference set, and in its weights."""

    Settings = ZSCLSettings
    needs_reference = True

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        every = self.settings.average_every
        if every > context.train.steps and not context.train.epochs:
            raise ValueError(
                f"average_every is {every}, so no weights are averaged; choose 1 to {context.train.steps} or 0"
            )

    @cached_property
    def reference(self) -> ReferenceSet:
        """The study's reference set."""
        return self.context.reference()

    @cached_property
    @torch.no_grad()
    def taught(self) -> tuple[Tensor, Tensor]:
        """The original CLIP's features (N, F) of all reference pictures, and of all captions."""
        clip = self.backbone.model
        parts = [image_tower(clip, self.backbone.pixels(part)) for part in self.reference.images.split(256)]
        return torch.cat(parts), encode_text(clip, self.reference.tokens)

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Begins the average at the weights as they are."""
        self.rng = np.random.default_rng([*lesson.seed, DRAWN])
        parameters = super().begin_task(lesson)
        self.average = [parameter.detach().clone() for parameter in parameters]
        self.steps = 0
        return parameters

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of the current task and the weighted distillation."""
        return super().loss(images, labels) + self.settings.weight * self.drift()

    def drift(self) -> Tensor:
        """The distillation in both directions, on a fresh draw of pictures and captions."""
        count, (image, text) = len(self.reference.images), self.taught
        size = min(self.settings.reference_batch, count)
        pictures, captions = (torch.from_numpy(self.rng.choice(count, size, replace=False)) for _ in range(2))
        found = logits(
            image_tower(self.model, self.backbone.pixels(self.reference.images[pictures])),
            text_tower(self.model, self.reference.tokens[captions]),
            self.model.logit_scale,
        )
        wanted = logits(image[pictures], text[captions], self.model.logit_scale)
        heat = self.settings.temperature
        return distillation(found, wanted, heat) + distillation(found.T, wanted.T, heat)

    @torch.no_grad()
    def after_step(self) -> None:
        """Every so many steps the weights join the average."""
        self.steps += 1
        every = self.settings.average_every
        if every and self.steps % every == 0:
            joined = self.steps // every
            for mean, now in zip(self.average, self.trained().values(), strict=True):
                mean.lerp_(now, 1 / (joined + 1))

    @torch.no_grad()
    def end_task(self, lesson: Lesson) -> None:
        """The average becomes the model."""
        if self.settings.average_every:
            for mean, now in zip(self.average, self.trained().values(), strict=True):
                now.copy_(mean)
