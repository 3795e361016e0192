"""Mixtures beside the MLPs of one tower's blocks, and activate-freeze in each (paper, Sec. 3.2 and 3.3).

    x = x + MHA(LN1(x))
    x = x + MLP(LN2(x)) + sum over the K chosen experts of gate * expert(x)

Router and experts read x after attention, not normalised. All that comes before the first mixture is the same for all
tasks, so a tower's pass has two parts: `start`, whose result may be kept, and `finish`.

Experts exist from the start and all tasks share them. After a task the ones it used most are frozen for good; later
tasks may still choose them. An expert that is frozen already takes a place among the most used, as in the released
code, so that a task may freeze fewer new ones than `freeze` says. With `grow` (not in the paper) a block that runs out
of free experts gets new ones; earlier routers do not know them.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.clip.towers import Block, Pass
from lib.moe.config import MoEConfig
from lib.moe.experts import Experts
from lib.moe.router import Router, Routing, route_each

TaskOf = int | Tensor  # the task of all samples, or of each (B,)
Noise = Mapping[int, Tensor] | None  # the routers' standard normal draws (B, E), by block


class Mixture(nn.Module):
    """The experts and routers of a block of width D, and what activate-freeze knows of them."""

    frozen: Tensor  # whether an expert is frozen (E,)
    counts: Tensor  # how often each task chose each expert in training (T, E)
    mass: Tensor  # the sum of the gates that it gave them (T, E)

    def __init__(self, width: int, config: MoEConfig) -> None:
        super().__init__()
        self.width, self.config = width, config
        self.experts = Experts(config.experts, width, config.bottleneck, dropout=config.dropout)
        self.routers = nn.ModuleList()
        self.register_buffer("frozen", torch.zeros(config.experts, dtype=torch.bool))
        self.register_buffer("counts", torch.zeros(0, config.experts, dtype=torch.long))
        self.register_buffer("mass", torch.zeros(0, config.experts))

    def add_task(self) -> None:
        """Adds a router at zero and freezes those before it. A shared router is added with the first task only."""
        if self.config.grow:
            self._grow(self.config.freeze - int((~self.frozen).sum()))
        self._add_router(len(self.frozen))

    def _grow(self, missing: int) -> None:
        """Adds so many free experts, if any are missing."""
        if missing > 0:
            self.experts.add(missing)
            wider = (F.pad(held, (0, missing)) for held in (self.frozen, self.counts, self.mass))
            self.frozen, self.counts, self.mass = wider

    def _add_router(self, experts: int) -> None:
        """Adds a task whose router knows the first so many experts."""
        config = self.config
        if config.experts > 1 and not (config.router == "shared" and len(self.routers)):
            self.routers.requires_grad_(False)
            router = Router(self.width, experts, config.top_k, config.noise).to(self.experts.down)
            self.routers.append(router.train(self.training))
        self.counts, self.mass = (F.pad(x, (0, 0, 0, 1)) for x in (self.counts, self.mass))

    def renew(self, sizes: list[int]) -> None:
        """Puts new routers and counts in place of those it has: of tasks (T,) that began with so many experts.

        The experts stay as they are; if there were fewer or more, they are new.
        """
        if (experts := max(sizes, default=self.config.experts)) != len(self.frozen):
            new = Experts(experts, self.width, self.config.bottleneck, dropout=self.config.dropout)
            self.experts, self.frozen = new.to(self.experts.down), self.frozen.new_zeros(experts)
        self.routers = nn.ModuleList()
        self.counts, self.mass = self.counts.new_zeros(0, experts), self.mass.new_zeros(0, experts)
        for size in sizes:
            self._add_router(size)

    def sizes(self, state: Mapping[str, Tensor], name: str, tasks: int) -> list[int]:
        """How many experts each of so many tasks began with, by its router in a state dict; name: this mixture's."""
        first = torch.empty(0, self.config.experts)
        routers = [state.get(f"{name}.routers.{task}.weight", first) for task in range(tasks)]
        return [r.shape[-1] if self.config.grow and r.ndim else self.config.experts for r in routers]

    def shapes(self, sizes: list[int]) -> dict[str, tuple[int, ...]]:
        """The shapes of this mixture's state dict after tasks (T,) that began with so many experts."""
        with torch.device("meta"):  # without memory
            twin = Mixture(self.width, self.config)
            twin.renew(sizes)
        return {name: tuple(tensor.shape) for name, tensor in twin.state_dict().items()}

    def forward(self, x: Tensor, x0: Tensor, task: TaskOf, noise: Tensor | None = None) -> tuple[Tensor, Routing]:
        """The experts' output (B, L, D) on x (B, L, D), and the routing by x0 (B, D); x0 (1, D) is for all samples."""
        if self.config.experts == 1:
            gates = x.new_ones(1, 1)
            routing = Routing(gates, torch.zeros_like(gates, dtype=torch.long), gates[0])
        elif isinstance(task, Tensor) and self.config.router == "task":
            routers: Any = self.routers
            routing = route_each(routers, task, x0, noise)
        else:
            routing = self.routers[0 if isinstance(task, Tensor) else self.config.router_of(task)](x0, noise)
        routing = routing.among(len(self.frozen))
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
                return _largest(self.counts[: task + 1].sum(dim=0))[: len(self.frozen) - number]

    def mask_frozen_gradients(self) -> None:
        """Sets frozen experts' gradients to zero; AdamW with new state and no weight decay then leaves them alone."""
        for parameter in self.experts.parameters():
            if parameter.grad is not None:
                parameter.grad.masked_fill_(self.frozen.view(-1, *[1] * (parameter.ndim - 1)), 0)


