"""RAIL: ridge regression on the frozen CLIP's image features, which does not forget (Xu et al. 2024).

    primal: W = (Phi' Phi + ridge I)^-1 Phi' Y,   Phi = ReLU(X P),  P random and fixed                    (Theorem 1)
    dual:   a = (K + ridge I)^-1 Y,   K = exp(-gamma ||x - x'||^2) between all images so far              (Theorem 2)
    answer: zero_shot_share * softmax(zero-shot) + (1 - zero_shot_share) * regression                     (RAIL-Fusion)

X: unit image features (N, F). Y: one-hot classes (N, C) of all tasks so far; new classes are columns of zeros before an
update. The primal form updates (Phi' Phi + ridge I)^-1 and W by Woodbury's identity, some rows at a time. The dual form
keeps all features and is solved anew after each task, as in the authors' code. Both are computed in double precision
and equal the solution on the images of all tasks together.

An image whose zero-shot answer among the classes of all tasks is a learned one gets the fused answer among the learned
candidates, any other image its zero-shot answer (`sample`). The authors' code has this rule for X-TAIL; for a task's
own classes it is told whether the task was learned (`oracle`). As in the authors' code the regression is fused without
a softmax, and P is uniform in +-1 / sqrt(F), as torch draws a linear layer.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.data.frozen import Features, class_features
from lib.data.tasks import Task
from lib.methods.base import Context, Lesson, Method, Predictions
from lib.methods.scoring import learned_places, of_learned
from lib.settings import Positive, Rate, Share

DRAWN = 6  # the random stream of the projection


class RAIL(Method):
    """What both forms share. `coefficients` are W (width, C) or a (N, C)."""

    @dataclass(frozen=True)
    class Settings(Method.Settings):
        """ridge: weight of the squared coefficients; zero_shot_share: of the fused answer."""

        ridge: Rate
        zero_shot_share: Share

    saved = ("coefficients", "counts")
    decisions = ("sample", "oracle")
    coefficients: Tensor

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.counts = torch.zeros(0, dtype=torch.long)  # the number of classes of each task (T,)
        self.names: dict[tuple[str, int], Tensor] = {}  # class features (C, F) by task name and C

    def fit(self, features: Tensor, labels: Tensor, seed: int) -> None:
        """Learns unit features (N, F) with labels (N,) among all classes so far; `seed` is the run's."""
        raise NotImplementedError

    def one_hot(self, labels: Tensor) -> Tensor:
        """Labels (N,) as rows (N, C) over all classes so far."""
        return F.one_hot(labels, int(self.counts.sum())).double()

    def scores(self, features: Tensor) -> Tensor:
        """The regression (N, C) of unit features (N, F) on all classes so far."""
        raise NotImplementedError

    def end_task(self, lesson: Lesson) -> None:
        """Updates the regression; there is no training by gradient."""
        labels = lesson.task.train.labels + self.counts.sum()
        self.counts = torch.cat([self.counts, torch.tensor([len(lesson.task.classes)])])
        self.fit(lesson.features.image_train, labels, lesson.seed[0])

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """The fused answers of images of learned classes (`of_learned`), elsewhere the zero-shot answers."""
        places, other = learned_places(task, number, len(self.counts))
        if not places:
            return Predictions(dict.fromkeys(self.decisions, features.zero_shot), {})
        fused = self.fused(task, features.image_test, places).masked_fill(other, -torch.inf).argmax(dim=1)
        learned = of_learned(task, number, len(self.counts))
        return Predictions({d: torch.where(of, fused, features.zero_shot) for d, of in learned.items()}, {})

    def fused(self, task: Task, image: Tensor, places: dict[int, Tensor]) -> Tensor:
        """Fused scores (N, C) of unit features (N, F); `places` are the columns of each learned task's classes."""
        key = (task.name, len(task.classes))
        if key not in self.names:
            self.names[key] = class_features(self.backbone, task)
        share, scale = self.settings.zero_shot_share, self.backbone.model.logit_scale.exp().cpu()
        zero_shot = (scale * image @ self.names[key].T).softmax(dim=1)
        regression = torch.zeros(zero_shot.shape, dtype=torch.float64)
        scores = self.scores(image).split(self.counts.tolist(), dim=1)
        for number, at in places.items():
            regression[:, at] += scores[number]  # a class of two tasks has the sum
        return share * zero_shot + (1 - share) * regression

    def trained(self) -> dict[str, Tensor]:
        return {"coefficients": self.coefficients}


