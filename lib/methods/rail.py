"""RAIL: ridge regression on the frozen CLIP's image features, which learns without forgetting (Xu et al. 2024).

    primal: W = (Phi' Phi + ridge I)^-1 Phi' Y,   Phi = ReLU(X P),  P random and fixed                    (Theorem 1)
    dual:   a = (K + ridge I)^-1 Y,   K = exp(-gamma ||x - x'||^2) between all pictures so far            (Theorem 2)
    answer: zero_shot_share * softmax(zero-shot) + (1 - zero_shot_share) * regression                     (RAIL-Fusion)

X: unit image features (N, F); Y: one-hot classes (N, C). A class is a (task, name), so C is the classes of all tasks so
far; new ones are columns of zeros before an update. The primal form keeps (Phi' Phi + ridge I)^-1 and W and updates
both by Woodbury's identity, a part of the new pictures at a time; the dual form keeps all features and is solved anew
after each task, as in the authors' code. Both equal the solution on all tasks' pictures together. In double precision.

The mixture is for pictures whose zero-shot answer is a learned class; all others are zero-shot's. Where a test task's
own classes are the choice these are the pictures of the tasks learned so far. As in the authors' code the regression's
numbers are mixed as they are, without a softmax, and P is uniform in +-1 / sqrt(F), torch's own for a linear layer.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.data.frozen import Features, class_features
from lib.data.tasks import Task
from lib.methods.base import Context, Lesson, Method, Predictions, stored_bytes
from lib.settings import Positive, Rate

DRAWN = 6  # marks the random stream of the projection


@dataclass(frozen=True)
class RAILSettings:
    """ridge: the weight of the squared coefficients; zero_shot_share: of the mixture, 0 to 1."""

    ridge: float
    zero_shot_share: float

    def __post_init__(self) -> None:
        """Raises ValueError for a ridge that leaves the equations open, or a share outside 0 to 1."""
        if self.ridge <= 0:
            raise ValueError(f"ridge is {self.ridge}; choose more than 0")
        if not 0 <= self.zero_shot_share <= 1:
            raise ValueError(f"zero_shot_share is {self.zero_shot_share}; choose 0 to 1")


@dataclass(frozen=True)
class PrimalSettings(RAILSettings):
    """width of the random projection."""

    width: Positive


@dataclass(frozen=True)
class DualSettings(RAILSettings):
    """gamma of the kernel."""

    gamma: Rate


class RAIL(Method):
    """What both forms share. `coefficients` are W (width, C) or a (N, C)."""

    coefficients: Tensor

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.counts: list[int] = []  # classes of each task
        self.names: dict[tuple[str, int], Tensor] = {}  # class features (C, F) by task and C, once asked for

    def fit(self, features: Tensor, labels: Tensor, seed: int) -> None:
        """Takes up unit features (N, F) and labels (N,) among all classes so far; `seed` is the run's."""
        raise NotImplementedError

    def scores(self, features: Tensor) -> Tensor:
        """The regression's scores (N, C) of all classes so far."""
        raise NotImplementedError

    def end_task(self, lesson: Lesson) -> None:
        """The update: there is no training before it."""
        before = sum(self.counts)
        self.counts.append(len(lesson.task.classes))
        self.fit(lesson.features.image_train, lesson.task.train.labels + before, lesson.seed[0])

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """The mixture's answers among learned classes where zero-shot answers with one, zero-shot's elsewhere."""
        places = {t: at for t, at in task.places_or_own(number).items() if t < len(self.counts)}
        if not places:
            return Predictions({"sample": features.zero_shot}, {})
        learned = torch.zeros(len(task.classes), dtype=torch.bool)
        learned[torch.cat(list(places.values()))] = True
        mixture = self._mixture(task, features.image_test, places).where(learned, -torch.inf)
        answers = torch.where(learned[features.zero_shot], mixture.argmax(dim=1), features.zero_shot)
        return Predictions({"sample": answers}, {})

    def _mixture(self, task: Task, image: Tensor, places: dict[int, Tensor]) -> Tensor:
        """Zero-shot and regression (N, C); of the regression the learned tasks' classes, at their places."""
        key = (task.name, len(task.classes))
        if key not in self.names:
            self.names[key] = class_features(self.backbone, task)
        share, scale = self.settings.zero_shot_share, self.backbone.model.logit_scale.exp().cpu()
        known = (scale * image @ self.names[key].T).softmax(dim=1)
        scores = self.scores(image).split(self.counts, dim=1)
        regression = torch.zeros(known.shape, dtype=torch.float64)
        for number, at in places.items():
            regression[:, at] += scores[number]  # a class of two tasks has both
        return share * known + (1 - share) * regression

    def settled(self, task: int, learned: int) -> bool:
        """Zero-shot answers never change; a learned task's can, since its pictures' regression sees new pictures."""
        return task > learned

    def size(self) -> dict[str, int]:
        """The regression's coefficients, and all that is kept to go on."""
        return {
            "trainable_parameters": self.coefficients.numel(),
            "stored_bytes": stored_bytes(self.state()),
        }

    def state(self) -> dict[str, Tensor]:
        """The coefficients, and the number of classes of each task."""
        return {
            "coefficients": self.coefficients,
            "counts": torch.tensor(self.counts, dtype=torch.long),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads both."""
        self.coefficients, self.counts = state["coefficients"], state["counts"].tolist()


def projection(seed: int, features: int, width: int) -> Tensor:
    """The fixed random projection (F, width): the same for a seed, so it need not be kept."""
    drawn = np.random.default_rng([seed, DRAWN]).uniform(-1, 1, (features, width))
    return torch.from_numpy(drawn / features**0.5)


def woodbury(inverse: Tensor, weights: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse (D, D) and the weights (D, C) of a ridge regression after rows x (n, D) with targets y (n, C).

    R' = R - R x' (I + x R x')^-1 x R;  W' = W + R' x' (y - x W), with I + x R x' = L L'.
    """
    seen = x @ inverse  # (n, D)
    root = torch.linalg.cholesky(torch.eye(len(x)).to(x) + seen @ x.T)
    part = torch.linalg.solve_triangular(root, seen, upper=False)  # (n, D): R x' (L L')^-1 = part' L^-1
    missed = torch.linalg.solve_triangular(root, y - x @ weights, upper=False)  # (n, C)
    return inverse - part.T @ part, weights + part.T @ missed


class RAILPrimal(RAIL):
    """Keeps the inverse (width, width) and W; the projection is drawn again from the run's seed."""

    Settings = PrimalSettings

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        width = self.settings.width
        self.inverse = torch.eye(width, dtype=torch.float64) / self.settings.ridge
        self.coefficients = torch.zeros(width, 0, dtype=torch.float64)
        self.seed = 0  # the run's, known with the first lesson

    def hidden(self, features: Tensor) -> Tensor:
        """Phi (N, width)."""
        drawn = projection(self.seed, features.shape[1], self.settings.width)
        return F.relu(features.double() @ drawn)

    def fit(self, features: Tensor, labels: Tensor, seed: int, rows: int = 512) -> None:
        """Woodbury's update, `rows` pictures at a time."""
        self.seed, classes = seed, sum(self.counts)
        self.coefficients = F.pad(self.coefficients, (0, classes - self.coefficients.shape[1]))
        targets = F.one_hot(labels, classes).double()
        for x, y in zip(self.hidden(features).split(rows), targets.split(rows), strict=True):
            self.inverse, self.coefficients = woodbury(self.inverse, self.coefficients, x, y)

    def scores(self, features: Tensor) -> Tensor:
        """Phi W."""
        return self.hidden(features) @ self.coefficients

    def state(self) -> dict[str, Tensor]:
        """The inverse and the seed as well."""
        return super().state() | {"inverse": self.inverse, "seed": torch.tensor(self.seed)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads them."""
        super().restore(state)
        self.inverse, self.seed = state["inverse"], int(state["seed"])


class RAILDual(RAIL):
    """Keeps all features (N, F) and labels (N,) of all tasks, from which K and Y are made again, and a."""

    Settings = DualSettings

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.coefficients = torch.zeros(0, 0, dtype=torch.float64)
        visual: Any = context.backbone.model.visual
        self.known = torch.zeros(0, visual.output_dim)
        self.labels = torch.zeros(0, dtype=torch.long)

    def kernel(self, features: Tensor) -> Tensor:
        """K (N, M) between unit features (N, F) and all that are kept: ||x - x'||^2 = 2 - 2 x . x'."""
        return (-self.settings.gamma * (2 - 2 * features.double() @ self.known.double().T)).exp()

    def fit(self, features: Tensor, labels: Tensor, seed: int) -> None:
        """Solved anew."""
        self.known, self.labels = torch.cat([self.known, features]), torch.cat([self.labels, labels])
        gram = self.kernel(self.known)
        gram.diagonal().add_(self.settings.ridge)
        targets = F.one_hot(self.labels, sum(self.counts)).double()
        self.coefficients = torch.cholesky_solve(targets, torch.linalg.cholesky(gram)).contiguous()

    def scores(self, features: Tensor) -> Tensor:
        """K a."""
        return self.kernel(features) @ self.coefficients

    def state(self) -> dict[str, Tensor]:
        """The features and labels as well."""
        return super().state() | {"features": self.known, "labels": self.labels}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads them."""
        super().restore(state)
        self.known, self.labels = state["features"], state["labels"]
