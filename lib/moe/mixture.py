"""What one block gets: experts shared by all tasks, a router for each task, activate-freeze (paper, Sec. 3.2, 3.3)."""

import torch
from torch import Tensor, nn

from lib.moe.config import MoEConfig
from lib.moe.experts import Experts
from lib.moe.router import Router, Routing


class Mixture(nn.Module):
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
        count, experts = self.config.freeze, self.config.experts
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
