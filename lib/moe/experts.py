"""Bottleneck experts, of which each sample uses K (paper, Sec. 3.3; Houlsby et al. 2019).

    expert(x) = scale * (ReLU(x A + a) B + b),  output = sum over the K chosen experts of gate * expert(x)

As in the released code the scale is 0.1 and dropout follows the ReLU. B, b and a start at zero, so a new expert's
output is exactly zero. The released code calls one expert after another, on K copies of the inputs. Here the weights
are stacked, and neither way to the sum has a loop or waits for the GPU.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.moe.router import Routing


class Experts(nn.Module):
    """E experts of width D and bottleneck R, stacked in four tensors."""

    def __init__(self, experts: int, width: int, bottleneck: int, scale: float = 0.1, dropout: float = 0.1) -> None:
        super().__init__()
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Parameter(torch.empty(experts, width, bottleneck))
        self.down_bias = nn.Parameter(torch.zeros(experts, bottleneck))
        self.up = nn.Parameter(torch.zeros(experts, bottleneck, width))
        self.up_bias = nn.Parameter(torch.zeros(experts, width))
        bound = width**-0.5  # kaiming-uniform with a = sqrt(5), as nn.Linear draws it for D inputs
        nn.init.uniform_(self.down, -bound, bound)

    def add(self, experts: int) -> None:
        """Adds new experts; those before keep their numbers and weights."""
        _, width, bottleneck = self.down.shape
        new = Experts(experts, width, bottleneck).to(self.down)
        for (name, held), (_, more) in zip(list(self.named_parameters()), new.named_parameters(), strict=True):
            setattr(self, name, nn.Parameter(torch.cat([held.data, more.data])))

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """The gate-weighted sum of the chosen experts on x, both (B, L, D); a routing with B = 1 is for all samples."""
        if len(routing.experts) > 1 and self._samples_are_smaller(x):
            return self._sort_samples(x, routing)
        return self._gather_experts(x, routing)

    def _samples_are_smaller(self, x: Tensor) -> bool:
        """True if a sample of x (B, L, D) is less to copy than an expert, on a CPU, where copies are what costs.

        The grouped product needs rows of 16 bytes and a single precision.
        """
        _, width, bottleneck = self.down.shape
        fits = not (width % 4 or bottleneck % 4) and not torch.is_autocast_enabled("cpu")
        return x.device.type == "cpu" and fits and x.shape[1] < bottleneck

    def _gather_experts(self, x: Tensor, routing: Routing) -> Tensor:
        """The sum by copying each sample's K experts side by side: together they are one adapter of width K*R."""
        (samples, _), chosen = routing.experts.shape, routing.experts.flatten()  # (B*K,)
        _, width, bottleneck = self.down.shape
        # the E experts are transposed before the copying, not their B*K copies after it
        down = self.down.mT.contiguous().index_select(0, chosen).view(samples, -1, width).mT  # (B, D, K*R)
        down_bias = self.down_bias.index_select(0, chosen).view(samples, 1, -1)  # (B, 1, K*R)
        up = self.up.index_select(0, chosen).view(samples, -1, width)  # (B, K*R, D)
        gates = routing.gates.gather(1, routing.experts)  # (B, K)
        gates = gates.repeat_interleave(bottleneck, dim=1).unsqueeze(1)  # (B, 1, K*R)
        up_bias = (routing.gates @ self.up_bias).unsqueeze(1)  # (B, 1, D)
        hidden = self.dropout(F.relu(product(x, down) + down_bias))  # (B, L, K*R)
        return (product(hidden * gates, up) + up_bias) * self.scale  # (B, L, D)

    def _sort_samples(self, x: Tensor, routing: Routing) -> Tensor:
        """The same sum by copying samples, sorted by expert: a grouped product takes each expert to its samples."""
        (samples, length, width), bottleneck = x.shape, self.down.shape[2]
        expert, order = routing.experts.flatten().sort(stable=True)  # (B*K,) both
        sample = order // routing.experts.shape[1]  # (B*K,)
        ends = routing.counts.cumsum(0, dtype=torch.int32) * length  # (E,) where each expert's tokens end
        hidden = F.grouped_mm(x[sample].view(-1, width), self.down, offs=ends).view(-1, length, bottleneck)
        hidden = self.dropout(F.relu(hidden + self.down_bias[expert].unsqueeze(1)))  # (B*K, L, R)
        gates = routing.gates.gather(1, routing.experts).flatten()[order].view(-1, 1, 1)  # (B*K, 1, 1)
        outputs = F.grouped_mm((hidden * gates).view(-1, bottleneck), self.up, offs=ends)  # (B*K*L, D)
        up_bias = (routing.gates @ self.up_bias).unsqueeze(1).expand(samples, length, width)
        return up_bias.index_add(0, sample, outputs.view(-1, length, width)) * self.scale  # (B, L, D)


def product(x: Tensor, weights: Tensor) -> Tensor:
    """Tokens x (B, L, D) times weights (B, D, R), or (1, D, R) shared by all samples: (B, L, R)."""
    return x @ weights[0] if len(weights) == 1 else x @ weights
