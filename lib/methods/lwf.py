"""Learning without forgetting: the model before the task is the teacher (Li and Hoiem 2016, Fig. 3 and Eq. 2).

    loss = CE(current task) + weight * mean over groups of T^2 * KL(teacher || student)

on the current images. The sentences of a group share a softmax, at CLIP's scale and temperature T. LwF has a group for
each earlier task, its class prompts, and so nothing to distil in the first task. LwF-VR (Ding et al. 2022, "Don't stop
learning": replayed vocabulary) has one group of random sentences from the first task on, when its teacher is CLIP. The
paper makes the sentences from the vocabulary; here they are captions of the reference set, drawn anew at each step.

Difference from LwF: classes are prompts, so no heads are added, and the features of earlier prompts are trained too.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lib.clip import encode_text
from lib.clip.towers import image_tower, text_tower
from lib.methods.base import Context, Lesson, under
from lib.methods.finetune import FineTune
from lib.methods.scoring import distillation, logits
from lib.settings import Positive, Rate, Weight

EARLIER = "earlier."  # the prefix of the earlier tasks' prompts in the state dict
DRAWN = 2  # the random stream of the sentences


class LwF(FineTune):
    """Keeps the teacher's answers to the current images, among the class prompts of each earlier task."""

    @dataclass(frozen=True)
    class Settings(FineTune.Settings):
        """weight and temperature of the distillation."""

        weight: Weight
        temperature: Rate

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.earlier: list[Tensor] = []  # the prompts (C, L) of each task

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Copies the teacher, and encodes all sentences with it once."""
        self.teacher = copy.deepcopy(self.model).requires_grad_(False)
        self.sentences = self.all_sentences(lesson)  # (N, L)
        self.taught = encode_text(self.teacher, self.sentences) if len(self.sentences) else torch.zeros(0)  # (N, F)
        return super().begin_task(lesson)

    def all_sentences(self, lesson: Lesson) -> Tensor:
        """The tokens (N, L) of all sentences that this lesson may use: the earlier prompts. N can be 0."""
        return torch.cat(self.earlier) if self.earlier else torch.zeros(0, 0)

    def groups(self) -> list[Tensor]:
        """The numbers (n,) of the sentences of each group in this step: a group for each earlier task."""
        sizes = [len(prompts) for prompts in self.earlier]
        return list(torch.arange(sum(sizes)).split(sizes))

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of the current task plus the weighted distillation."""
        image = image_tower(self.model, images)
        loss = self.cross_entropy(image, text_tower(self.model, self.prompts), labels)
        return loss + self.settings.weight * self.forgotten(images, image)

    def forgotten(self, images: Tensor, image: Tensor) -> Tensor:
        """The distillation () on images (B, 3, H, W) with the student's features (B, F); 0 without sentences."""
        if not len(self.sentences):
            return image.new_zeros(())
        with torch.no_grad():
            teacher = image_tower(self.teacher, images)
        scale, heat, groups = self.model.logit_scale, self.settings.temperature, self.groups()
        text = text_tower(self.model, self.sentences[torch.cat(groups)])  # the sentences of all groups in one pass
        terms = [
            distillation(logits(image, own, scale), logits(teacher, self.taught[group], scale), heat)
            for group, own in zip(groups, text.split([len(group) for group in groups]), strict=True)
        ]
        return torch.stack(terms).mean()

    def end_task(self, lesson: Lesson) -> None:
        """Keeps the prompts of the task."""
        self.earlier.append(self.prompts)

    def state(self) -> dict[str, Tensor]:
        return super().state() | {f"{EARLIER}{number}": prompts for number, prompts in enumerate(self.earlier)}

    def restore(self, state: dict[str, Tensor]) -> None:
        earlier = under(EARLIER, state)
        self.earlier = [earlier[str(number)] for number in range(len(earlier))]
        super().restore(state)


class LwFVR(LwF):
    """Keeps the teacher's answers among random captions of the reference set."""

    @dataclass(frozen=True)
    class Settings(LwF.Settings):
        """sentences: captions drawn for a step."""

        sentences: Positive

    needs_reference = True

    def all_sentences(self, lesson: Lesson) -> Tensor:
        """All captions of the reference set."""
        self.rng = np.random.default_rng([*lesson.seed, DRAWN])
        return self.context.reference().tokens

    def groups(self) -> list[Tensor]:
        """One group, drawn anew."""
        count = min(self.settings.sentences, len(self.sentences))
        return [torch.from_numpy(self.rng.choice(len(self.sentences), count, replace=False))]

    def end_task(self, lesson: Lesson) -> None:
        """Keeps no prompts."""
