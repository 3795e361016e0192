"""Noisy top-K routing: which K of E experts see a sample (paper, Sec. 3.3; Shazeer et al. 2017, Sec. 2.1).

    c = x0 W,  s = softplus(x0 W_noise) + 0.01,  l = c + eps * s in training, else l = c
    gates = softmax over the K largest of l, zeros elsewhere

The paper writes the gates without noise, Softmax(TopK(x0 W)); the released code has the form above, as here.
It also computes Shazeer's balance loss and never adds it to the objective; here that is a function of its
own.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.clip.compute import exactly

LEAST_NOISE = 0.01  # keeps the noise alive when softplus goes to zero


class Routing(NamedTuple):
    """Where the samples of a batch go: gates (B, E), zero outside the top K; experts (B, K); load (E,).

    A routing of batch size 1 may stand for one route that all samples share.
    """

    gates: Tensor
    experts: Tensor
    load: Tensor

    @property
    def importance(self) -> Tensor:
        """The gates' sum over the batch (E,)."""
        return self.gates.sum(dim=0)

    @property
    def counts(self) -> Tensor:
        """How often each expert was chosen (E,), as whole numbers."""
        chosen = self.experts.flatten()
        # bincount would wait for the GPU to learn how long its answer is
        return chosen.new_zeros(self.gates.shape[1]).index_add(0, chosen, torch.ones_like(chosen))

    def expand(self, samples: int) -> "Routing":
        """This routing, if it has that many samples; one shared route as a routing of that many samples."""
        if len(self.gates) == samples:
            return self
        return Routing(self.gates.expand(samples, -1), self.experts.expand(samples, -1), self.load * samples)

    @staticmethod
    def together(parts: list["Routing"], order: Tensor) -> "Routing":
        """The routings of several groups as one of all their samples, in the order (B,)."""
        gates, experts = (torch.cat([part[field] for part in parts])[order] for field in (0, 1))
        return Routing(gates, experts, torch.stack([part.load for part in parts]).sum(dim=0))


def check_top_k(experts: int, top_k: int) -> None:
    """Raises ValueError unless 1 <= top_k <= experts."""
    if not 1 <= top_k <= experts:
        raise ValueError(f"top_k is {top_k}; choose 1 to {experts}, the number of experts")


class Router(nn.Module):
    """One task's gate. Weights start at zero: the first routes of a new task are drawn by the noise alone."""

    noise_weight: nn.Parameter | None

    def __init__(self, width: int, experts: int, top_k: int, noise: bool = True) -> None:
        super().__init__()
        check_top_k(experts, top_k)
        self.top_k = top_k
        self.weight = nn.Parameter(torch.zeros(width, experts))
        self.register_parameter("noise_weight", nn.Parameter(torch.zeros(width, experts)) if noise else None)

    def forward(self, x0: Tensor, noise: Tensor | None = None) -> Routing:
        """Routes samples by one token of each, x0 (B, D).

        Noise acts in training mode only. Its standard normal draws (B, E) are `noise`, or torch's own.
        """
        with exactly(x0.device):  # a choice should not hang on bf16's eight bits
            return self._route(x0.float(), noise)

    def _route(self, x0: Tensor, noise: Tensor | None) -> Routing:
        logits = clean = x0 @ self.weight  # (B, E)
        spread = None
        if self.training and self.noise_weight is not None:
            spread = F.softplus(x0 @ self.noise_weight) + LEAST_NOISE
            logits = clean + spread * (torch.randn_like(clean) if noise is None else noise)
        one_more = min(self.top_k + 1, logits.shape[1])  # than K, for the load
        top, order = logits.topk(one_more, dim=1)  # (B, K+1)
        experts = order[:, : self.top_k]  # (B, K)
        shares = top[:, : self.top_k].softmax(dim=1)
        gates = torch.zeros_like(logits).scatter(1, experts, shares)  # (B, E)
        if spread is None or self.top_k == logits.shape[1]:
            return Routing(gates, experts, (gates > 0).sum(dim=0).to(gates.dtype))
        return Routing(gates, experts, chance_of_top(clean, spread, logits, top).sum(dim=0))


def chance_of_top(clean: Tensor, spread: Tensor, logits: Tensor, top: Tensor) -> Tensor:
    """The chance (B, E) that an expert is in the top K if its noise is drawn again and all others' stays.

    Shazeer et al. 2017, Eq. 9: Phi((c - threshold) / s), the threshold being the K-th largest logit of the
    others: the (K+1)-th of all for an expert inside the top K, the K-th for one outside. `top` has the K+1
    largest logits.
    """
    after, kth = top[:, -1:], top[:, -2:-1]
    threshold = torch.where(logits > after, after, kth)  # (B, E)
    return torch.special.ndtr((clean - threshold) / spread)


def balance_loss(routing: Routing) -> Tensor:
    """CV^2(importance) + CV^2(load), a scalar: 0 when all are used alike (Shazeer et al., Eq. 7 and 11)."""
    return variation(routing.importance) + variation(routing.load)


def variation(values: Tensor) -> Tensor:
    """Squared coefficient of variation of values (E,), by the unbiased variance; 0 for one value."""
    if len(values) == 1:
        return values.new_zeros(())
    return values.var() / (values.mean().square() + 1e-10)
