"""Fine-tuning of the whole CLIP: continually (the lower bound), one task at a time from CLIP, or all tasks together.

Methods that change the model itself (LwF, iCaRL, WiSE-FT, ZSCL, MAS) build on FineTune.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.clip.towers import image_tower, text_tower
from lib.data.frozen import Features
from lib.data.tasks import Pictures, Task
from lib.methods.base import Context, Lesson, Method, Predictions, classify, cross_entropy, stored_bytes
from lib.settings import Rate


@dataclass(frozen=True)
class FineTuneSettings:
    """lr: peak learning rate, for all tasks or by task."""

    lr: Rate | dict[str, Rate]


class FineTune(Method):
    """Both towers go on learning from task to task. The temperature and the token table stay as they are."""

    Settings = FineTuneSettings

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.model = copy.deepcopy(context.backbone.model)

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Everything but the temperature and the token table."""
        self.prompts = self.tokens(lesson.task)
        self.model.requires_grad_(False)
        for parameter in self.trained().values():
            parameter.requires_grad_(True)
        return list(self.trained().values())

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""
        kept = ("logit_scale", "token_embedding")
        return {name: p for name, p in self.model.named_parameters() if not name.startswith(kept)}

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Smoothed cross entropy over the task's classes, first template."""
        image, text = image_tower(self.model, images), text_tower(self.model, self.prompts)
        return self.cross_entropy(image, text, labels)

    def cross_entropy(self, image: Tensor, text: Tensor, labels: Tensor) -> Tensor:
        """Of image features (B, F) against class features (C, F), at CLIP's temperature and the study's smoothing."""
        return cross_entropy(image, text, labels, self.model.logit_scale, self.context.train.smoothing)

    def tokens(self, task: Task) -> Tensor:
        """The training prompts (C, L) of a task."""
        return self.backbone.tokenizer(task.prompts(task.templates[0]))

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """The answers of the model as it is now."""
        return Predictions({"sample": self.ask(task, task.test.images)}, {})

    def ask(self, task: Task, images: Tensor) -> Tensor:
        """The model's answers (N,) on uint8 images (N, 3, H, W) of a task."""
        self.asked += len(images)
        towers = (lambda x: image_tower(self.model, x), lambda t: text_tower(self.model, t))
        return classify(*towers, self.backbone, images, task)

    def state(self) -> dict[str, Tensor]:
        """The trained tensors."""
        return {k: v for k, v in self.model.state_dict().items() if not k.startswith("token_embedding")}

    def size(self) -> dict[str, int]:
        """One model, whatever the number of tasks."""
        trained = sum(p.numel() for p in self.trained().values())
        return {"trainable_parameters": trained, "stored_bytes": stored_bytes(self.state())}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads them."""
        self.model.load_state_dict(self.model.state_dict() | state)


class FineTuneSingle(FineTune):
    """A model of its own for every task, each started from CLIP and asked only about its task; unseen tasks get CLIP.

    With the true task given this is what adaptation can reach: the upper bound of the comparison.
    """

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.models = 0

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Starts from CLIP again."""
        self.models = lesson.number + 1
        self.model = copy.deepcopy(self.backbone.model)
        return super().begin_task(lesson)

    def size(self) -> dict[str, int]:
        """As many models as tasks."""
        trained = sum(p.numel() for p in self.trained().values())
        stored = self.models * stored_bytes(super().state())
        return {"trainable_parameters": self.models * trained, "stored_bytes": stored}

    def state(self) -> dict[str, Tensor]:
        """The last model, and how many there were."""
        return super().state() | {"models": torch.tensor(self.models)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads both."""
        self.models = int(state["models"])
        super().restore({k: v for k, v in state.items() if k != "models"})

    def settled(self, task: int, learned: int) -> bool:
        """Each task keeps the answers of its own model."""
        return task != learned


class Joint(FineTune):
    """All tasks learned together, at the first task's turn, in as many steps as the others take for all of them.

    A batch mixes pictures of all tasks; each picture's cross entropy is over the classes of its own task, as in the
    other methods. Every row of its accuracy matrix is the same: there is no sequence, so it is a bound, not a rival.
    """

    def lesson(self, sequence: list[Lesson], number: int) -> Lesson | None:
        """All tasks' pictures as one lesson, then none."""
        if number:
            return None
        self.sequence = sequence
        counts = [len(lesson.task.classes) for lesson in sequence]
        self.offsets = torch.tensor([0, *counts]).cumsum(0)  # (T+1,) first class of each task in the union
        images = torch.cat([lesson.task.train.images for lesson in sequence])
        labels = [lesson.task.train.labels + first for lesson, first in zip(sequence, self.offsets, strict=False)]
        classes = [name for lesson in sequence for name in lesson.task.classes]
        together = replace(sequence[0].task, name="all", classes=classes, train=Pictures(images, torch.cat(labels)))
        return replace(sequence[0], task=together, parts=len(sequence))

    def tokens(self, task: Task) -> Tensor:
        """The training prompts (C, L) of all tasks, in the order of the union."""
        return torch.cat([super(Joint, self).tokens(lesson.task) for lesson in self.sequence])

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The mean over the batch of each picture's smoothed cross entropy over its own task's classes."""
        image, text = image_tower(self.model, images), text_tower(self.model, self.prompts)
        owner = torch.bucketize(labels, self.offsets.to(labels.device), right=True) - 1
        total = image.new_zeros(())
        for task in owner.unique().tolist():
            first, end = self.offsets[task : task + 2].tolist()
            mine = owner == task
            loss = self.cross_entropy(image[mine], text[first:end], labels[mine] - first)
            total = total + loss * mine.sum()
        return total / len(labels)

    def settled(self, task: int, learned: int) -> bool:
        """Everything was learned at once."""
        return learned > 0