def _largest(values: Tensor) -> list[int]:
    """Expert numbers by falling value."""
    return values.argsort(descending=True, stable=True).tolist()


class Encoded(NamedTuple):
    """Features (B, F), not normalised, and the routing in each block that has a mixture."""

    features: Tensor
    routings: dict[int, Routing]


class Start(NamedTuple):
    """A pass up to the first mixture. If the tower has none, x is the output of the last block."""

    tower: Pass
    block: int  # the number of the mixture's block
    x: Tensor  # after that block's attention (B, L, D)
    mlp: Tensor  # what that block's MLP adds to x

    @property
    def early(self) -> Tensor:
        """The class tokens (B, D) of images where the first mixture reads them: no task has changed them yet."""
        return self.x[:, 0]

    def of(self, rows: Tensor) -> "Start":
        """The pass of some images (n,) alone."""
        assert self.tower.ends is None, "prompts are pooled by their places in the whole pass"
        blocks = [block if block.read is None else replace(block, read=block.read[rows]) for block in self.tower.blocks]
        return Start(replace(self.tower, blocks=blocks), self.block, self.x[rows], self.mlp[rows])


class TowerMixtures(nn.ModuleDict):
    """The mixtures of the "image" or "text" tower, by block number."""

    def __init__(self, tower: str, transformer: Any, config: MoEConfig) -> None:
        blocks = config.blocks(tower, len(transformer.resblocks))
        super().__init__({str(block): Mixture(transformer.width, config) for block in blocks})
        self.text_router_token = config.text_router_token

    def start(self, tower: Pass) -> Start:
        """Computes the frozen blocks up to the first mixture."""
        first = min(map(int, self), default=len(tower.blocks))
        x = tower.x
        for block in tower.blocks[:first]:
            x = block(x)
        if first == len(tower.blocks):
            return Start(tower, first, x, x)
        x = tower.blocks[first].attend(x)
        return Start(tower, first, x, tower.blocks[first].mlp(x))

    def finish(self, start: Start, task: TaskOf | None, noise: Noise = None) -> Encoded:
        """Computes the rest of the tower with a task's routers; task None: without mixtures, as CLIP does."""
        x, routings = start.x, {}
        for number, block in enumerate(start.tower.blocks[start.block :], start.block):
            if number > start.block:
                x = block.attend(x)  # (B, L, D), or only the tokens that are read
            added: Tensor | None = None
            if task is not None and str(number) in self:
                x0 = self._router_token(x, start.tower.ends, block)
                added, routings[number] = self[str(number)](x, x0, task, (noise or {}).get(number))
            # after the mixture: before it, gradients would be summed in another order, and results differ in bits
            x = x + (block.mlp(x) if number > start.block else start.mlp)
            x = x if added is None else x + added
        return Encoded(start.tower.pool(x), routings)

    def _router_token(self, x: Tensor, ends: Tensor | None, block: Block) -> Tensor:
        """The token by which each sample is routed (B, D): an image's class token, a prompt's start or end token."""
        if ends is None:
            return x[:, 0]
        if self.text_router_token == "end":
            return x[:, -1] if block.read is not None else x[torch.arange(len(x), device=x.device), ends]
        # The start token attends to itself only. Without noise and dropout it is the same for all prompts: (1, D)
        return x[:, 0] if self.training else x[:1, 0]
