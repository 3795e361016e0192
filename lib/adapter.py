"""What one block gets: bottleneck experts, K for each sample, and a router for each task (paper, Sec. 3.3).

    expert(x) = scale * (ReLU(x A + a) B + b),  output = sum over the K chosen experts of gate * expert(x)

As in the released code the scale is 0.1 and dropout follows the ReLU; B, b and a start at zero, so a new
expert's output is exactly zero. The released code loops over expert modules and copies inputs K times; here
the K experts of a sample are gathered and act as one adapter of width K*R, without a loop and without waiting
for the GPU.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.router import Router, Routing, check_top_k

Blocks = Literal["all", "first", "last", "none"] | list[int]


@dataclass(frozen=True)
class MoEConfig:
    """A mixture in chosen blocks of both towers; the defaults are the paper's. Bad values raise ValueError.

    image_blocks, text_blocks: "all", only the "first" or "last" block, "none", or block numbers.
    text_router_token: "start" (released code) is one and the same for all prompts; "end" has read the prompt.
    freeze_count: experts frozen after a task in each block (2 in the released code, whatever K is); 0 =
    never. One expert needs no router: it is a plain adapter, without mixture.
    """

    experts: int = 22
    top_k: int = 2
    bottleneck: int = 64
    dropout: float = 0.1
    noise: bool = True
    text_router_token: Literal["start", "end"] = "start"
    image_blocks: Blocks = "all"
    text_blocks: Blocks = "all"
    freeze_count: int = 2

    def __post_init__(self) -> None:
        check_top_k(self.experts, self.top_k)
        if self.bottleneck < 1:
            raise ValueError(f"bottleneck is {self.bottleneck}; it is a width, 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it is a share, 0 or more and below 1")
        if self.text_router_token not in ("start", "end"):
            raise ValueError(f"text_router_token is {self.text_router_token!r}; choose start or end")
        if not 0 <= self.freeze_count <= self.experts:
            raise ValueError(
                f"freeze_count is {self.freeze_count}; choose 0 to {self.experts}, the number of experts"
            )
        for name, blocks in (("image_blocks", self.image_blocks), ("text_blocks", self.text_blocks)):
            if blocks not in ("all", "first", "last", "none") and not isinstance(blocks, list):
                raise ValueError(
                    f"{name} is {blocks!r}; choose all, first, last, none or a list of block numbers"
                )
        if self.image_blocks in ("none", []) and self.text_blocks in ("none", []):
            raise ValueError("image_blocks and text_blocks are both none; leave a block to one of the towers")


class Experts(nn.Module):
    """E adapters of width D and bottleneck R in four stacked tensors, so that a route is an index."""

    def __init__(
        self, experts: int, width: int, bottleneck: int, scale: float = 0.1, dropout: float = 0.1
    ) -> None:
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
        down, down_bias, up = self.chosen(routing.experts)
        shares = routing.gates.gather(1, routing.experts)  # (B, K)
        shares = shares.repeat_interleave(self.down.shape[2], dim=1).unsqueeze(1)  # (B, 1, K*R)
        up_bias = (routing.gates @ self.up_bias).unsqueeze(1)  # (B, 1, D)
        hidden = self.dropout(F.relu(product(x, down) + down_bias))  # (B, L, K*R)
        return (product(hidden * shares, up) + up_bias) * self.scale  # (B, L, D)

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


class MoEAdapter(nn.Module):
    """Experts, a router for each task, the experts frozen so far (E,), how often each was chosen (T, E)."""

    frozen: Tensor
    counts: Tensor

    def __init__(self, width: int, config: MoEConfig) -> None:
        super().__init__()
        self.width, self.config = width, config
        self.experts = Experts(config.experts, width, config.bottleneck, dropout=config.dropout)
        self.routers = nn.ModuleList()
        self.register_buffer("frozen", torch.zeros(config.experts, dtype=torch.bool))
        self.register_buffer("counts", torch.zeros(0, config.experts, dtype=torch.long))

    def forward(
        self, x: Tensor, x0: Tensor, task: int, noise: Tensor | None = None
    ) -> tuple[Tensor, Routing]:
        """The experts' sum (B, L, D) on x (B, L, D), routed by x0 (B, D), or by x0 (1, D) for all alike."""
        routing = self.only_route(x) if self.config.experts == 1 else self.routers[task](x0, noise)
        return self.experts(x, routing), routing.expand(len(x))

    def only_route(self, x: Tensor) -> Routing:
        """The routing of a single expert: a gate of one."""
        gates = x.new_ones(1, 1)
        return Routing(gates, torch.zeros_like(gates, dtype=torch.long), gates[0])

    def add_task(self) -> None:
        """A new router, at zero; those before it never change again."""
        self.routers.requires_grad_(False)
        c = self.config
        if c.experts > 1:
            router = Router(self.width, c.experts, c.top_k, c.noise).to(self.experts.down)
            self.routers.append(router.train(self.training))
        self.counts = torch.cat([self.counts, self.counts.new_zeros(1, c.experts)])

    def freeze_most_used(self, task: int) -> None:
        """Freezes the freeze_count experts that a task chose most often, for good; of equals the first."""
        if not self.counts[task].any():
            raise ValueError(
                f"task {task} has no counts to freeze by; call add_counts after every training forward"
            )
        self.frozen[self.most_used(task)] = True

    def most_used(self, task: int) -> list[int]:
        """The freeze_count experts that a task chose most often; of equals the first."""
        return self.counts[task].argsort(descending=True, stable=True)[: self.config.freeze_count].tolist()

    def mask_frozen_gradients(self) -> None:
        """Zeroes frozen experts' gradients; AdamW with a fresh state and no weight decay then skips them."""
        for parameter in self.experts.parameters():
            if parameter.grad is not None:
                parameter.grad.masked_fill_(self.frozen.view(-1, *[1] * (parameter.ndim - 1)), 0)
