"""The mixture of one block: its experts, a router for each task, and activate-freeze (paper, Sec. 3.3).

Experts exist from the start and all tasks share them. After a task the ones it used most are frozen for good; later
tasks may still choose them. An expert that is frozen already takes a place among the most used, as in the released
code, so that a task may freeze fewer new ones than `freeze` says.
"""

import torch
from torch import Tensor, nn

from lib.moe.config import MoEConfig
from lib.moe.experts import Experts
from lib.moe.router import Router, Routing


class Mixture(nn.Module):
    """The experts and routers of a block of width D.

    frozen: whether an expert is frozen (E,). counts: how often each task chose each expert in training (T, E).
    mass: the sum of the gates that it gave them (T, E).
    """

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

    def forget_tasks(self) -> None:
        """Removes all routers and counts; the experts stay as they are."""
        self.routers, self.counts, self.mass = nn.ModuleList(), self.counts[:0], self.mass[:0]

    def add_task(self) -> None:
        """Adds a router at zero and freezes those before it. A shared router is added with the first task only."""
        config = self.config
        if config.experts > 1 and not (config.router == "shared" and len(self.routers)):
            self.routers.requires_grad_(False)
            router = Router(self.width, config.experts, config.top_k, config.noise).to(self.experts.down)
            self.routers.append(router.train(self.training))
        self.counts = torch.cat([self.counts, self.counts.new_zeros(1, config.experts)])
        self.mass = torch.cat([self.mass, self.mass.new_zeros(1, config.experts)])

    def shapes(self, tasks: int) -> dict[str, tuple[int, ...]]:
        """The shapes of this mixture's state dict after so many tasks."""
        with torch.device("meta"):  # without memory
            twin = Mixture(self.width, self.config)
            for _ in range(tasks):
                twin.add_task()
        return {name: tuple(tensor.shape) for name, tensor in twin.state_dict().items()}

    def router_of(self, task: int) -> int:
        """The number of the router that serves a task."""
        return 0 if self.config.router == "shared" else task

    def forward(self, x: Tensor, x0: Tensor, task: int, noise: Tensor | None = None) -> tuple[Tensor, Routing]:
        """The experts' output (B, L, D) on x (B, L, D), and the routing by x0 (B, D); x0 (1, D) is for all samples."""
        if self.config.experts == 1:
            gates = x.new_ones(1, 1)
            routing = Routing(gates, torch.zeros_like(gates, dtype=torch.long), gates[0])
        else:
            routing = self.routers[self.router_of(task)](x0, noise)
        return self.experts(x, routing), routing.expand(len(x))

    @torch.no_grad()
    def add_counts(self, task: int, routing: Routing) -> None:
        """Adds the routing of a training forward to a task's counts and sums of gates."""
        self.counts[task] += routing.counts
        self.mass[task] += routing.importance

    def freeze(self, task: int) -> None:
        """Activate-freeze: freezes the experts that the rule chooses after a task."""
        if not self.counts[task].any():
            raise ValueError(f"task {task} has no counts to freeze by; call add_counts after every training forward")
        self.frozen[self.to_freeze(task)] = True

    def to_freeze(self, task: int) -> list[int]:
        """The experts that the rule chooses after a task, whether frozen before or not; at a tie the lower number."""
        number = self.config.freeze
        if not number:
            return []
        match self.config.freeze_rule:
            case "most_used":
                return _largest(self.counts[task])[:number]
            case "most_weighted":
                return _largest(self.mass[task])[:number]
            case "all_used":
                return self.counts[task].nonzero().flatten().tolist()
            case "all_but_fresh":
                return _largest(self.counts[: task + 1].sum(dim=0))[: self.config.experts - number]

    def mask_frozen_gradients(self) -> None:
        """Sets frozen experts' gradients to zero; AdamW with new state and no weight decay then leaves them alone."""
        for parameter in self.experts.parameters():
            if parameter.grad is not None:
                parameter.grad.masked_fill_(self.frozen.view(-1, *[1] * (parameter.ndim - 1)), 0)


def _largest(values: Tensor) -> list[int]:
    """Expert numbers by falling value."""
    return values.argsort(descending=True, stable=True).tolist()
