"""What one block gets: bottleneck experts, K for each sample, and a router for each task (paper, Sec. 3.3).

    expert(x) = scale * (ReLU(x A + a) B + b),  output = sum over the K chosen experts of gate * expert(x)

As in the released code the scale is 0.1 and dropout follows the ReLU; B, b and a start at zero, so a new
expert's output is exactly zero. The released code loops over expert modules and copies inputs K times; here
the K experts of a sample are gathered and act as one adapter of width K*R, without a loop and without waiting
for the GPU.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.moe.router import Router, Routing, check_top_k

Blocks = Literal["all", "first", "last", "none"] | list[int]
RouterOf = Literal["task", "shared"]
FreezeRule = Literal["most_used", "most_weighted", "all_used", "all_but_fresh"]


@dataclass(frozen=True)
class MoEConfig:
    """A mixture in chosen blocks of both towers; the defaults are the paper's. Bad values raise ValueError.

    image_blocks, text_blocks: "all", only the "first" or "last" block, "none", or block numbers.
    text_router_token: "start" (released code) is one and the same for all prompts; "end" has read the prompt.
    router: one for each "task" (paper), or one "shared" by all, which goes on learning.
    freeze_count: experts frozen after a task in each block (2 in the released code, whatever K is); 0 = never.
    freeze_rule: which ones: "most_used", the most often chosen (paper); "most_weighted", those with the
    largest sum of gates; "all_used", all that were ever chosen, whatever the count; "all_but_fresh", all
    except the freeze_count least often chosen so far.
    One expert needs no router: it is a plain adapter, without mixture.
    """

    experts: int = 22
    top_k: int = 2
    bottleneck: int = 64
    dropout: float = 0.1
    noise: bool = True
    text_router_token: Literal["start", "end"] = "start"
    image_blocks: Blocks = "all"
    text_blocks: Blocks = "all"
    router: RouterOf = "task"
    freeze_count: int = 2
    freeze_rule: FreezeRule = "most_used"

    def __post_init__(self) -> None:
        check_top_k(self.experts, self.top_k)
        if self.bottleneck < 1:
            raise ValueError(f"bottleneck is {self.bottleneck}; it is a width, 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it is a share, 0 or more and below 1")
        for name, value, allowed in (
            ("text_router_token", self.text_router_token, ("start", "end")),
            ("router", self.router, get_args(RouterOf)),
            ("freeze_rule", self.freeze_rule, get_args(FreezeRule)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; choose {' or '.join(allowed)}")
        if not 0 <= self.freeze_count <= self.experts:
            raise ValueError(f"freeze_count is {self.freeze_count}; choose 0 to {self.experts}, the number of experts")
        for name, blocks in (("image_blocks", self.image_blocks), ("text_blocks", self.text_blocks)):
            if blocks not in ("all", "first", "last", "none") and not isinstance(blocks, list):
                raise ValueError(f"{name} is {blocks!r}; choose all, first, last, none or a list of block numbers")
        if self.image_blocks in ("none", []) and self.text_blocks in ("none", []):
            raise ValueError("image_blocks and text_blocks are both none; leave a block to one of the towers")


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


class MoEAdapter(nn.Module):
    """Experts, a router for each task, the experts frozen so far (E,), and for each task how often every expert was
    chosen (T, E) and its sum of gates (T, E)."""

    frozen: Tensor
    counts: Tensor
    mass: Tensor

    def __init__(self, width: int, config: MoEConfig) -> None:
        super().__init__()
        self.width, self.config = width, config
        self.experts = Experts(config.experts, width, config.bottleneck, dropout=config.dropout)
        self.routers = nn.ModuleList()
        self.register_buffer("frozen", torch.zeros(config.experts, dtype=torch.bool))
        self.register_buffer("counts", torch.zeros(0, config.experts, dtype=torch.long))
        self.register_buffer("mass", torch.zeros(0, config.experts))

    def router_of(self, task: int) -> int:
        """The number of the router that serves a task."""
        return 0 if self.config.router == "shared" else task

    def forward(self, x: Tensor, x0: Tensor, task: int, noise: Tensor | None = None) -> tuple[Tensor, Routing]:
        """The experts' sum (B, L, D) on x (B, L, D), routed by x0 (B, D), or by x0 (1, D) for all alike."""
        one = self.config.experts == 1
        routing = self.only_route(x) if one else self.routers[self.router_of(task)](x0, noise)
        return self.experts(x, routing), routing.expand(len(x))

    def only_route(self, x: Tensor) -> Routing:
        """The routing of a single expert: a gate of one."""
        gates = x.new_ones(1, 1)
        return Routing(gates, torch.zeros_like(gates, dtype=torch.long), gates[0])

    def add_task(self) -> None:
        """A new router, at zero, and those before it never change again; a shared one is made with the first task."""
        c = self.config
        if c.experts > 1 and not (c.router == "shared" and len(self.routers)):
            self.routers.requires_grad_(False)
            router = Router(self.width, c.experts, c.top_k, c.noise).to(self.experts.down)
            self.routers.append(router.train(self.training))
        self.counts = torch.cat([self.counts, self.counts.new_zeros(1, c.experts)])
        self.mass = torch.cat([self.mass, self.mass.new_zeros(1, c.experts)])

    @torch.no_grad()
    def add_counts(self, task: int, routing: Routing) -> None:
        """Adds a training forward's choices to a task's counts and sums of gates."""
        self.counts[task] += routing.counts
        self.mass[task] += routing.importance

    def freeze(self, task: int) -> None:
        """Activate-freeze: freezes what the rule chooses after a task, for good."""
        if not self.counts[task].any():
            raise ValueError(f"task {task} has no counts to freeze by; call add_counts after every training forward")
        self.frozen[self.to_freeze(task)] = True

    def to_freeze(self, task: int) -> list[int]:
        """The experts that the rule chooses after a task, frozen before or not; of equals the first."""
        count, experts = self.config.freeze_count, self.config.experts
        if not count:
            return []
        by_use = self.counts[task].argsort(descending=True, stable=True)
        match self.config.freeze_rule:
            case "most_used":
                return by_use[:count].tolist()
            case "most_weighted":
                return self.mass[task].argsort(descending=True, stable=True)[:count].tolist()
            case "all_used":
                return self.counts[task].nonzero().flatten().tolist()
            case "all_but_fresh":
                so_far = self.counts[: task + 1].sum(dim=0)
                return so_far.argsort(descending=True, stable=True)[: experts - count].tolist()

    def mask_frozen_gradients(self) -> None:
        """Zeroes frozen experts' gradients; AdamW with a fresh state and no weight decay then skips them."""
        for parameter in self.experts.parameters():
            if parameter.grad is not None:
                parameter.grad.masked_fill_(self.frozen.view(-1, *[1] * (parameter.ndim - 1)), 0)
