"""Fine-tuning that keeps a teacher's answers: LwF, LwF-VR, and ZSCL, which averages its weights, too."""

import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from lib.clip import encode_text
from lib.clip.towers import image_tower, text_tower
from lib.data.tasks import ReferenceSet
from lib.methods.base import Context, Lesson
from lib.methods.finetune import FineTune
from lib.methods.scoring import distillation, encode_images, logits
from lib.settings import Count, Positive, Rate, Weight


class LwF(FineTune):
    """Learning without forgetting: the model before the task is the teacher (Li and Hoiem 2016, Fig. 3 and Eq. 2).

        loss = CE(current task) + weight * mean over groups of T^2 * KL(teacher || student)

    on the current images. The sentences of a group share a softmax, at CLIP's scale and temperature T. There is a group
    for each earlier task, its class prompts, and so nothing to distil in the first task.
    Difference: classes are prompts, so no heads are added, and the features of earlier prompts are trained too.
    """

    @dataclass(frozen=True)
    class Settings(FineTune.Settings):
        """weight and temperature of the distillation."""

        weight: Weight
        temperature: Rate

    saved = ("earlier",)

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

    def extra_loss(self, images: Tensor, features: Tensor) -> Tensor | float:
        """The weighted distillation; 0 without sentences."""
        if not len(self.sentences):
            return 0.0
        with torch.no_grad():
            teacher = image_tower(self.teacher, images)
        scale, heat, groups = self.model.logit_scale, self.settings.temperature, self.groups()
        text = text_tower(self.model, self.sentences[torch.cat(groups)])  # the sentences of all groups in one pass
        terms = [
            distillation(logits(features, own, scale), logits(teacher, self.taught[group], scale), heat)
            for group, own in zip(groups, text.split([len(group) for group in groups]), strict=True)
        ]
        return self.settings.weight * torch.stack(terms).mean()

    def end_task(self, lesson: Lesson) -> None:
        """Keeps the prompts of the task."""
        self.earlier.append(self.prompts)


def chosen(context: Context, task_names: bool) -> ReferenceSet:
    """The reference set of the study, with or without the captions that name a task's class."""
    reference = context.reference()
    return reference if task_names else reference.without_names()


class LwFVR(LwF):
    """LwF with one group of random sentences, from the first task on, when the teacher is CLIP (Ding et al. 2022).

    The paper ("Don't stop learning": replayed vocabulary) makes the sentences from the vocabulary; here they are
    captions of the reference set, drawn anew at each step.
    """

    @dataclass(frozen=True)
    class Settings(LwF.Settings):
        """sentences: captions drawn for a step. task_names: whether captions that name a task's class are used."""

        sentences: Positive
        task_names: bool

    needs_reference = True

    def all_sentences(self, lesson: Lesson) -> Tensor:
        """All captions of the reference set."""
        self.rng = lesson.rng(2)
        return chosen(self.context, self.settings.task_names).tokens

    def groups(self) -> list[Tensor]:
        """One group, drawn anew."""
        count = min(self.settings.sentences, len(self.sentences))
        return [torch.from_numpy(self.rng.choice(len(self.sentences), count, replace=False))]

    def end_task(self, lesson: Lesson) -> None:
        """Keeps no prompts."""


class ZSCL(FineTune):
    """Fine-tuning held to the original CLIP on a reference set, and by averaging its weights (Zheng et al. 2023).

        loss = CE + weight * (image distillation + text distillation)                              (in feature space)
        average_t = t / (t + 1) * average_{t-1} + 1 / (t + 1) * theta_t,  average_0 = theta before the task

    Both distillations compare the logits between n reference images and n reference captions with those of CLIP by
    T^2 * KL(CLIP || student): for images a softmax over the captions, for captions a softmax over the images. Both are
    drawn independently; they need not be pairs. The average is the model after the task.
    """

    @dataclass(frozen=True)
    class Settings(FineTune.Settings):
        """weight and temperature of the distillation; reference_batch: images, and captions, of a step;
        average_every: steps between the weights that are averaged, 0 = no averaging; task_names: whether reference
        pictures whose captions name a task's class are used."""

        weight: Weight
        temperature: Rate
        reference_batch: Positive
        average_every: Count
        task_names: bool

    needs_reference = True

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        every, steps = self.settings.average_every, context.train.steps
        if every > steps and not context.train.epochs:
            raise ValueError(f"average_every is {every}, so no weights are averaged; choose 1 to {steps} or 0")

    @cached_property
    def reference(self) -> ReferenceSet:
        """The reference set of the study, or the part of it that names no class of a task."""
        return chosen(self.context, self.settings.task_names)

    @cached_property
    @torch.no_grad()
    def teacher(self) -> tuple[Tensor, Tensor]:
        """The original CLIP's features (N, F) of all reference images, and of all captions, computed once."""
        clip = self.backbone.model
        images = encode_images(lambda x: image_tower(clip, x), self.backbone, self.reference.images, batch=256)
        return images, encode_text(clip, self.reference.tokens)

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Starts the average at the weights as they are."""
        self.rng, self.steps = lesson.rng(3), 0
        parameters = super().begin_task(lesson)
        self.average = [parameter.detach().clone() for parameter in parameters]
        return parameters

    def extra_loss(self, images: Tensor, features: Tensor) -> Tensor:
        """The weighted distillation in both directions, on a new draw of reference images and captions."""
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
        return self.settings.weight * (distillation(student, teacher, heat) + distillation(student.T, teacher.T, heat))

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
