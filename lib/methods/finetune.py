"""Fine-tuning of the whole CLIP: task after task (the lower bound), each task from CLIP, or all tasks together.

The other methods that change CLIP's own weights build on FineTune: constrained.py, distillation.py, icarl.py and
expert_gate.py.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.clip.towers import image_tower, text_tower
from lib.data.frozen import Features
from lib.data.tasks import Pictures, Task
from lib.methods.base import Context, Lesson, Method, Predictions
from lib.methods.scoring import classify, cross_entropy, encode_images
from lib.settings import Rate

FIXED = ("logit_scale", "token_embedding")  # of CLIP's parameters: these are not trained


class FineTune(Method):
    """Both towers are trained on task after task. The temperature and the token table stay as they are."""

    @dataclass(frozen=True)
    class Settings(Method.Settings):
        """lr: peak learning rate, for all tasks or by task."""

        lr: Rate | dict[str, Rate]

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.model = copy.deepcopy(context.backbone.model)

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Tokenizes the class prompts; trains all but the temperature and the token table."""
        self.prompts = self.tokens(lesson.task)
        self.model.requires_grad_(False)
        parameters = list(self.trained().values())
        for parameter in parameters:
            parameter.requires_grad_(True)
        return parameters

    def trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if not name.startswith(FIXED)}

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Smoothed cross entropy over the task's classes, with the first template, plus the `extra_loss`."""
        image, text = image_tower(self.model, images), text_tower(self.model, self.prompts)
        return self.cross_entropy(image, text, labels) + self.extra_loss(images, image)

    def cross_entropy(self, image: Tensor, text: Tensor, labels: Tensor) -> Tensor:
        """Of image features (B, F) against class features (C, F), at CLIP's temperature and the study's smoothing."""
        return cross_entropy(image, text, labels, self.model.logit_scale, self.context.train.smoothing)

    def extra_loss(self, images: Tensor, features: Tensor) -> Tensor | float:
        """What a method adds to the cross entropy of images (B, 3, H, W), of which the model has features (B, F)."""
        return 0.0

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        return Predictions({"sample": self.classes(task, torch.arange(len(task.test)))}, {})

    def classes(self, task: Task, places: Tensor, key: int = 0) -> Tensor:
        """Answers (n,) on a task's test images at places (n,). key: the number of the model, if there are several."""
        image = self.encode_once(key, task, places, self.encode)
        return classify(self, key, image, lambda tokens: text_tower(self.model, tokens), task)

    def encode(self, images: Tensor) -> Tensor:
        """Image features (N, F) of uint8 images (N, 3, H, W) by the model as it is now."""
        return encode_images(lambda x: image_tower(self.model, x), self.backbone, images)

    def state(self) -> dict[str, Tensor]:
        """The model without its token table, and what the subclass saves."""
        model = self.model.state_dict()
        return super().state() | {k: v for k, v in model.items() if not k.startswith("token_embedding")}

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self.model.load_state_dict({k: state.get(k, v) for k, v in self.model.state_dict().items()})


class FineTuneSingle(FineTune):
    """A model of its own for every task, each started from CLIP and asked only about its task; unseen tasks get CLIP.

    It is given the true task at test time, so it is a bound for the others and not a rival.
    """

    saved = ("models",)
    models = torch.tensor(0)  # how many there were; only the last one is kept

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        self.models = torch.tensor(lesson.number + 1)
        self.model = copy.deepcopy(self.backbone.model)
        return super().begin_task(lesson)

    def settled(self, task: int, learned: int) -> bool:
        """Each task keeps the answers of its own model."""
        return task != learned

    def size(self) -> dict[str, int]:
        """As many models as tasks."""
        size = super().size()
        size["stored_bytes"] -= self.models.nbytes
        return {name: int(self.models) * value for name, value in size.items()}


class Joint(FineTune):
    """All tasks are learned together at the first task's turn, in as many steps as the other methods take for all.

    A batch mixes images of all tasks; the cross entropy of an image is over the classes of its own task, as in the
    other methods. There is no sequence, so all rows of the accuracy matrix are the same: it is a bound, not a rival.
    """

    def lesson(self, sequence: list[Lesson], number: int) -> Lesson | None:
        """At the first turn one lesson with the images of all tasks, then nothing."""
        if number:
            return None
        self.sequence = sequence
        counts = [len(lesson.task.classes) for lesson in sequence]
        self.offsets = torch.tensor([0, *counts]).cumsum(0)  # (T+1,) first class of each task in the union
        images = torch.cat([lesson.task.train.images for lesson in sequence])
        labels = [lesson.task.train.labels + first for lesson, first in zip(sequence, self.offsets, strict=False)]
        classes = [name for lesson in sequence for name in lesson.task.classes]
        union = replace(sequence[0].task, name="all", classes=classes, train=Pictures(images, torch.cat(labels)))
        return replace(sequence[0], task=union, parts=len(sequence))

    def tokens(self, task: Task) -> Tensor:
        """The training prompts (C, L) of all tasks, in the order of the union."""
        return torch.cat([super(Joint, self).tokens(lesson.task) for lesson in self.sequence])

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The mean over the batch of each image's smoothed cross entropy over the classes of its own task."""
        image, text = image_tower(self.model, images), text_tower(self.model, self.prompts)
        owner = torch.bucketize(labels, self.offsets.to(labels.device), right=True) - 1  # (B,) the task of each image
        total = image.new_zeros(())
        for task in owner.unique().tolist():
            first, end = self.offsets[task : task + 2].tolist()
            own = owner == task
            total = total + self.cross_entropy(image[own], text[first:end], labels[own] - first) * own.sum()
        return total / len(labels)

    def settled(self, task: int, learned: int) -> bool:
        """Everything was learned at once."""
        return learned > 0
