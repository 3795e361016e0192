"""What every method of the comparison is: begin a task, a loss, end a task, predict; and its state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.clip.backbone import Backbone, Encode, zero_shot_classifier
from lib.clip.compute import single_precision
from lib.data.frozen import Features
from lib.data.reference import ReferenceSet
from lib.data.tasks import Task
from lib.selector.ddas import CLIP, SelectorSettings
from lib.settings import Count, ParamsError, Positive, PositiveShare, Share, build


@dataclass(frozen=True)
class TrainSettings:
    """Training on one task, the same for every method (params `train`).

    steps: of one task; epochs: passes over the task's pictures instead of steps, where it is not 0. warmup: steps of
    linear warm-up. smoothing: of the labels. crop: the smallest share of the area that a random crop keeps.
    """

    steps: Count
    batch: Positive
    warmup: Count
    smoothing: Share
    crop: PositiveShare
    epochs: Count = 0


@dataclass(frozen=True)
class Context:
    """What every method is given beside its own settings.

    reference, reference_features: load the reference set, and its selector features (N, S), when they are called.
    """

    backbone: Backbone
    train: TrainSettings
    selector: SelectorSettings
    reference: Callable[[], ReferenceSet]
    reference_features: Callable[[], Tensor]


class Predictions(NamedTuple):
    """Answers on one task's test pictures under each way of deciding: predicted classes (N,), and routes (N,).

    The ways are `sample` (each picture for itself), and for methods with a selector `batch` (one decision for many
    pictures) and `oracle` (the true task given). A route is a learned task's number or selector.CLIP.
    """

    classes: dict[str, Tensor]
    routes: dict[str, Tensor]


@dataclass(frozen=True)
class Lesson:
    """What a method is given to learn: a task, its number, what the frozen CLIP says of its pictures, a seed.

    parts: how many tasks' worth of training steps it takes (more than 1 where several are learned together).
    """

    task: Task
    number: int
    features: Features
    seed: list[int]
    parts: int = 1


@dataclass(frozen=True)
class Settings:
    """A method without knobs of its own."""


class Method:
    """A way to learn a sequence of tasks with a frozen or trainable CLIP.

    Tasks are numbered 0, 1, 2, ... in the order of learning; the method never knows how many are to come.
    """

    Settings: ClassVar[Any] = Settings
    needs_reference: ClassVar[bool] = False  # whether it learns from the reference set
    decisions: tuple[str, ...] = ("sample",)
    asked: int = 0  # how many pictures an image tower has run to predict, so far

    def __init__(self, context: Context, settings: dict[str, Any]) -> None:
        self.context, self.backbone = context, context.backbone
        self.settings = build(self.Settings, settings, f"settings of {type(self).__name__}")

    def learning_rate(self, task: Task) -> float:
        """The peak learning rate: one number for all tasks, or one for each by name."""
        rate = getattr(self.settings, "lr", 0.0)
        if isinstance(rate, dict) and task.name not in rate:
            raise ParamsError(f"lr has no entry for task {task.name}; it has: {', '.join(rate)}")
        return rate[task.name] if isinstance(rate, dict) else rate

    def lesson(self, sequence: list[Lesson], number: int) -> Lesson | None:
        """What is learned when task `number` has its turn; None = nothing."""
        return sequence[number]

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Prepares for a lesson and returns the parameters to train; none = nothing to train."""
        return []

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The training loss (a scalar) of normalised images (B, 3, H, W) with labels (B,) of the current task."""
        raise NotImplementedError

    def before_step(self) -> None:
        """Called between backward and the optimiser's step."""

    def after_step(self) -> None:
        """Called after the optimiser's step."""

    def end_task(self, lesson: Lesson) -> None:
        """Called after the last step of a lesson."""

    def settled(self, task: int, learned: int) -> bool:
        """True if the answers on task number `task` surely did not change by learning task number `learned`."""
        return False

    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """Answers on the task's test pictures; `features` are the frozen CLIP's of the same pictures."""
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """All that a checkpoint must keep beyond the frozen CLIP."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes up what `state` gave."""

    def size(self) -> dict[str, int]:
        """Parameters trained over all tasks so far, and bytes a checkpoint stores."""
        return {"trainable_parameters": 0, "stored_bytes": stored_bytes(self.state())}

    def report(self) -> dict[str, Any]:
        """Further facts for the result file, such as which experts each task used."""
        return {}


def stored_bytes(state: dict[str, Tensor]) -> int:
    """The bytes of a state's tensors."""
    return sum(v.numel() * v.element_size() for v in state.values())


def classify(encode_image: Encode, encode_text: Encode, backbone: Backbone, images: Tensor, task: Task) -> Tensor:
    """Predicted classes (N,) of uint8 images (N, 3, H, W): the nearest of the class names over all templates."""
    names = zero_shot_classifier(encode_text, backbone.tokenizer, task.classes, task.templates)
    return nearest(encode_image, names, backbone, images)


def nearest(encode_image: Encode, names: Tensor, backbone: Backbone, images: Tensor, batch: int = 128) -> Tensor:
    """The nearest of unit class features (C, F), as classes (N,), to uint8 images (N, 3, H, W)."""
    parts = [encode_image(backbone.pixels(part)) for part in images.split(batch)]
    return (F.normalize(torch.cat(parts), dim=-1) @ names.T).argmax(dim=1).cpu()


def answers_by_route(zero_shot: Tensor, routes: Sequence[Tensor], ask: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
    """Classes (N,) for each of several routes (N,): the zero-shot ones (N,) where a route says CLIP.

    ask: a route's number and the places (n,) of pictures to their classes (n,). A picture is asked about once for
    each number that any of the routes has for it.
    """
    wanted = torch.stack(list(routes))  # (W, N)
    answers = zero_shot.repeat(len(wanted), 1)
    for number in set(wanted.unique().tolist()) - {CLIP}:
        places = (wanted == number).any(dim=0).nonzero().flatten()
        found = torch.full_like(zero_shot, -1)
        found[places] = ask(number, places)
        answers = torch.where(wanted == number, found, answers)
    return list(answers)


def logits(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """exp(scale) * cosine (B, C) of image features (B, F) and text features (C, F), both normalised here."""
    with single_precision(image.device):
        return scale.exp() * F.normalize(image.float(), dim=-1) @ F.normalize(text.float(), dim=-1).T


def cross_entropy(image: Tensor, text: Tensor, labels: Tensor, scale: Tensor, smoothing: float) -> Tensor:
    """Smoothed cross entropy of image features (B, F) against class features (C, F), both normalised here."""
    return F.cross_entropy(logits(image, text, scale), labels, label_smoothing=smoothing)


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean over rows of T^2 * KL(softmax(teacher / T) || softmax(student / T)) of logits (N, C); 0 where they agree.

    Hinton et al. 2015, Sec. 2; LwF's modified cross entropy (Li and Hoiem 2016, Eq. 2) but for a constant.
    """
    found, wanted = (F.log_softmax(scores / temperature, dim=-1) for scores in (student, teacher))
    return temperature**2 * F.kl_div(found, wanted, reduction="batchmean", log_target=True)
