"""iCaRL: a few exemplars of every class are replayed, and their nearest mean answers (Rebuffi et al. 2017).

    loss = CE(current pictures) + mean over drawn exemplars of [CE + weight * T^2 * KL(teacher || student)]    (Alg. 3)
    p_k  = the picture x of the smallest || mean - (phi(x) + phi(p_1) + ... + phi(p_{k-1})) / k ||    (Alg. 4, herding)
    answer = the class whose exemplars have the mean phi that is most like the picture's phi    (Alg. 1)

phi: unit image features of the model as it is now. The budget of exemplars is shared evenly by all classes so far; when
more come, each list is cut from its end (Alg. 5). The teacher is the model before the task. Herding's mean is of unit
features and not made unit itself, as Alg. 4 is printed; the means that answer are.

Where we differ: classes are prompts, so CE and KL are CLIP's softmax over the classes of a picture's own task, not
sigmoids over all classes so far; old pictures alone are distilled; and a task not learned yet is answered by text.
"""

import copy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.clip.backbone import encode_text
from lib.clip.towers import image_tower, text_tower
from lib.data.augmentation import random_crop
from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.base import Context, Lesson, Predictions, distillation, logits
from lib.methods.finetune import FineTune, FineTuneSettings
from lib.methods.state import beside, listed, numbered
from lib.settings import Count, ParamsError, Positive, Rate, Weight

EARLIER, EXEMPLARS = "earlier.", ("images", "labels")  # of the state: each task's prompts, and the memory
DRAWN = 5  # marks the random stream of the replay


@dataclass(frozen=True)
class ICaRLSettings(FineTuneSettings):
    """exemplars: kept in all; replay: drawn for a step; weight and temperature of the distillation."""

    exemplars: Count
    replay: Positive
    weight: Weight
    temperature: Rate


def herding(features: Tensor, count: int) -> Tensor:
    """The rows, at most `count` and in order, whose running mean stays nearest to the mean of features (N, F)."""
    mean, total = features.mean(dim=0), torch.zeros_like(features[0])
    free = torch.ones(len(features), dtype=torch.bool)
    chosen: list[int] = []
    for k in range(1, min(count, len(features)) + 1):
        distances = (mean - (total + features) / k).norm(dim=1)
        chosen.append(int(distances.where(free, torch.inf).argmin()))
        free[chosen[-1]] = False
        total = total + features[chosen[-1]]
    return torch.tensor(chosen, dtype=torch.long)


class ICaRL(FineTune):
    """Fine-tuning with a memory of pictures: `images` (M, 3, H, W), class by class and each class in herding's order,
    and `labels` (M,), in which the classes of all tasks are counted on."""

    Settings = ICaRLSettings

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        size = context.backbone.image_size
        self.images = torch.zeros(0, 3, size, size, dtype=torch.uint8)
        self.labels = torch.zeros(0, dtype=torch.long)
        self.earlier: list[Tensor] = []  # prompts (C, L) of each task

    def edges(self) -> list[int]:
        """The first class of each task, and last the number of all classes (T+1,)."""
        return [0, *np.cumsum([len(prompts) for prompts in self.earlier]).tolist()]

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Copies the teacher, and asks it once for the features of all earlier prompts."""
        classes = self.edges()[-1] + len(lesson.task.classes)
        if self.settings.exemplars < classes:
            raise ParamsError(f"exemplars is {self.settings.exemplars}; choose at least {classes}, the classes")
        self.rng = np.random.default_rng([*lesson.seed, DRAWN])
        self.teacher = copy.deepcopy(self.model).requires_grad_(False)
        self.taught = encode_text(self.teacher, torch.cat(self.earlier)) if self.earlier else torch.zeros(0)
        return super().begin_task(lesson)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of the current task, and from the second task on what the exemplars say."""
        loss = super().loss(images, labels)
        return loss + self.replayed() if self.earlier else loss

    def replayed(self) -> Tensor:
        """Mean over a draw of exemplars of their cross entropy and distillation, each among its own task's classes."""
        count = min(self.settings.replay, len(self.labels))
        drawn = torch.from_numpy(self.rng.choice(len(self.labels), count, replace=False))
        images = random_crop(self.backbone.pixels(self.images[drawn]), self.context.train.crop, self.rng)
        labels = self.labels[drawn].to(images.device)
        image, text = image_tower(self.model, images), text_tower(self.model, torch.cat(self.earlier))
        with torch.no_grad():
            wanted = image_tower(self.teacher, images)
        total, scale = image.new_zeros(()), self.model.logit_scale
        for first, end in pairwise(self.edges()):
            mine = (labels >= first) & (labels < end)
            if mine.any():
                found, right = logits(image[mine], text[first:end], scale), labels[mine] - first
                kept = distillation(
                    found, logits(wanted[mine], self.taught[first:end], scale), self.settings.temperature
                )
                new = F.cross_entropy(found, right, label_smoothing=self.context.train.smoothing)
                total = total + (new + self.settings.weight * kept) * mine.sum()
        return total / count

    def phi(self, images: Tensor) -> Tensor:
        """Unit image features (N, F) of uint8 pictures, by the model as it is now, on the CPU."""
        parts = [image_tower(self.model, self.backbone.pixels(part)).cpu() for part in images.split(128)]
        return F.normalize(torch.cat(parts), dim=-1)

    @torch.no_grad()
    def end_task(self, lesson: Lesson) -> None:
        """Cuts the lists of the earlier classes, and herds those of the new ones."""
        train, (*_, before) = lesson.task.train, self.edges()
        self.earlier.append(self.prompts)
        each = self.settings.exemplars // self.edges()[-1]
        kept = torch.cat([torch.arange(0)] + [places(self.labels, c)[:each] for c in range(before)])
        seen = self.phi(train.images)
        mine = [places(train.labels, label) for label in range(len(lesson.task.classes))]
        new = torch.cat([index[herding(seen[index], each)] for index in mine])
        self.images = torch.cat([self.images[kept], train.images[new]])
        self.labels = torch.cat([self.labels[kept], train.labels[new] + before])

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """The nearest mean of exemplars among learned classes for a learned task; the model's own text for others."""
        if number >= len(self.earlier):
            return super().predict(task, features, number)
        learned = {t: at for t, at in task.places_or_own(number).items() if t < len(self.earlier)}
        edges, place = self.edges(), torch.full((self.edges()[-1],), -1)
        for t, at in learned.items():
            place[edges[t] : edges[t + 1]] = at
        mine = place[self.labels] >= 0
        owners = F.one_hot(place[self.labels[mine]], len(task.classes)).float()  # (m, C)
        self.asked += len(owners) + len(task.test)
        means = F.normalize(owners.T @ self.phi(self.images[mine]), dim=-1)  # (C, F): of sums as of means
        near = (self.phi(task.test.images) @ means.T).where(owners.any(dim=0), -torch.inf)
        return Predictions({"sample": near.argmax(dim=1)}, {})

    def state(self) -> dict[str, Tensor]:
        """The model, the exemplars, and the prompts of the tasks so far."""
        exemplars = {name: getattr(self, name) for name in EXEMPLARS}
        return super().state() | numbered(EARLIER, self.earlier) | exemplars

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads them."""
        self.images, self.labels = (state[name] for name in EXEMPLARS)
        self.earlier = listed(EARLIER, state)
        super().restore({k: v for k, v in beside(EARLIER, state).items() if k not in EXEMPLARS})


def places(labels: Tensor, label: int) -> Tensor:
    """Where a label stands in labels (N,)."""
    return (labels == label).nonzero().flatten()
