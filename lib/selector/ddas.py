"""DDAS, the distribution discriminative auto-selector (paper, Sec. 3.4).

One small autoencoder for each learned task reconstructs frozen features of the task's images. An image goes to the task
with the smallest reconstruction error. It goes to the untouched CLIP if even that error is above a threshold, or if an
autoencoder of a reference set ("none of the tasks") has a smaller one.

The paper decides for each image; the released code decides once for a whole test batch of one data set, by the mean
errors. `decide` gives both. The released code stops with one threshold for all tasks (rule `absolute`); the rule
`quantile` reads each task's threshold off its own errors. `GaussianSelector` trains nothing: it has class means and one
covariance a task in place of an autoencoder.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.selector.features import WIDE
from lib.settings import Count, Positive, Rate, Share, Weight

CLIP = -1  # the route of images that no task claims


@dataclass(frozen=True)
class SelectorSettings:
    """The numbers of the selector (params `selector`).

    features: `clip` (the frozen class token) or `alexnet` (released code). code: the width of an autoencoder's code.
    steps, batch, lr, weight_decay: of its training. decay: the steps after which the learning rate falls to a tenth; 0:
    10 epochs, as in the released code, so that a small task has few steps at the full rate. rule, threshold: an error,
    for all tasks (`absolute`), or the quantile of a task's errors (`quantile`). shrinkage: of the Gaussian selector's
    covariance. reference: whether an autoencoder learns the reference set, in `reference_steps` steps (0: as many as a
    task's). batch_decision: how many images share one decision in the per-batch numbers.
    """

    features: Literal["clip", "alexnet"]
    code: Positive
    steps: Positive
    batch: Positive
    lr: Rate
    weight_decay: Weight
    rule: Literal["quantile", "absolute"]
    threshold: Rate
    shrinkage: Share
    reference: bool
    batch_decision: Positive
    decay: Count = 0
    reference_steps: Count = 0


class Autoencoder(nn.Module):
    """Features of width S to a code and back: linear, ReLU, linear, sigmoid. A sigmoid is applied to the features."""

    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(width, code)
        self.decoder = nn.Linear(code, width)

    def forward(self, features: Tensor) -> Tensor:
        """The mean squared error (B,) of the reconstruction of features (B, S)."""
        target = torch.sigmoid(features.float())
        rebuilt = torch.sigmoid(self.decoder(F.relu(self.encoder(target))))
        return (rebuilt - target).square().mean(dim=1)


class Decision(NamedTuple):
    """Routes (N,), decided for each image (sample) and for each batch of images (batch): a task's number, or CLIP."""

    sample: Tensor
    batch: Tensor


class DDAS(nn.Module):
    """An autoencoder and a threshold for each task learned so far. Other errors: override `fit`, `empty`, `errors`."""

    thresholds: Tensor

    def __init__(self, width: int, settings: SelectorSettings) -> None:
        super().__init__()
        self.width, self.settings = width, settings
        self.tasks = nn.ModuleList()
        self.reference: nn.Module | None = None
        self.register_buffer("thresholds", torch.zeros(0))
        self.register_buffer("stored_width", torch.tensor(width))

    @property
    def device(self) -> torch.device:
        """The device of the autoencoders. Features are given, and errors and routes returned, on the CPU."""
        return self.thresholds.device

    def learn(self, features: Tensor, labels: Tensor, seed: list[int]) -> None:
        """Learns one more task from its features (N, S) and labels (N,), and sets its threshold.

        A fifth of the images is held out of the training; the quantile is that of their errors.
        """
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(features)))
        held_out, used = order.tensor_split([max(1, len(features) // 5)])
        self.tasks.append(self.fit(features[used], labels[used], seed, self.settings.steps).to(self.device))
        threshold = torch.tensor(self.settings.threshold)
        if self.settings.rule == "quantile":
            threshold = torch.quantile(self.errors(features[held_out])[:, -1], self.settings.threshold)
        self.thresholds = torch.cat([self.thresholds, threshold.reshape(1).to(self.thresholds)])

    def learn_reference(self, features: Tensor, seed: list[int]) -> None:
        """Learns "none of the tasks" from features (N, S) of the reference set."""
        one_class, s = torch.zeros(len(features), dtype=torch.long), self.settings
        self.reference = self.fit(features, one_class, seed, s.reference_steps or s.steps).to(self.device)

    def fit(self, features: Tensor, labels: Tensor, seed: list[int], steps: int) -> nn.Module:
        """A module that gives errors (B,) for features (B, S), fitted to features (N, S) and labels (N,) of one task.

        Adam; the learning rate falls to a tenth every `decay` steps. Labels are not used.
        """
        s, rng = self.settings, np.random.default_rng([*seed, 1])
        with torch.random.fork_rng():
            torch.manual_seed(int(rng.integers(2**31)))
            coder = Autoencoder(self.width, s.code).to(self.device)
        optimizer = torch.optim.Adam(coder.parameters(), lr=s.lr, weight_decay=s.weight_decay)
        decay = s.decay or 10 * max(1, len(features) // s.batch)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = s.lr * 0.1 ** (step // decay)
            batch = torch.from_numpy(rng.choice(len(features), min(s.batch, len(features)), replace=False))
            optimizer.zero_grad()
            coder(features[batch].to(self.device)).mean().backward()
            optimizer.step()
        return coder.eval().requires_grad_(False)

    def empty(self, state: dict[str, Tensor], name: str) -> nn.Module:
        """A module such as `fit` returns, with the shapes of the one of that name in a state dict."""
        return Autoencoder(self.width, self.settings.code)

    @torch.no_grad()
    def errors(self, features: Tensor, chunk: int = 256) -> Tensor:
        """Reconstruction errors (N, T) of features (N, S): all tasks' autoencoders in one batched product."""
        if not len(self.tasks):
            return torch.zeros(len(features), 0)
        down, down_bias = self._stacked("encoder")  # (T, S, R), (T, 1, R)
        up, up_bias = self._stacked("decoder")  # (T, R, S), (T, 1, S)
        parts = []
        for part in features.split(chunk):
            target = torch.sigmoid(part.to(self.device).float())  # (n, S)
            code = F.relu(torch.matmul(target, down) + down_bias)  # (T, n, R)
            rebuilt = torch.sigmoid(torch.baddbmm(up_bias, code, up))  # (T, n, S)
            parts.append((rebuilt - target).square().mean(dim=2).T.cpu())  # (n, T)
        return torch.cat(parts)

    def _stacked(self, layer: str) -> tuple[Tensor, Tensor]:
        """A layer's weights, transposed, and biases of all tasks' autoencoders."""
        layers = [getattr(coder, layer) for coder in self.tasks]
        return torch.stack([each.weight.T for each in layers]), torch.stack([each.bias for each in layers])[:, None]

    @torch.no_grad()
    def decide(self, features: Tensor) -> Decision:
        """Routes of images by their features (N, S); `batch_decision` images in a row are a batch."""
        errors = self.errors(features)
        reference = torch.full((len(features),), torch.inf)
        if self.reference is not None:
            reference = self.reference(features.to(self.device)).cpu()
        batches = torch.arange(len(features)) // self.settings.batch_decision
        batch = self.route(_mean_by(batches, errors), _mean_by(batches, reference[:, None])[:, 0])
        return Decision(self.route(errors, reference), batch[batches])

    def route(self, errors: Tensor, reference: Tensor | float = torch.inf) -> Tensor:
        """Routes (N,) by errors (N, T): the smallest wins, unless above its task's threshold or the reference (N,)."""
        if errors.shape[1] == 0:
            return torch.full((len(errors),), CLIP)
        smallest, task = errors.min(dim=1)
        claimed = (smallest <= self.thresholds.cpu()[task]) & (smallest <= reference)
        return torch.where(claimed, task, CLIP)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads a state dict with all its tasks."""
        self.thresholds = torch.zeros_like(state["thresholds"], device=self.device)
        self.tasks = nn.ModuleList(self.empty(state, f"tasks.{i}") for i in range(len(self.thresholds)))
        with_reference = any(name.startswith("reference.") for name in state)
        self.reference = self.empty(state, "reference") if with_reference else None
        self.load_state_dict(state)
        self.to(self.device).eval().requires_grad_(False)


def _mean_by(batches: Tensor, values: Tensor) -> Tensor:
    """Means of values (N, T) in each batch, by the images' batch numbers (N,)."""
    counts = torch.bincount(batches)[:, None]
    return values.new_zeros(len(counts), values.shape[1]).index_add_(0, batches, values) / counts


def count_routes(routes: Tensor, learned: int) -> list[int]:
    """How many of the routes (N,) lead to each of the learned tasks, and last to CLIP."""
    return torch.bincount(torch.where(routes == CLIP, learned, routes), minlength=learned + 1).tolist()


class Gaussians(nn.Module):
    """One task's class means (C, S), and a factor W (S, S) of their shared precision P = W W' (Lee et al. 2018).

    An image's error is -2 times the log density under its nearest class, divided by the width S and without the
    constant: ((x - mean)' P (x - mean) - log det P) / S.
    """

    means: Tensor
    factor: Tensor

    def __init__(self, means: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("means", means)
        self.register_buffer("factor", factor)

    def forward(self, features: Tensor) -> Tensor:
        """Errors (B,) of features (B, S): low where a class of the task is likely."""
        squared = torch.cdist(features @ self.factor, self.means @ self.factor).square().amin(dim=1)
        log_det = 2 * self.factor.diagonal().log().sum()
        return (squared - log_det) / features.shape[1]


class GaussianSelector(DDAS):
    """Decides as DDAS does, by the errors of Gaussians."""

    def __init__(self, width: int, settings: SelectorSettings) -> None:
        if width > WIDE:  # a covariance that does not fit in memory
            raise ValueError(f"features are {width} wide, too wide for a covariance; use selector.features: clip")
        super().__init__(width, settings)

    def fit(self, features: Tensor, labels: Tensor, seed: list[int], steps: int) -> nn.Module:
        """Class means and shrunk covariance of features (N, S) with labels (N,). Nothing is drawn or trained."""
        share, rows = self.settings.shrinkage, labels.unique(return_inverse=True)[1]
        means = _mean_by(rows, features)  # (C, S)
        centred = (features - means[rows]).double()
        covariance = centred.T @ centred / max(1, len(centred) - len(means))  # (S, S)
        sphere = covariance.diagonal().mean() * torch.eye(len(covariance)).to(covariance)
        precision = torch.linalg.inv((1 - share) * covariance + share * sphere)
        factor = torch.linalg.cholesky(precision).to(features.dtype)
        return Gaussians(means, factor.contiguous())  # in another memory layout, products differ in their last bits

    def empty(self, state: dict[str, Tensor], name: str) -> nn.Module:
        """Gaussians with the shapes of those in a state dict."""
        return Gaussians(*(torch.zeros_like(state[f"{name}.{part}"]) for part in ("means", "factor")))

    @torch.no_grad()
    def errors(self, features: Tensor, chunk: int = 256) -> Tensor:
        """Errors (N, T) of features (N, S) under each learned task."""
        if not len(self.tasks):
            return features.new_zeros(len(features), 0)
        parts = (part.to(self.device) for part in features.split(chunk))
        return torch.cat([torch.stack([task(part) for task in self.tasks], dim=1).cpu() for part in parts])
