"""Fine-tuning whose change of the weights is held small: averaged (WiSE-FT), penalised (MAS), of low rank (LoRA)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lib.clip.towers import image_tower, text_tower
from lib.data.tasks import Task
from lib.methods.base import Context, Lesson
from lib.methods.finetune import FineTune
from lib.settings import Positive, Rate, Share, Weight


class WiSEFT(FineTune):
    """WiSE-FT (Wortsman et al. 2022, Sec. 3, Eq. 1): theta = (1 - alpha) * theta_before + alpha * theta_after.

    The paper has one task and theta_before is the zero-shot CLIP. The same holds here for the first task; for later
    tasks theta_before is the model before the task.
    """

    @dataclass(frozen=True)
    class Settings(FineTune.Settings):
        """alpha: 0 = the model before the task, 1 = the fine-tuned model."""

        alpha: Share

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Copies the parameters that will be trained."""
        parameters = super().begin_task(lesson)
        self.before = [parameter.detach().clone() for parameter in parameters]
        return parameters

    @torch.no_grad()
    def end_task(self, lesson: Lesson) -> None:
        """Averages; at alpha 0 and 1 the weights are copied, so that no rounding changes them."""
        alpha = self.settings.alpha
        for after, before in zip(self.trained().values(), self.before, strict=True):
            if alpha < 1:
                after.copy_(before.lerp(after, alpha) if alpha else before)


class MAS(FineTune):
    """Memory aware synapses: parameters to which the output is sensitive must not move (Aljundi et al. 2018).

        loss    = CE + weight * sum over parameters of omega * (theta - theta_before)^2          (Sec. 4.2)
        omega  += mean over samples x of |d ||f(x)||^2 / d theta|, after each task                (Sec. 4.1)

    theta_before is the model before the task. The importances omega of all tasks are added up, as in the paper. The
    paper's f is the output of one network; CLIP has two. For the image tower f is the image features of training images
    (without crops), for the text tower the text features of the class prompts. Neither is normalised: the squared
    length of a normalised feature is constant and has no gradient.
    """

    @dataclass(frozen=True)
    class Settings(FineTune.Settings):
        """weight of the penalty; pictures: at most so many training images give a task's importances."""

        weight: Weight
        pictures: Positive

    saved = ("omega",)

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.omega: dict[str, Tensor] = {}  # empty before the first task is learned

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Copies the parameters; the importances may come from a checkpoint, which is on the CPU."""
        parameters = super().begin_task(lesson)
        self.before = {name: p.detach().clone() for name, p in self.trained().items()}
        self.omega = {name: omega.to(self.backbone.device) for name, omega in self.omega.items()}
        return parameters

    def extra_loss(self, images: Tensor, features: Tensor) -> Tensor | float:
        """From the second task on the weighted penalty."""
        now = self.trained()
        terms = [(omega * (now[name] - self.before[name]).square()).sum() for name, omega in self.omega.items()]
        return self.settings.weight * torch.stack(terms).sum() if terms else 0.0

    def end_task(self, lesson: Lesson) -> None:
        """Adds the importances of the task to those of the earlier tasks."""
        for name, new in self.importances(lesson).items():
            self.omega[name] = self.omega[name] + new if name in self.omega else new

    def importances(self, lesson: Lesson) -> dict[str, Tensor]:
        """Of all trained parameters for a task: the image tower's from images, the text tower's from class prompts."""
        images = lesson.task.train.images
        pixels = self.backbone.pixels(images[lesson.rng(4).permutation(len(images))[: self.settings.pictures]])
        visual = {name: p for name, p in self.trained().items() if name.startswith("visual.")}
        text = {name: p for name, p in self.trained().items() if name not in visual}
        of_images = importance(lambda sample: image_tower(self.model, sample), pixels, visual)
        return of_images | importance(lambda sample: text_tower(self.model, sample), self.prompts, text)


def importance(
    output: Callable[[Tensor], Tensor], samples: Tensor, parameters: dict[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Mean over samples (N, ...) of |d ||output(sample)||^2 / d parameter|, by name, in the shapes of the parameters.

    output: from a batch of one sample to its features (1, F). The gradient of each sample is taken by itself: the mean
    of absolute values is not the absolute value of the mean.
    """
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for sample in samples.split(1):
        gradients = torch.autograd.grad(output(sample).square().sum(), list(parameters.values()))
        for omega, gradient in zip(total.values(), gradients, strict=True):
            omega += gradient.abs() / len(samples)
    return total


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
    """One low-rank update of a copy of CLIP; only the update is trained and stored (Hu et al. 2021, Sec. 4.1).

        W = W_0 + alpha / rank * B A        for the projections of queries and values in every block of both towers

    A (rank, D) starts at random and B (D, rank) at zero, so the weights of a new model equal CLIP's bit for bit. (The
    text features differ in the last bits, as torch multiplies by a parameter and by a computed weight in different
    ways.) A is drawn Kaiming-uniform as in the authors' code; the paper says Gaussian. As in the paper (Sec. 7.1) only
    queries and values are adapted. The paper has an update for each task; here one is trained on task after task.
    """

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

    def classes(self, task: Task, places: Tensor, key: int = 0) -> Tensor:
        with parametrize.cached():
            return super().classes(task, places, key)

    def state(self) -> dict[str, Tensor]:
        return self.updates.state_dict()

    def restore(self, state: dict[str, Tensor]) -> None:
        self.updates.load_state_dict(state)
