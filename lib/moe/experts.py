"""What one block gets: bottleneck experts, K for each sample, and a router for each task (paper, Sec. 3.3).

    expert(x) = scale * (ReLU(x A + a) B + b),  output = sum over the K chosen experts of gate * expert(x)

As in the released code the scale is 0.1 and dropout follows the ReLU; B, b and a start at zero, so a new
expert's output is exactly zero. The released code loops over expert modules and copies inputs K times; here
the K experts of a sample are gathered and act as one adapter of width K*R, without a loop and without waiting
for the GPU.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.moe.router import Routing


class Experts(nn.Module):
    """E adapters of width D and bottleneck R in four stacked tensors, so that a route is an index."""

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

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """The gate-weighted sum (B, L, D) of each sample's chosen experts on its tokens x (B, L, D).

        A routing of batch size 1 sends all samples the same way.
        """
        if len(routing.experts) > 1 and self._short(x):
            return self.by_expert(x, routing)
        down, down_bias, up = self.chosen(routing.experts)
        shares = routing.gates.gather(1, routing.experts)  # (B, K)
        shares = shares.repeat_interleave(self.down.shape[2], dim=1).unsqueeze(1)  # (B, 1, K*R)
        up_bias = (routing.gates @ self.up_bias).unsqueeze(1)  # (B, 1, D)
        hidden = self.dropout(F.relu(product(x, down) + down_bias))  # (B, L, K*R)
        return (product(hidden * shares, up) + up_bias) * self.scale  # (B, L, D)

    def _short(self, x: Tensor) -> bool:
        """True if tokens x (B, L, D) are less to copy than experts: on a CPU, where copies cost more than starts.

        The grouped product wants rows of 16 bytes, and one precision.
        """
        _, width, bottleneck = self.down.shape
        fits = not (width % 4 or bottleneck % 4) and not torch.is_autocast_enabled("cpu")
        return x.device.type == "cpu" and fits and x.shape[1] < bottleneck

    def by_expert(self, x: Tensor, routing: Routing) -> Tensor:
        """The same sum with samples brought to their experts: one product for all that an expert is to see."""
        (samples, length, width), bottleneck = x.shape, self.down.shape[2]
        which, order = routing.experts.flatten().sort(stable=True)  # (B*K,) both
        rows = order // routing.experts.shape[1]  # the sample of each
        ends = routing.counts.cumsum(0, dtype=torch.int32) * length  # where an expert's tokens end (E,)
        hidden = F.grouped_mm(x[rows].view(-1, width), self.down, offs=ends).view(-1, length, bottleneck)
        hidden = self.dropout(F.relu(hidden + self.down_bias[which].unsqueeze(1)))  # (B*K, L, R)
        shares = routing.gates.gather(1, routing.experts).flatten()[order].view(-1, 1, 1)
        added = F.grouped_mm((hidden * shares).view(-1, bottleneck), self.up, offs=ends)
        up_bias = (routing.gates @ self.up_bias).unsqueeze(1).expand(samples, length, width)
        return up_bias.index_add(0, rows, added.view(-1, length, width)) * self.scale

    def chosen(self, experts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of experts (B, K) side by side: down (B, D, K*R), its bias (B, 1, K*R) and up (B, K*R, D)."""
        samples, which = len(experts), experts.flatten()
        _, width, bottleneck = self.down.shape
        wide = experts.shape[1] * bottleneck
        # turned before it is gathered, so that the few experts are turned and not the many copies
        down = self.down.mT.contiguous().index_select(0, which).view(samples, wide, width).mT
        bias = self.down_bias.index_select(0, which).view(samples, 1, wide)
        return down, bias, self.up.index_select(0, which).view(samples, wide, width)


def product(x: Tensor, weights: Tensor) -> Tensor:
    """Tokens x (B, L, D) times weights (B, D, R), or times (1, D, R) that all samples share."""
    return x @ weights[0] if len(weights) == 1 else x @ weights
