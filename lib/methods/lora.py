"""LoRA: one low-rank update of the attention, trained on task after task (Hu et al. 2021, "LoRA", Sec. 4.1).

    W = W_0 + alpha / rank * B A        for the projections of queries and values in every block of both towers

A (rank, D) starts at random and B (D, rank) at zero, so the weights of a new model equal CLIP's bit for bit. (The text
features differ in the last bits, as torch multiplies by a parameter and by a computed weight in different ways.) A is
drawn Kaiming-uniform as in the authors' code; the paper says Gaussian. As in the paper (Sec. 7.1) only queries and
values are adapted. The paper has an update for each task; here one update is trained on all tasks.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.base import Context, Predictions
from lib.methods.finetune import FineTune
from lib.settings import Positive, Rate


class LowRank(nn.Module):
    """The update of one block: A (2, rank, D) and B (2, D, rank), of queries and of values."""

    def __init__(self, width: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(2, rank, width))
        self.b = nn.Parameter(torch.zeros(2, width, rank))
        for matrix in self.a:
            nn.init.kaiming_uniform_(matrix, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight (3D, D) of queries, keys and values."""
        query, key, value = weight.chunk(3)
        update = self.scale * self.b @ self.a  # (2, D, D)
        return torch.cat([query + update[0], key, value + update[1]])


class LoRA(FineTune):
    """A copy of CLIP with updates of its attention weights; only the updates are trained and stored."""

    @dataclass(frozen=True)
    class Settings(FineTune.Settings):
        """rank of an update, which is scaled by alpha / rank."""

        rank: Positive
        alpha: Rate

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        model: Any = self.model.requires_grad_(False)
        self.updates = nn.ModuleDict()
        for tower, transformer in (("image", model.visual.transformer), ("text", model.transformer)):
            for index, block in enumerate(transformer.resblocks):
                update = LowRank(transformer.width, self.settings.rank, self.settings.alpha)
                update.to(context.backbone.device)
                parametrize.register_parametrization(block.attn, "in_proj_weight", update)
                self.updates[f"{tower}_{index}"] = update

    def trained(self) -> dict[str, nn.Parameter]:
        return dict(self.updates.named_parameters())

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Fine-tuning's loss; every updated weight is computed once for the step."""
        with parametrize.cached():
            return super().loss(images, labels)

    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        with parametrize.cached():
            return super().predict(task, features, number)

    def state(self) -> dict[str, Tensor]:
        return self.updates.state_dict()

    def restore(self, state: dict[str, Tensor]) -> None:
        self.updates.load_state_dict(state)
