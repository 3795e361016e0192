"""Controls: a linear head for each task on the frozen CLIP's features, and the selector of the mixture (DDAS).

    linear probe: multinomial logistic regression on the class token, standardised
    analytic head: W_t = (Z' Z + ridge I)^-1 Z' Y on unit image features Z with a column of ones, Y one-hot

CLIP is not adapted at all. What an adapter is worth is what it adds to these.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.base import Context, Lesson, Predictions
from lib.methods.scoring import Selecting
from lib.settings import Rate


class Head(Selecting):
    """What both have in common: `heads`, by task number the weights (S + 1, C), the bias last."""

    saved = ("heads",)

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.heads: list[Tensor] = []

    def fit(self, features: Features, labels: Tensor) -> Tensor:
        """The weights (S + 1, C) from a task's training features and labels (N,)."""
        raise NotImplementedError

    def read(self, features: Features) -> Tensor:
        """What the head reads of the test pictures (N, S)."""
        raise NotImplementedError

    def end_task(self, lesson: Lesson) -> None:
        """Fits the task's head; the selector learns the task."""
        self.heads.append(self.fit(lesson.features, lesson.task.train.labels))
        self.learn_route(lesson)

    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """By each decision; a head knows its own task's classes only, so where none is a candidate CLIP answers."""
        self.places = task.places_or_own(number)
        return super().predict(task, features, number)

    def ask(self, task: Task, features: Features, number: int, places: Tensor) -> Tensor:
        if number not in self.places:
            return features.zero_shot[places]
        scores = with_ones(self.read(features)[places]) @ self.heads[number]
        return self.places[number][scores.argmax(dim=1)]

    def trained(self) -> dict[str, Tensor]:
        return {str(number): head for number, head in enumerate(self.heads)}


class LinearProbe(Head):
    """Logistic regression by scikit-learn."""

    @dataclass(frozen=True)
    class Settings(Head.Settings):
        """inverse_penalty: C of scikit-learn."""

        inverse_penalty: Rate

    def fit(self, features: Features, labels: Tensor) -> Tensor:
        z = features.train.double().numpy()
        mean, scale = z.mean(axis=0), z.std(axis=0) + 1e-12
        model = LogisticRegression(C=self.settings.inverse_penalty, max_iter=2000).fit((z - mean) / scale, labels)
        weights = model.coef_ / scale  # (C, S), of features that are not standardised
        head = np.vstack([weights.T, model.intercept_ - weights @ mean])
        if head.shape[1] == 1:  # scikit-learn has one column for two classes
            head = np.hstack([np.zeros_like(head), head])
        return torch.from_numpy(head)

    def read(self, features: Features) -> Tensor:
        return features.test.float()


class AnalyticHead(Head):
    """Ridge regression in closed form; exact, whatever the order of the pictures."""

    @dataclass(frozen=True)
    class Settings(Head.Settings):
        """ridge: weight of the squared coefficients."""

        ridge: Rate

    def fit(self, features: Features, labels: Tensor) -> Tensor:
        z, y = with_ones(features.image_train), F.one_hot(labels).double()
        gram = z.T @ z + self.settings.ridge * torch.eye(z.shape[1]).to(z)
        return torch.linalg.solve(gram, z.T @ y).contiguous()  # the memory layout that a restored one has

    def read(self, features: Features) -> Tensor:
        return features.image_test


def with_ones(features: Tensor) -> Tensor:
    """Features (N, S) with a column of ones, (N, S + 1), in double precision."""
    return F.pad(features.double(), (0, 1), value=1.0)
