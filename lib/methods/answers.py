"""Answers of a mixture that can no longer change, so that no image is encoded again for them.

A router stays as it is after its task. So the features of an image or a prompt under this router are final as soon as
every expert on its way is frozen, and an answer is final if the features of the image and of all class names are.
"""

import torch
from torch import Tensor

from lib.data.tasks import Task
from lib.methods.base import joined, under
from lib.moe import MoECLIP

ANSWERED = "answered."  # the prefix of the answers in the state dict


class RoutedTower:
    """The "image" or "text" tower of a mixture under one router, as a function of pixels or of tokens."""

    def __init__(self, model: MoECLIP, tower: str, router: int) -> None:
        self.model, self.tower, self.router = model, tower, router
        self.final: list[Tensor] = []  # of each call: for each sample (B,) whether its features are final

    def __call__(self, x: Tensor) -> Tensor:
        """Features (B, F) of pixels (B, 3, H, W) or tokens (B, L)."""
        if self.tower == "image":
            encoded = self.model.encode_image(x, self.router, whole=False)
        else:
            encoded = self.model.encode_text(self.model.prepare(x), self.router)
        self.final.append(self.model.settled(encoded, self.tower).cpu())
        return encoded.features


class AnswerMemory:
    """Final answers, and final class features, by task, number of candidate classes, and router.

    answers: classes (N,) of a task's test images, int16, with -1 where the answer is not final. class_features: of the
    class names (C, F); they are not part of the state.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Tensor] = {}
        self.class_features: dict[str, Tensor] = {}

    def of(self, task: Task, router: int) -> Tensor:
        """The answers (N,) of a router on a task, to be read and to be filled."""
        return self.answers.setdefault(key(task, router), torch.full((len(task.test),), -1, dtype=torch.int16))

    def state(self) -> dict[str, Tensor]:
        """The answers, as entries of a state dict."""
        return joined(ANSWERED, self.answers)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads the answers; class features are computed again when they are needed."""
        self.answers, self.class_features = under(ANSWERED, state), {}


def key(task: Task, router: int) -> str:
    """The name of a router's answers on a task. The number of classes tells label spaces apart."""
    return f"{task.name}.{len(task.classes)}.{router}"
