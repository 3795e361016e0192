"""A selector by class statistics: each learned task as Gaussians on frozen features, a mean for each class.

A strong and simple alternative to DDAS's autoencoders, in the spirit of Lee et al. 2018 (Mahalanobis distance for
pictures of unknown origin): nothing is trained. The error of a picture under a task is the negative log density,
divided by the width, of the nearest class mean under the task's shared, shrunk covariance:

    error = ((x - mean)' P (x - mean) - log det P) / S
"""

import torch
from torch import Tensor, nn

from lib.selector.ddas import DDAS, SelectorSettings

WIDEST = 8192  # features wider than this (AlexNet's are) make no covariance that fits in memory


class Gaussians(nn.Module):
    """Of one task: class means (C, S), and a factor W (S, S) of the precision, P = W W'."""

    means: Tensor
    factor: Tensor

    def __init__(self, means: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("means", means)
        self.register_buffer("factor", factor)

    def forward(self, features: Tensor) -> Tensor:
        """Errors (B,) of features (B, S): low where the nearest class of the task is likely."""
        squared = torch.cdist(features @ self.factor, self.means @ self.factor).square().amin(dim=1)
        log_det = 2 * self.factor.diagonal().log().sum()
        return (squared - log_det) / features.shape[1]


class GaussianSelector(DDAS):
    """Decides as DDAS does, by other errors: smallest wins, above its task's threshold CLIP answers."""

    def __init__(self, width: int, settings: SelectorSettings) -> None:
        if width > WIDEST:
            raise ValueError(
                f"features of width {width} need a covariance of width {width}, at most {WIDEST}; "
                "use selector.features: clip"
            )
        super().__init__(width, settings)

    def _learned(self, features: Tensor, labels: Tensor, seed: list[int], steps: int = 0) -> nn.Module:
        classes, places = labels.unique(return_inverse=True)
        counts = torch.bincount(places)[:, None]
        sums = features.new_zeros(len(classes), features.shape[1]).index_add_(0, places, features)
        means = sums / counts  # (C, S)
        rest = (features - means[places]).double()
        covariance = rest.T @ rest / max(1, len(rest) - len(classes))
        even = covariance.diagonal().mean() * torch.eye(len(covariance), dtype=covariance.dtype)
        share = self.settings.shrinkage
        precision = torch.linalg.inv((1 - share) * covariance + share * even.to(covariance))
        factor = torch.linalg.cholesky(precision).to(features.dtype)
        return Gaussians(means, factor.contiguous())  # laid out as a state is: another layout has other last bits

    def _blank(self, state: dict[str, Tensor]) -> nn.Module:
        return Gaussians(torch.zeros_like(state["means"]), torch.zeros_like(state["factor"]))

    @torch.no_grad()
    def errors(self, features: Tensor, chunk: int = 256) -> Tensor:
        """Errors (N, T) of features (N, S) under each learned task."""
        if not len(self.tasks):
            return features.new_zeros(len(features), 0)
        moved = (part.to(self.device) for part in features.split(chunk))
        return torch.cat([torch.stack([task(part) for task in self.tasks], dim=1).cpu() for part in moved])
