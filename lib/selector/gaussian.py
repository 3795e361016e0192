"""DDAS with Gaussians in place of autoencoders: each task is a set of class means with one shared covariance.

A simple alternative that trains nothing, after Lee et al. 2018 (the Mahalanobis distance shows images of unknown
origin). The error of an image under a task is -2 times the log density under its nearest class, divided by the width S
and without the constant:

    error = ((x - mean)' P (x - mean) - log det P) / S
"""

import torch
from torch import Tensor, nn

from lib.selector.ddas import DDAS, SelectorSettings

WIDEST = 8192  # the covariance of wider features, such as AlexNet's, does not fit in memory


class Gaussians(nn.Module):
    """One task's class means (C, S), and a factor W (S, S) of the precision P = W W'."""

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
        if width > WIDEST:
            raise ValueError(
                f"features of width {width} need a covariance of width {width}, at most {WIDEST}; "
                "use selector.features: clip"
            )
        super().__init__(width, settings)

    def fit(self, features: Tensor, labels: Tensor, seed: list[int], steps: int) -> nn.Module:
        """Class means and shrunk covariance of features (N, S) with labels (N,). Nothing is drawn or trained."""
        classes, rows = labels.unique(return_inverse=True)
        counts = torch.bincount(rows)[:, None]
        sums = features.new_zeros(len(classes), features.shape[1]).index_add_(0, rows, features)
        means = sums / counts  # (C, S)
        centred = (features - means[rows]).double()
        covariance = centred.T @ centred / max(1, len(centred) - len(classes))  # (S, S)
        sphere = covariance.diagonal().mean() * torch.eye(len(covariance), dtype=covariance.dtype)
        share = self.settings.shrinkage
        precision = torch.linalg.inv((1 - share) * covariance + share * sphere.to(covariance))
        factor = torch.linalg.cholesky(precision).to(features.dtype)
        return Gaussians(means, factor.contiguous())  # in another memory layout, products differ in their last bits

    def empty(self, state: dict[str, Tensor]) -> nn.Module:
        """Gaussians with the shapes of a state dict of one task."""
        return Gaussians(torch.zeros_like(state["means"]), torch.zeros_like(state["factor"]))

    @torch.no_grad()
    def errors(self, features: Tensor, chunk: int = 256) -> Tensor:
        """Errors (N, T) of features (N, S) under each learned task."""
        if not len(self.tasks):
            return features.new_zeros(len(features), 0)
        parts = (part.to(self.device) for part in features.split(chunk))
        return torch.cat([torch.stack([task(part) for task in self.tasks], dim=1).cpu() for part in parts])
