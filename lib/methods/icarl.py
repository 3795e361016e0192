"""iCaRL: a few exemplars of every class are replayed, and their nearest mean answers (Rebuffi et al. 2017).

    loss = CE(current images) + mean over drawn exemplars of [CE + weight * T^2 * KL(teacher || student)]    (Alg. 3)
    p_k  = the image x with the smallest || mean - (phi(x) + phi(p_1) + ... + phi(p_{k-1})) / k ||    (Alg. 4, herding)
    answer = the class whose exemplars' mean phi is most similar to the image's phi    (Alg. 1)

phi: unit image features of the model as it is now. All classes so far share the budget of exemplars evenly; when
classes are added, each list is cut at its end (Alg. 5). The teacher is the model before the task. The mean in herding
is not normalised, as Alg. 4 is printed; the means that answer are.

Differences: classes are prompts, so CE and KL use CLIP's softmax over the classes of an image's own task, not sigmoids
over all classes so far; only exemplars are distilled; the model's nearest class name answers an image whose class was
not learned, which RAIL's rule decides (`sample`), or which the method is told (`oracle`).
"""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.clip.towers import image_tower, text_tower
from lib.data.frozen import Features
from lib.data.tasks import Task, random_crop
from lib.methods.base import Context, Lesson, Predictions
from lib.methods.distillation import LwF
from lib.methods.scoring import distillation, logits, of_learned
from lib.settings import Count, ParamsError, Positive


def herding(features: Tensor, count: int) -> Tensor:
    """The rows (at most `count`, in order) whose running mean stays nearest to the mean of features (N, F)."""
    mean, total = features.mean(dim=0), torch.zeros_like(features[0])
    free = torch.ones(len(features), dtype=torch.bool)
    chosen: list[int] = []
    for k in range(1, min(count, len(features)) + 1):
        distances = (mean - (total + features) / k).norm(dim=1)
        chosen.append(int(distances.where(free, torch.inf).argmin()))
        free[chosen[-1]] = False
        total = total + features[chosen[-1]]
    return torch.tensor(chosen, dtype=torch.long)


class ICaRL(LwF):
    """LwF whose distillation is on exemplars: `images` (M, 3, H, W), class by class and in the order of herding, and
    `labels` (M,), which count the classes of all tasks so far, task after task."""

    @dataclass(frozen=True)
    class Settings(LwF.Settings):
        """exemplars: kept in all; replay: exemplars drawn for a step."""

        exemplars: Count
        replay: Positive

    saved = (*LwF.saved, "images", "labels")
    decisions = ("sample", "oracle")

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        size = context.backbone.image_size
        self.images = torch.zeros(0, 3, size, size, dtype=torch.uint8)
        self.labels = torch.zeros(0, dtype=torch.long)

    def edges(self) -> list[int]:
        """The first class of each task, and last the number of all classes (T+1,)."""
        return [0, *accumulate(len(prompts) for prompts in self.earlier)]

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Begins as LwF does. Raises ParamsError if there are fewer exemplars than classes."""
        classes = self.edges()[-1] + len(lesson.task.classes)
        if self.settings.exemplars < classes:
            raise ParamsError(f"exemplars is {self.settings.exemplars}; choose at least {classes}, the classes")
        self.rng = lesson.rng(5)
        return super().begin_task(lesson)

    def extra_loss(self, images: Tensor, features: Tensor) -> Tensor | float:
        """From the second task on the mean over drawn exemplars of their cross entropy and distillation."""
        if not self.earlier:
            return 0.0
        count = min(self.settings.replay, len(self.labels))
        drawn = torch.from_numpy(self.rng.choice(len(self.labels), count, replace=False))
        images = random_crop(self.backbone.pixels(self.images[drawn]), self.context.train.crop, self.rng)
        labels = self.labels[drawn].to(images.device)
        image, text = image_tower(self.model, images), text_tower(self.model, self.sentences)
        with torch.no_grad():
            taught = image_tower(self.teacher, images)
        total, scale = image.new_zeros(()), self.model.logit_scale
        for first, end in pairwise(self.edges()):
            own = (labels >= first) & (labels < end)
            if own.any():
                student = logits(image[own], text[first:end], scale)
                teacher = logits(taught[own], self.taught[first:end], scale)
                kept = distillation(student, teacher, self.settings.temperature)
                new = F.cross_entropy(student, labels[own] - first, label_smoothing=self.context.train.smoothing)
                total = total + (new + self.settings.weight * kept) * own.sum()
        return total / count

    def phi(self, images: Tensor) -> Tensor:
        """Unit image features (N, F) of uint8 images by the model as it is now, on the CPU."""
        return F.normalize(self.encode(images).cpu(), dim=-1)

    @torch.no_grad()
    def end_task(self, lesson: Lesson) -> None:
        """Cuts the lists of the earlier classes, and herds those of the new classes."""
        train, before = lesson.task.train, self.edges()[-1]
        super().end_task(lesson)
        each = self.settings.exemplars // self.edges()[-1]
        kept = torch.cat([torch.arange(0)] + [places(self.labels, label)[:each] for label in range(before)])
        phi = self.phi(train.images)
        rows = [places(train.labels, label) for label in range(len(lesson.task.classes))]
        new = torch.cat([own[herding(phi[own], each)] for own in rows])
        self.images = torch.cat([self.images[kept], train.images[new]])
        self.labels = torch.cat([self.labels[kept], train.labels[new] + before])

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """The nearest mean for images of learned classes (`of_learned`), elsewhere the model's nearest class name."""
        every = torch.arange(len(task.test))
        name, edges = self.classes(task, every), self.edges()
        column = torch.full((edges[-1],), -1)  # of each learned class among the candidates; -1 = no candidate
        for t, at in task.places_or_own(number).items():
            if t < len(self.earlier):
                column[edges[t] : edges[t + 1]] = at
        used = column[self.labels] >= 0
        if not used.any():
            return Predictions(dict.fromkeys(self.decisions, name), {})
        owners = F.one_hot(column[self.labels[used]], len(task.classes)).float()  # (m, C)
        self.asked += len(owners)
        means = F.normalize(owners.T @ self.phi(self.images[used]), dim=-1)  # (C, F), of sums as of means
        phi = F.normalize(self.encode_once(0, task, every, self.encode).cpu(), dim=-1)
        mean = (phi @ means.T).where(owners.any(dim=0), -torch.inf).argmax(dim=1)
        learned = of_learned(task, number, len(self.earlier))
        return Predictions({decision: torch.where(of, mean, name) for decision, of in learned.items()}, {})


def places(labels: Tensor, label: int) -> Tensor:
    """The places of a label in labels (N,)."""
    return (labels == label).nonzero().flatten()
