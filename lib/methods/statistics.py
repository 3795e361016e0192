"""What `beyond` knows of its tasks in closed form: sums over frozen features, exact in any order, no picture kept.

Ridge   the chances of the learned classes: ridge regression on random features (as in RAIL), calibrated
Looks   is a picture of a known class, of an unknown class in a known look, or in a look that no task had?
moving  moves the image features of one look towards the class features that the frozen CLIP should have found
of_strangers  how likely a picture of no learned task has a name that another task has had
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from scipy.stats import chi2
from torch import Tensor

from lib.methods.base import Saved
from lib.methods.rail import projection, woodbury

ROWS = 512  # pictures in one update of a ridge regression
SHARPEST = 100.0  # bound of the scale of its scores


class Ridge(Saved):
    """W = (Phi' Phi + ridge I)^-1 Phi' Y over the classes of all tasks, Phi = ReLU(z P) of unit features z (N, S).

    P is random and drawn from the run's seed, so it is not stored. The update is RAIL's (Xu et al. 2024, Theorem 1).

    The chances of the classes are a softmax over Phi W. The more classes, the sharper it must be. Every task fits the
    scale among all classes anew, and one among its own: the likeliest for its pictures, each as if not learned.
    """

    saved = ("inverse", "weights", "seed", "among_all", "among_own")

    def __init__(self, width: int, ridge: float) -> None:
        self.inverse = torch.eye(width, dtype=torch.float64) / ridge
        self.weights = torch.zeros(width, 0, dtype=torch.float64)  # (width, C of all tasks)
        self.seed = torch.tensor(0)
        self.among_all = torch.ones((), dtype=torch.float64)
        self.among_own: list[Tensor] = []  # () of each task

    def learn(self, features: Tensor, labels: Tensor, seed: int) -> None:
        """Adds a task's features (N, S) and labels (N,) among its own classes. seed: the run's."""
        self.seed, before = torch.tensor(seed), self.weights.shape[1]
        targets = F.pad(F.one_hot(labels).double(), (before, 0))
        self.weights = F.pad(self.weights, (0, targets.shape[1] - before))
        hidden = self.hidden(features)
        for x, y in zip(hidden.split(ROWS), targets.split(ROWS), strict=True):
            self.inverse, self.weights = woodbury(self.inverse, self.weights, x, y)
        left_out = self.left_out(hidden, targets)
        self.among_all = sharpness(left_out, labels + before)
        self.among_own.append(sharpness(left_out[:, before:], labels))

    def left_out(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Scores (N, C) of learned pictures, each as if all but it had been learned (leave-one-out, in closed form).

        hidden (N, width) and targets (N, C) are those with which they were learned.
        """
        leverage = ((hidden @ self.inverse) * hidden).sum(dim=1, keepdim=True)
        return (hidden @ self.weights - leverage * targets) / (1 - leverage)

    def hidden(self, features: Tensor) -> Tensor:
        """Phi (N, width) of features (N, S)."""
        drawn = projection(int(self.seed), features.shape[1], len(self.inverse))
        return F.relu(F.normalize(features.double(), dim=1) @ drawn)

    def scores(self, features: Tensor) -> Tensor:
        """Phi W (N, C): about 1 for a picture's class and 0 for others."""
        return self.hidden(features) @ self.weights


def sharpness(scores: Tensor, labels: Tensor) -> Tensor:
    """The factor () from 1 to SHARPEST that makes a softmax over scores (N, C) likeliest (Guo et al. 2017, Sec. 4)."""
    found = minimize_scalar(
        lambda log: F.cross_entropy(np.exp(log) * scores, labels).item(),
        bounds=(0.0, np.log(SHARPEST)),
        method="bounded",
    )
    return torch.tensor(np.exp(found.x), dtype=torch.float64)


class Judged(NamedTuple):
    """Of each picture, by task: log densities, and whether its look is that of no task."""

    known: Tensor  # (N, T) as a class of the task
    unknown: Tensor  # (N, T) as another class in the task's look
    strange: Tensor  # (N,) True if no task has had its look


class Whitened(NamedTuple):
    """Gaussians with one covariance, in coordinates where that is the identity."""

    factor: Tensor  # L (S, S), a lower triangle with L L' = the inverse of the covariance
    means: Tensor  # (M, S)
    log_det: float  # of L

    def log_densities(self, features: Tensor) -> Tensor:
        """Log densities (N, M) of features (N, S), without the constant."""
        return self.log_det - torch.cdist(features @ self.factor, self.means).square() / 2


class Looks(Saved):
    """Gaussians whose two covariances all tasks share: W within classes, and B of class means within a task.

    A picture of a known class is drawn from N(class mean, W), one of an unknown class in a task's look from N(task
    mean, W + B). A look is strange if under W + B a picture lies farther from every task than a share `level` of its
    own pictures would (chi-square with S degrees of freedom): one level for all tasks, and no threshold.
    """

    saved = ("means", "within", "between", "freedom")

    def __init__(self, shrinkage: float, level: float) -> None:
        self.shrinkage, self.level = shrinkage, level
        self.means: list[Tensor] = []  # (C, S) of each task
        self.within = self.between = torch.zeros(1, dtype=torch.float64)  # sums (S, S), from the first task on
        self.freedom = torch.zeros(2, dtype=torch.float64)  # of both: pictures - classes, and classes - tasks
        self.gaussians: tuple[Whitened, Whitened] | None = None  # of classes and of looks, from the sums

    def learn(self, features: Tensor, labels: Tensor) -> None:
        """Adds a task's features (N, S) and labels (N,); every class has a picture."""
        z, counts = features.double(), torch.bincount(labels)
        means = torch.zeros(len(counts), z.shape[1]).to(z).index_add_(0, labels, z) / counts[:, None]
        spread, between = z - means[labels], means - means.mean(dim=0)
        self.means.append(means)
        self.within, self.between = self.within + spread.T @ spread, self.between + between.T @ between
        self.freedom = self.freedom + torch.tensor([len(z) - len(means), len(means) - 1])
        self.gaussians = None

    def judge(self, features: Tensor) -> Judged:
        """What the features (N, S) of pictures say. Raises ValueError if no class has had two pictures."""
        if not self.freedom[0]:
            raise ValueError("every class so far has one training picture; beyond needs a class with two or more")
        if self.gaussians is None:  # the same for all pictures until the next task
            within = self.within / self.freedom[0]
            around = within + self.between / self.freedom[1].clamp(min=1)
            centres = torch.stack([means.mean(dim=0) for means in self.means])
            self.gaussians = self._whitened(within, torch.cat(self.means)), self._whitened(around, centres)
        classes, looks = (gaussian.log_densities(features.double()) for gaussian in self.gaussians)
        counts = torch.tensor([len(means) for means in self.means])
        owners = torch.arange(len(counts)).repeat_interleave(counts).expand_as(classes)
        largest = torch.full_like(looks, -torch.inf).scatter_reduce(1, owners, classes, "amax")
        sums = torch.zeros_like(looks).scatter_add(1, owners, (classes - largest.gather(1, owners)).exp())
        strange = looks.amax(dim=1) < self.gaussians[1].log_det - float(chi2.isf(self.level, features.shape[1])) / 2
        return Judged(largest + (sums / counts).log(), looks, strange)

    def _whitened(self, covariance: Tensor, means: Tensor) -> Whitened:
        """Gaussians with these means (M, S) and a covariance (S, S), shrunk towards a sphere."""
        size = float(covariance.diagonal().mean()) or 1.0  # 0 where all pictures of a class are the same
        sphere = size * torch.eye(len(covariance)).to(covariance)
        shrunk = (1 - self.shrinkage) * covariance + self.shrinkage * sphere
        factor = torch.linalg.cholesky(torch.linalg.inv(shrunk))
        return Whitened(factor, means @ factor, float(factor.diagonal().log().sum()))

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self.gaussians = None


def moving(image: Tensor, classes: Tensor, penalty: float) -> Tensor:
    """D (F, F) by which x + x D comes nearest to the class features: (X' X + penalty I)^-1 X' (G - X).

    X: image features (N, F) of a task. G: classes (N, F), the features of the name of each picture's class. Both are
    the frozen CLIP's, of unit length. Names that the task does not have share in what moves the look (Romera-Paredes
    and Torr 2015 learn such a map without a look).
    """
    x, g = image.double(), classes.double()
    return torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]).to(x), x.T @ (g - x)).contiguous()


def of_strangers(places: dict[int, Tensor], candidates: int) -> Tensor:
    """Log chances (C,) of the candidate names for a picture of no learned task; -inf for names that it cannot have.

    With chance 1 - N1 / N its name was learned in another task: of N names of learned tasks, N1 came once (Good 1953).
    Learned names are alike, and so are the others. places: by learned task, where its classes (C,) stand among them.
    """
    times = torch.zeros(candidates, dtype=torch.float64)
    for at in places.values():
        times[at] += 1
    again, learned = times[times > 1].sum() / times.sum().clamp(min=1), times > 0
    share = torch.where(learned, again, 1 - again) / torch.where(learned, learned.sum(), (~learned).sum())
    return share.log()
