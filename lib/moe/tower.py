"""One tower with mixtures beside the MLPs of its blocks (paper, Sec. 3.2 and 3.3).

    x = x + MHA(LN1(x))
    x = x + MLP(LN2(x)) + sum over the K chosen experts of gate * expert(x)

Router and experts read x after attention, not normalised. All that comes before the first mixture is the same for all
tasks, so a pass has two parts: `start`, whose result may be kept, and `finish`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lib.clip.towers import Block, Pass
from lib.moe.config import MoEConfig
from lib.moe.mixture import Mixture
from lib.moe.router import Routing

Noise = Mapping[int, Tensor] | None  # the routers' standard normal draws (B, E), by block


class Encoded(NamedTuple):
    """Features (B, F), not normalised, and the routing in each block that has a mixture."""

    features: Tensor
    routings: dict[int, Routing]


class Start(NamedTuple):
    """A pass up to the first mixture.

    block: the number of its block. x: (B, L, D) after that block's attention. mlp: what that block's MLP adds to x. If
    the tower has no mixture, x is the output of the last block.
    """

    tower: Pass
    block: int
    x: Tensor
    mlp: Tensor


class TowerMixtures(nn.ModuleDict):
    """The mixtures of the "image" or "text" tower, by block number."""

    def __init__(self, tower: str, transformer: Any, config: MoEConfig) -> None:
        blocks = config.blocks(tower, len(transformer.resblocks))
        super().__init__({str(block): Mixture(transformer.width, config) for block in blocks})
        self.text_router_token = config.text_router_token

    def mixture(self, block: int) -> Mixture:
        """The mixture in a block."""
        mixture: Any = self[str(block)]
        return mixture

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

    def finish(self, start: Start, task: int, noise: Noise = None) -> Encoded:
        """Computes the rest of the tower with a task's routers."""
        x, routings = start.x, {}
        for number, block in enumerate(start.tower.blocks[start.block :], start.block):
            if number > start.block:
                x = block.attend(x)  # (B, L, D), or only the tokens that are read
            if str(number) not in self:
                x = x + block.mlp(x)
                continue
            x0 = self._router_token(x, start.tower.ends, block)
            added, routings[number] = self.mixture(number)(x, x0, task, (noise or {}).get(number))
            x = x + (block.mlp(x) if number > start.block else start.mlp) + added
        return Encoded(start.tower.pool(x), routings)

    def _router_token(self, x: Tensor, ends: Tensor | None, block: Block) -> Tensor:
        """The token by which each sample is routed (B, D): an image's class token, a prompt's start or end token."""
        if ends is None:
            return x[:, 0]
        if self.text_router_token == "end":
            return x[:, -1] if block.read is not None else x[torch.arange(len(x), device=x.device), ends]
        # The start token attends to itself only. Without noise and dropout it is the same for all prompts: (1, D)
        return x[:, 0] if self.training else x[:1, 0]

    def add_counts(self, task: int, routings: Mapping[int, Routing]) -> None:
        """Adds the routings of a training forward to a task's counts."""
        for block, routing in routings.items():
            self.mixture(block).add_counts(task, routing)

    def settled(self, encoded: Encoded) -> Tensor:
        """Whether all experts that a sample went to are frozen (B,)."""
        settled = torch.ones(len(encoded.features), dtype=torch.bool, device=encoded.features.device)
        for block, routing in encoded.routings.items():
            settled &= self.mixture(block).frozen[routing.experts].all(dim=1)
        return settled
