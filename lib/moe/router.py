"""Noisy top-K routing: which K of E experts a sample goes to (paper, Sec. 3.3; Shazeer et al. 2017, Sec. 2.1).

    c = x0 W,  s = softplus(x0 W_noise) + 0.01,  l = c + eps * s in training, l = c otherwise
    gates = softmax over the K largest of l, zero elsewhere

With K = 1 that softmax is always 1 and W gets no gradient; there the gate is the chosen expert's share among all E
(Fedus et al. 2022, Eq. 2). The paper writes the gates without noise, Softmax(TopK(x0 W)); the released code has noise,
as here. The released code also computes Shazeer's balance loss but never adds it to the objective; here `balance_loss`
is left to the caller.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_STD = 0.01  # the noise never vanishes, however small softplus gets


class Routing(NamedTuple):
    """Which experts the samples of a batch go to. A routing with B = 1 may be shared by all samples."""

    gates: Tensor  # the experts' weights (B, E), zero outside the top K
    experts: Tensor  # the numbers of the chosen ones (B, K), the largest gate first
    load: Tensor  # how many samples each expert gets (E,); with noise, the number expected if it were drawn again

    @property
    def importance(self) -> Tensor:
        """The sum of each expert's gates (E,)."""
        return self.gates.sum(dim=0)

    @property
    def counts(self) -> Tensor:
        """How many samples chose each expert (E,), as integers."""
        chosen = self.experts.flatten()
        # not bincount: it would wait for the GPU to learn the length of its result
        return chosen.new_zeros(self.gates.shape[1]).index_add(0, chosen, torch.ones_like(chosen))

    def expand(self, samples: int) -> "Routing":
        """The routing of a batch of `samples`: this one, or, if it is a shared one, this one repeated."""
        if len(self.gates) == samples:
            return self
        return Routing(self.gates.expand(samples, -1), self.experts.expand(samples, -1), self.load * samples)

    def among(self, experts: int) -> "Routing":
        """The same routing among more experts, as there are when experts were added after its router."""
        more = experts - self.gates.shape[1]
        return self if not more else Routing(F.pad(self.gates, (0, more)), self.experts, F.pad(self.load, (0, more)))

    @staticmethod
    def join(parts: list["Routing"], order: Tensor) -> "Routing":
        """Joins the routings of groups of samples, then puts the samples in the order (B,)."""
        gates, experts = (torch.cat([part[field] for part in parts])[order] for field in (0, 1))
        return Routing(gates, experts, torch.stack([part.load for part in parts]).sum(dim=0))


class Router(nn.Module):
    """One task's gate in one block. Its weights start at zero, so the noise alone draws a new task's first routes."""

    noise_weight: nn.Parameter | None

    def __init__(self, width: int, experts: int, top_k: int, noise: bool = True) -> None:
        super().__init__()
        self.top_k = top_k
        self.weight = nn.Parameter(torch.zeros(width, experts))
        self.register_parameter("noise_weight", nn.Parameter(torch.zeros(width, experts)) if noise else None)

    def forward(self, x0: Tensor, noise: Tensor | None = None) -> Routing:
        """Routes each sample by one of its tokens, x0 (B, D).

        Noise acts in training mode only. `noise` gives its standard normal draws (B, E); without it torch draws them.
        """
        return route(x0, self.weight, self.noise_weight if self.training else None, self.top_k, noise)


def route_each(routers: Sequence["Router"], tasks: Tensor, x0: Tensor, noise: Tensor | None) -> Routing:
    """Routes each sample by the router of its own task (B,), gathered: as if each task's samples were routed alone."""
    used, place = tasks.unique(return_inverse=True)
    chosen = [routers[number] for number in used.tolist()]
    widths = [router.weight.shape[1] for router in chosen]

    def gathered(weights: list[Tensor]) -> Tensor:  # (B, D, E)
        wide = [F.pad(each, (0, max(widths) - width)) for each, width in zip(weights, widths, strict=True)]
        return torch.stack(wide)[place]

    noisy = [router.noise_weight for router in chosen if router.training and router.noise_weight is not None]
    sizes = None if min(widths) == max(widths) else torch.tensor(widths, device=x0.device)[place]
    weight = gathered([router.weight for router in chosen])
    return route(x0, weight, gathered(noisy) if noisy else None, chosen[0].top_k, noise, sizes)


def route(
    x0: Tensor,
    weight: Tensor,
    noise_weight: Tensor | None,
    top_k: int,
    noise: Tensor | None,
    sizes: Tensor | None = None,
) -> Routing:
    """Noisy top-K routing of tokens x0 (B, D) by weights (D, E), or (B, D, E): one matrix for each sample.

    sizes: how many experts each sample's router has (B,), the first ones; None = all E.
    """
    with torch.autocast(x0.device.type, enabled=False):  # bf16 has too few digits to rank logits
        x0 = x0.float()
        logits = clean = _times(x0, weight)  # (B, E)
        if sizes is not None:
            logits = clean = clean.masked_fill(torch.arange(clean.shape[1]).to(sizes) >= sizes[:, None], -torch.inf)
        std = None
        if noise_weight is not None:
            std = F.softplus(_times(x0, noise_weight)) + MIN_STD  # (B, E)
            logits = clean + std * (torch.randn_like(clean) if noise is None else noise)
        largest, order = logits.topk(min(top_k + 1, logits.shape[1]), dim=1)  # (B, K+1), for the load
        experts = order[:, :top_k]  # (B, K)
        weights = largest[:, :top_k].softmax(dim=1) if top_k > 1 else logits.softmax(dim=1).gather(1, experts)
        gates = torch.zeros_like(logits).scatter(1, experts, weights)  # (B, E)
        if std is None or top_k == logits.shape[1]:
            return Routing(gates, experts, (gates > 0).sum(dim=0).to(gates.dtype))
        return Routing(gates, experts, chance_of_top_k(clean, std, logits, largest).sum(dim=0))


def _times(x0: Tensor, weight: Tensor) -> Tensor:
    """x0 (B, D) times weights (D, E) or (B, D, E): (B, E)."""
    return x0 @ weight if weight.ndim == 2 else (x0[:, None] @ weight)[:, 0]


def chance_of_top_k(clean: Tensor, std: Tensor, logits: Tensor, largest: Tensor) -> Tensor:
    """The probability (B, E) that an expert is in the top K if only its own noise is drawn again.

    Shazeer et al. 2017, Eq. 9: Phi((c - threshold) / s). The threshold is the K-th largest logit of the other experts:
    of all logits the (K+1)-th for an expert inside the top K, the K-th for one outside. `largest` has the K+1 largest.
    """
    next_largest, kth = largest[:, -1:], largest[:, -2:-1]  # (B, 1)
    threshold = torch.where(logits > next_largest, next_largest, kth)  # (B, E)
    return torch.special.ndtr((clean - threshold) / std)


def balance_loss(routing: Routing) -> Tensor:
    """CV^2(importance) + CV^2(load), a scalar (Shazeer et al. 2017, Eq. 7 and 11); 0 if all experts are used alike."""
    return squared_variation(routing.importance) + squared_variation(routing.load)


def squared_variation(values: Tensor) -> Tensor:
    """CV^2 of values (E,): the unbiased variance over the squared mean; 0 for a single value."""
    if len(values) == 1:
        return values.new_zeros(())
    return values.var() / (values.mean().square() + 1e-10)