def projection(seed: int, features: int, width: int) -> Tensor:
    """The fixed random projection (F, width). A seed always gives the same one, so it is not stored."""
    drawn = np.random.default_rng([seed, DRAWN]).uniform(-1, 1, (features, width))
    return torch.from_numpy(drawn / features**0.5)


def woodbury(inverse: Tensor, weights: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse R (D, D) and the weights W (D, C) of a ridge regression after rows x (n, D) with targets y (n, C).

    R' = R - R x' (I + x R x')^-1 x R;  W' = W + R' x' (y - x W), with I + x R x' = L L'.
    """
    xr = x @ inverse  # (n, D)
    root = torch.linalg.cholesky(torch.eye(len(x)).to(x) + xr @ x.T)
    part = torch.linalg.solve_triangular(root, xr, upper=False)  # (n, D): R x' (L L')^-1 = part' L^-1
    missed = torch.linalg.solve_triangular(root, y - x @ weights, upper=False)  # (n, C)
    return inverse - part.T @ part, weights + part.T @ missed


class RAILPrimal(RAIL):
    """Keeps the inverse (width, width) and W; the projection is drawn again from the run's seed."""

    @dataclass(frozen=True)
    class Settings(RAIL.Settings):
        """width of the random projection."""

        width: Positive

    saved = (*RAIL.saved, "inverse", "seed")
    seed = torch.tensor(0)  # the run's, which comes with the first lesson

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        width = self.settings.width
        self.inverse = torch.eye(width, dtype=torch.float64) / self.settings.ridge
        self.coefficients = torch.zeros(width, 0, dtype=torch.float64)

    def hidden(self, features: Tensor) -> Tensor:
        """Phi (N, width)."""
        return F.relu(features.double() @ projection(int(self.seed), features.shape[1], self.settings.width))

    def fit(self, features: Tensor, labels: Tensor, seed: int, rows: int = 512) -> None:
        """Woodbury's update, `rows` images at a time."""
        self.seed, targets = torch.tensor(seed), self.one_hot(labels)
        self.coefficients = F.pad(self.coefficients, (0, targets.shape[1] - self.coefficients.shape[1]))
        for x, y in zip(self.hidden(features).split(rows), targets.split(rows), strict=True):
            self.inverse, self.coefficients = woodbury(self.inverse, self.coefficients, x, y)

    def scores(self, features: Tensor) -> Tensor:
        """Phi W."""
        return self.hidden(features) @ self.coefficients


class RAILDual(RAIL):
    """Keeps the features (N, F) and labels (N,) of all tasks, and a (N, C)."""

    @dataclass(frozen=True)
    class Settings(RAIL.Settings):
        """gamma of the kernel."""

        gamma: Rate

    saved = (*RAIL.saved, "features", "labels")

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        visual: Any = context.backbone.model.visual
        self.coefficients = torch.zeros(0, 0, dtype=torch.float64)
        self.features = torch.zeros(0, visual.output_dim)
        self.labels = torch.zeros(0, dtype=torch.long)

    def kernel(self, features: Tensor) -> Tensor:
        """K (n, N) between unit features (n, F) and all that are kept: ||x - x'||^2 = 2 - 2 x . x'."""
        return (-self.settings.gamma * (2 - 2 * features.double() @ self.features.double().T)).exp()

    def fit(self, features: Tensor, labels: Tensor, seed: int) -> None:
        """Adds the rows and solves for a anew."""
        self.features, self.labels = torch.cat([self.features, features]), torch.cat([self.labels, labels])
        gram = self.kernel(self.features)
        gram.diagonal().add_(self.settings.ridge)
        targets = self.one_hot(self.labels)
        self.coefficients = torch.cholesky_solve(targets, torch.linalg.cholesky(gram)).contiguous()

    def scores(self, features: Tensor) -> Tensor:
        """K a."""
        return self.kernel(features) @ self.coefficients
