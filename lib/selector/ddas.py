"""DDAS, the distribution discriminative auto-selector (paper, Sec. 3.4).

One small autoencoder for each learned task reconstructs frozen features of the task's pictures. A picture belongs to
the task whose autoencoder reconstructs it best, unless even that error is above a threshold, or a reference
autoencoder ("none of the tasks") does better: then the untouched CLIP answers.

The paper decides for each input; the released code for a whole test batch of one data set. Here both, by argument.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.settings import Count, Positive, Rate, Share, Weight

CLIP = -1  # the route of pictures that no task claims


@dataclass(frozen=True)
class SelectorSettings:
    """The numbers of the selector (params `selector`).

    features: clip (the frozen class token) or alexnet. code: width of an autoencoder's code. rule: how the threshold
    is read: as a quantile of a task's own errors, or as an absolute error (released code). reference: whether an
    autoencoder learns the reference set, in `reference_steps` steps (0 = steps). shrinkage: of the Gaussian selector.
    batch_decision: the number of pictures that share one decision in the per-batch numbers (released code).
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
    reference_steps: Count = 0


class Autoencoder(nn.Module):
    """Features -> code -> features: linear, ReLU, linear, sigmoid, on features squashed by a sigmoid."""

    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(width, code)
        self.decoder = nn.Linear(code, width)

    def forward(self, features: Tensor) -> Tensor:
        """Mean squared error (B,) of the reconstruction of features (B, S)."""
        target = torch.sigmoid(features.float())
        rebuilt = torch.sigmoid(self.decoder(F.relu(self.encoder(target))))
        return (rebuilt - target).square().mean(dim=1)


class Decision(NamedTuple):
    """Routes (N,): the number of a learned task, or CLIP."""

    sample: Tensor
    batch: Tensor


class DDAS(nn.Module):
    """The autoencoders of the tasks learned so far, and their thresholds. Tasks not learned do not exist here."""

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
        """Where the autoencoders are; features come from the CPU, and errors and routes go there."""
        return self.thresholds.device

    def learn(self, features: Tensor, labels: Tensor, seed: list[int]) -> None:
        """Learns one more task from its features (N, S) and labels (N,), and sets its threshold.

        A fifth of the pictures is kept out of it: the quantile rule reads the threshold off their errors.
        """
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(features)))
        cut = max(1, len(features) // 5)
        held, used = order[:cut], order[cut:]
        self.tasks.append(self._learned(features[used], labels[used], seed).to(self.device))
        limit = torch.tensor(self.settings.threshold)
        if self.settings.rule == "quantile":
            limit = torch.quantile(self.errors(features[held])[:, -1], self.settings.threshold)
        self.thresholds = torch.cat([self.thresholds, limit.reshape(1).to(self.thresholds)])

    def _learned(self, features: Tensor, labels: Tensor, seed: list[int], steps: int = 0) -> nn.Module:
        """What is kept of a task; steps: of training, 0 = the study's."""
        return self._trained(features, seed, steps or self.settings.steps)

    def _blank(self, state: dict[str, Tensor]) -> nn.Module:
        """What is kept of a task, of the shape of its `state_dict`."""
        return Autoencoder(self.width, self.settings.code)

    def learn_reference(self, features: Tensor, seed: list[int]) -> None:
        """Learns what stands for "none of the tasks" from features (N, S) of reference pictures."""
        alike = torch.zeros(len(features), dtype=torch.long)
        self.reference = self._learned(features, alike, seed, self.settings.reference_steps).to(self.device)

    def _trained(self, features: Tensor, seed: list[int], steps: int) -> Autoencoder:
        """Adam, learning rate divided by 10 every 10 epochs, as in the released code."""
        s, rng = self.settings, np.random.default_rng([*seed, 1])
        with torch.random.fork_rng():
            torch.manual_seed(int(rng.integers(2**31)))
            coder = Autoencoder(self.width, s.code).to(self.device)
        optimizer = torch.optim.Adam(coder.parameters(), lr=s.lr, weight_decay=s.weight_decay)
        epoch_steps = max(1, len(features) // s.batch)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = s.lr * 0.1 ** (step // epoch_steps // 10)
            batch = torch.from_numpy(rng.choice(len(features), min(s.batch, len(features)), replace=False))
            optimizer.zero_grad()
            coder(features[batch].to(self.device)).mean().backward()
            optimizer.step()
        return coder.eval().requires_grad_(False)

    @torch.no_grad()
    def errors(self, features: Tensor, chunk: int = 256) -> Tensor:
        """Reconstruction errors (N, T) of features (N, S): all tasks' autoencoders in one batched product."""
        if not len(self.tasks):
            return torch.zeros(len(features), 0)
        into, into_bias = self._stacked("encoder")  # (T, S, R), (T, 1, R)
        back, back_bias = self._stacked("decoder")  # (T, R, S), (T, 1, S)
        parts = []
        for part in features.split(chunk):
            target = torch.sigmoid(part.to(self.device).float())  # (n, S)
            code = F.relu(torch.matmul(target, into) + into_bias)  # (T, n, R)
            rebuilt = torch.sigmoid(torch.baddbmm(back_bias, code, back))  # (T, n, S)
            parts.append((rebuilt - target).square().mean(dim=2).T.cpu())  # (n, T)
        return torch.cat(parts)

    def _stacked(self, layer: str) -> tuple[Tensor, Tensor]:
        layers = [getattr(coder, layer) for coder in self.tasks]
        return torch.stack([m.weight.T for m in layers]), torch.stack([m.bias for m in layers])[:, None]

    @torch.no_grad()
    def decide(self, features: Tensor) -> Decision:
        """Routes of pictures with features (N, S): for each alone, and as one decision for every `batch_decision`."""
        errors = self.errors(features)
        other = None if self.reference is None else self.reference(features.to(self.device)).cpu()
        groups = torch.arange(len(features)) // self.settings.batch_decision
        pooled = _mean_by(groups, errors)
        shared = self.route(pooled, None if other is None else _mean_by(groups, other[:, None])[:, 0])
        return Decision(self.route(errors, other), shared[groups])

    def route(self, errors: Tensor, reference: Tensor | None = None) -> Tensor:
        """Routes (N,) from errors (N, T): the smallest wins, if below its threshold and the reference's error (N,)."""
        if errors.shape[1] == 0:
            return torch.full((len(errors),), CLIP)
        least, winner = errors.min(dim=1)
        claimed = least <= self.thresholds.cpu()[winner]
        if reference is not None:
            claimed &= least <= reference
        return torch.where(claimed, winner, CLIP)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Grows to the tasks that a `state_dict` holds, then loads it."""
        self.thresholds = torch.zeros_like(state["thresholds"], device=self.device)
        self.tasks = nn.ModuleList(self._blank(under(f"tasks.{i}.", state)) for i in range(len(self.thresholds)))
        other = under("reference.", state)
        self.reference = self._blank(other) if other else None
        self.load_state_dict(state)
        self.to(self.device).eval().requires_grad_(False)


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a state dict whose names begin with the prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _mean_by(groups: Tensor, values: Tensor) -> Tensor:
    """Means (G, T) of values (N, T) over group numbers (N,)."""
    count = int(groups[-1]) + 1
    total = values.new_zeros(count, values.shape[1]).index_add_(0, groups, values)
    return total / torch.bincount(groups, minlength=count)[:, None]


def count_routes(routes: Tensor, learned: int) -> list[int]:
    """Pictures sent to each of the learned tasks, and last to CLIP, from routes (N,)."""
    shifted = torch.where(routes == CLIP, learned, routes)
    return torch.bincount(shifted, minlength=learned + 1).tolist()
