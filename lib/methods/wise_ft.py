"""WiSE-FT: fine-tune, then go only a part of the way (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").

    theta = (1 - alpha) * theta_before + alpha * theta_after        (Sec. 3, Eq. 1)

The paper has one task, and theta_before is the zero-shot CLIP. So it is here in the first task; later the model of
before the task stands for it. Interpolated are the trained tensors; all others (temperature, token table, statistics of
a batch norm) stay as they are in training, so both ends have the same.
"""

from dataclasses import dataclass

import torch
from torch import nn

from lib.methods.base import Lesson
from lib.methods.finetune import FineTune, FineTuneSettings


@dataclass(frozen=True)
class WiSEFTSettings(FineTuneSettings):
    """alpha: how far to go, from 0 (as before the task) to 1 (fine-tuned)."""

    alpha: float

    def __post_init__(self) -> None:
        """Raises ValueError for an alpha outside 0 to 1."""
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; choose 0 to 1")


class WiSEFT(FineTune):
    """Fine-tuning whose weights are averaged, after each task, with those of before it."""

    Settings = WiSEFTSettings

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Keeps a copy of what will be trained."""
        parameters = super().begin_task(lesson)
        self.before = [parameter.detach().clone() for parameter in parameters]
        return parameters

    @torch.no_grad()
    def end_task(self, lesson: Lesson) -> None:
        """Interpolates; the ends are copies, which no rounding touches."""
        alpha = self.settings.alpha
        for after, before in zip(self.trained().values(), self.before, strict=True):
            if alpha < 1:
                after.copy_(before.lerp(after, alpha) if alpha else before)
