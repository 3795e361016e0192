"""ConDU's vote as a way to answer strangers: learned models and CLIP answer together (ICLR 2026, `vote` here).

    prototype_{t,c} = unit(mean of unit f_0 over the class's training pictures + g_0 of its name)
    voters of x     = the frozen CLIP and the 4 tasks with the most similar prototype of f_0(x)
    answer          = argmax of the mean over voters of 100 cos(f_m(x), g_m(c))

Pictures that the selector (DDAS) sends to a learned task are answered by its adapter, all others by the vote. ConDU
itself is told which pictures are of learned tasks; its merged weights are not part of this: models are adapters here.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.clip import zero_shot_classifier
from lib.data.frozen import Features, class_features
from lib.data.tasks import Task
from lib.methods.adapter import AdapterPerTask, RoutedTower
from lib.methods.base import Context, Lesson
from lib.methods.scoring import encode_images, logits
from lib.selector import CLIP
from lib.settings import Positive


class Vote(AdapterPerTask):
    """One adapter a task with DDAS, and a vote where DDAS finds no task."""

    @dataclass(frozen=True)
    class Settings(AdapterPerTask.Settings):
        """voters: learned tasks that vote beside CLIP."""

        voters: Positive

    saved = (*AdapterPerTask.saved, "prototypes")

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.prototypes: list[Tensor] = []  # (C, F) of each task

    def end_task(self, lesson: Lesson) -> None:
        """Keeps the adapter; the selector learns the task; prototypes of its classes."""
        super().end_task(lesson)
        labels, names = lesson.task.train.labels, class_features(self.backbone, lesson.task)
        sums = torch.zeros_like(names).index_add_(0, labels, lesson.features.image_train)
        self.prototypes.append(F.normalize(sums / torch.bincount(labels)[:, None] + names, dim=1))

    def answer(self, task: Task, features: Features, routes: list[Tensor]) -> list[Tensor]:
        """As with any selector, with the vote in place of the zero-shot answers."""
        strangers = (torch.stack(routes) == CLIP).any(dim=0).nonzero().flatten()
        voted = features.zero_shot.index_copy(0, strangers, self.vote(task, features, strangers))
        return super().answer(task, replace(features, zero_shot=voted), routes)

    def vote(self, task: Task, features: Features, places: Tensor) -> Tensor:
        """The classes (n,) that most votes go to, of a task's test pictures at `places`."""
        image, scale = features.image_test[places], self.backbone.model.logit_scale
        scores = logits(image, class_features(self.backbone, task), scale.cpu())
        similar = torch.stack([(image @ own.T).amax(dim=1) for own in self.prototypes], dim=1)  # (n, T)
        voters = similar.topk(min(self.settings.voters, similar.shape[1]), dim=1).indices
        for number in voters.unique().tolist():
            votes = (voters == number).any(dim=1).nonzero().flatten()
            self.load(number)
            tower, text = (RoutedTower(self.model, each, 0) for each in ("image", "text"))
            read = text, self.backbone.tokenizer, task.classes, task.templates
            names = self.once((number, *task.classes), partial(zero_shot_classifier, *read))
            seen = self.encode_once(number, task, places[votes], lambda x, t=tower: encode_images(t, self.backbone, x))
            scores.index_add_(0, votes, logits(seen, names, scale).cpu())
        return scores.argmax(dim=1)
