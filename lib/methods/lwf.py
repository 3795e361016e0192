"""Learning without forgetting: the model of before the task is its teacher (Li and Hoiem 2016, Fig. 3 and Eq. 2).

    loss = CE(current task) + weight * mean over groups of T^2 * KL(teacher || student)

on the current pictures. The classes of a group share a softmax, at CLIP's scale and the temperature T. LwF: a group for
each earlier task, its class prompts; nothing to keep in the first task. LwF-VR (Ding et al. 2022, "Don't stop
learning": replayed vocabulary): one group of random sentences, from the first task on, whose teacher is CLIP. The paper
makes sentences up from the vocabulary; here they are captions of the reference set, drawn anew at each step.

Where we differ from LwF: classes are prompts, so no heads are added, and the prompts of earlier tasks go on learning.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lib.clip.backbone import encode_text
from lib.clip.towers import image_tower, text_tower
from lib.methods.base import Context, Lesson, distillation, logits
from lib.methods.finetune import FineTune, FineTuneSettings
from lib.methods.state import beside, listed, numbered
from lib.settings import Positive, Rate, Weight

EARLIER = "earlier."  # of the state: the prompts of each task
DRAWN = 2  # marks the random stream of the sentences


@dataclass(frozen=True)
class LwFSettings(FineTuneSettings):
    """weight of the distillation, and its temperature."""

    weight: Weight
    temperature: Rate


@dataclass(frozen=True)
class LwFVRSettings(LwFSettings):
    """sentences: how many captions a step draws."""

    sentences: Positive


class Taught(FineTune):
    """Fine-tuning that keeps what the model of before the task answers to the current pictures among some sentences."""

    Settings = LwFSettings

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Copies the teacher, and asks it once for the features of all sentences."""
        self.teacher = copy.deepcopy(self.model).requires_grad_(False)
        self.sentences = self.replayed(lesson)  # (N, L)
        self.taught = encode_text(self.teacher, self.sentences) if len(self.sentences) else None  # (N, F)
        return super().begin_task(lesson)

    def replayed(self, lesson: Lesson) -> Tensor:
        """The tokens (N, L) of all sentences that this lesson may use; N can be 0."""
        raise NotImplementedError

    def groups(self) -> list[Tensor]:
        """The numbers (n,) of the sentences of each group in this step."""
        raise NotImplementedError

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of the current task and the weighted distillation."""
        image = image_tower(self.model, images)
        loss = self.cross_entropy(image, text_tower(self.model, self.prompts), labels)
        return loss + self.settings.weight * self.forgotten(images, image)

    def forgotten(self, images: Tensor, image: Tensor) -> Tensor:
        """The distillation on images (B, 3, H, W) with the student's features (B, F); 0 without sentences."""
        if self.taught is None:
            return image.new_zeros(())
        with torch.no_grad():
            wanted = image_tower(self.teacher, images)
        scale, groups = self.model.logit_scale, self.groups()
        text = text_tower(self.model, self.sentences[torch.cat(groups)])  # the groups' sentences in one pass
        terms = [
            distillation(
                logits(image, mine, scale),
                logits(wanted, self.taught[group], scale),
                self.settings.temperature,
            )
            for group, mine in zip(groups, text.split([len(group) for group in groups]), strict=True)
        ]
        return torch.stack(terms).mean()


class LwF(Taught):
    """Keeps the answers among the class prompts of each earlier task."""

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.earlier: list[Tensor] = []  # (C, L) of each task

    def replayed(self, lesson: Lesson) -> Tensor:
        """The prompts of all earlier tasks."""
        return torch.cat(self.earlier) if self.earlier else torch.zeros(0, 0)

    def groups(self) -> list[Tensor]:
        """One for each earlier task."""
        sizes = [len(prompts) for prompts in self.earlier]
        return list(torch.arange(sum(sizes)).split(sizes))

    def end_task(self, lesson: Lesson) -> None:
        """The task is now an earlier one."""
        self.earlier.append(self.prompts)

    def state(self) -> dict[str, Tensor]:
        """The model, and the prompts of the tasks so far."""
        return super().state() | numbered(EARLIER, self.earlier)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads both."""
        self.earlier = listed(EARLIER, state)
        super().restore(beside(EARLIER, state))


class LwFVR(Taught):
    """Keeps the answers among random captions."""

    Settings = LwFVRSettings
    needs_reference = True

    def replayed(self, lesson: Lesson) -> Tensor:
        """All captions of the reference set."""
        self.rng = np.random.default_rng([*lesson.seed, DRAWN])
        return self.context.reference().tokens

    def groups(self) -> list[Tensor]:
        """One, drawn anew."""
        count = min(self.settings.sentences, len(self.sentences))
        return [torch.from_numpy(self.rng.choice(len(self.sentences), count, replace=False))]
