"""What a method is: it begins a task, gives a loss, ends the task, predicts, and has a state for the checkpoint.

A new method overrides `begin_task`, `loss` and `predict`, or builds on one that has them: on `FineTune` or
`SingleAdapter`, which have `extra_loss`, and with `Selecting` (scoring.py) on any method that keeps its tasks apart.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lib.clip import Backbone
from lib.data.frozen import Features
from lib.data.tasks import ReferenceSet, Task
from lib.selector import SelectorSettings
from lib.settings import Count, ParamsError, Positive, PositiveShare, Share, build

Made = TypeVar("Made")


@dataclass(frozen=True)
class TrainSettings:
    """How every method is trained on a task (params `train`).

    steps: of one task. epochs: passes over the task's images; if it is not 0 it replaces `steps`. warmup: steps of
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
    """What every method is given besides its own settings.

    reference, reference_features: functions that load the reference set, and its selector features (N, S).
    """

    backbone: Backbone
    train: TrainSettings
    selector: SelectorSettings
    reference: Callable[[], ReferenceSet]
    reference_features: Callable[[], Tensor]


class Predictions(NamedTuple):
    """Answers on the test images of one task: for each decision the predicted classes (N,) and the routes (N,).

    The decisions: `sample`, for each image by itself, is told nothing. Methods that have to decide who answers also
    have `oracle`, which is told the image's task if that was learned. Those with a selector also have `batch`, one
    decision for many images of one task, and `lookup`, which finds the learned task with exactly the candidate classes.
    A route is the number of a learned task, or CLIP (lib.selector).
    """

    classes: dict[str, Tensor]
    routes: dict[str, Tensor]


@dataclass(frozen=True)
class Lesson:
    """What a method learns next: a task, its number, the frozen CLIP's features of its images, and a seed.

    parts: how many times the training steps of one task it takes; more than 1 if several tasks are learned together.
    """

    task: Task
    number: int
    features: Features
    seed: list[int]
    parts: int = 1

    def rng(self, stream: int) -> np.random.Generator:
        """One of the lesson's random streams. A method has its own, which leaves the order of the batches alone."""
        return np.random.default_rng([*self.seed, stream])


class Saved:
    """Something whose attributes in `saved` are its state: each a tensor, or a list or dict of tensors."""

    saved: ClassVar[tuple[str, ...]] = ()

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint must keep besides the frozen CLIP, as a flat state dict."""
        state = {}
        for name in self.saved:
            held = getattr(self, name)
            parts = dict(enumerate(held)) if isinstance(held, list) else held
            state |= {name: held} if isinstance(held, Tensor) else joined(f"{name}.", parts)
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads what `state` returned; ignores entries that a subclass added."""
        for name in self.saved:
            held, parts = getattr(self, name), under(f"{name}.", state)
            if isinstance(held, Tensor):
                setattr(self, name, state[name])
            else:
                setattr(self, name, parts if isinstance(held, dict) else [parts[str(i)] for i in range(len(parts))])


class Method(Saved):
    """A way to learn a sequence of tasks with CLIP.

    Tasks are numbered 0, 1, 2, ... in the order in which they are learned. A method never knows how many will come.
    At test time it is given the class names among which to answer, and the number of the task; only the decision
    `oracle` and single fine-tuning, a bound, use the number.
    """

    @dataclass(frozen=True)
    class Settings:
        """The settings of the method, as params.yaml names them; here none."""

    needs_reference: ClassVar[bool] = False  # True if it learns from the reference set
    decisions: tuple[str, ...] = ("sample",)
    asked: int = 0  # images that an image tower has encoded for predictions, so far
    batch: np.ndarray  # the places (B,) of the images of `loss` among the training images
    routes_by_names: ClassVar[bool] = False  # True if the candidates' names have a say in routes

    def __init__(self, context: Context, settings: dict[str, Any]) -> None:
        self.context, self.backbone = context, context.backbone
        # in an evaluation: what `encode_once` has computed of the task that is tested, and what `once` has made
        self.encoded: dict[Hashable, tuple[Tensor, Tensor]] | None = None
        self.made: dict[Hashable, Any] | None = None
        self.settings: Any = build(self.Settings, settings, f"settings of {type(self).__name__}")

    def learning_rate(self, task: Task) -> float:
        """The peak learning rate: the same for all tasks, or one for each task's name. Raises ParamsError."""
        rate = getattr(self.settings, "lr", 0.0)
        if isinstance(rate, dict) and task.name not in rate:
            raise ParamsError(f"lr has no entry for task {task.name}; it has: {', '.join(rate)}")
        return rate[task.name] if isinstance(rate, dict) else rate

    def tokens(self, task: Task) -> Tensor:
        """The training prompts (C, L) of a task, by its first template."""
        return self.backbone.tokenizer(task.prompts(task.templates[0]))

    def lesson(self, sequence: list[Lesson], number: int) -> Lesson | None:
        """What is learned at the turn of task `number`; None = nothing."""
        return sequence[number]

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Prepares for a lesson and returns the parameters to train; an empty list means that nothing is trained."""
        return []

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The training loss () of preprocessed images (B, 3, H, W) with labels (B,) of the current task."""
        raise NotImplementedError

    def before_step(self) -> None:
        """Is called after the backward pass, before the optimizer's step."""

    def after_step(self) -> None:
        """Is called after the optimizer's step."""

    def end_task(self, lesson: Lesson) -> None:
        """Is called after the last step of a lesson."""

    def settled(self, task: int, learned: int) -> bool:
        """True if learning task number `learned` cannot have changed the answers on task number `task`."""
        return False

    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """Answers on the test images of a task; `features` are the frozen CLIP's features of the same images."""
        raise NotImplementedError

    def encode_once(self, key: Hashable, task: Task, places: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Rows (n, ...) of `encode` for a task's test images at places (n,); an evaluation computes each once.

        encode: from uint8 images (m, 3, H, W) to rows (m, ...). key: what the rows depend on besides the image.
        """
        held = {} if self.encoded is None else self.encoded
        rows, done = held.get(key, (torch.zeros(0), torch.zeros(len(task.test), dtype=torch.bool)))
        fresh = places[~done[places]]
        if len(fresh):
            self.asked += len(fresh)
            new = encode(task.test.images[fresh])
            rows = rows if len(rows) else new.new_zeros(len(done), *new.shape[1:])
            rows[fresh], done[fresh] = new, True
            held[key] = rows, done
        return rows[places]

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` returns; an evaluation makes it once for a key, for all tasks that are tested."""
        held = {} if self.made is None else self.made
        if key not in held:
            held[key] = make()
        return held[key]

    def trained(self) -> Mapping[str, Tensor]:
        """The parameters that are trained, over all tasks so far, by name."""
        return {}

    def size(self) -> dict[str, int]:
        """The number of parameters trained over all tasks so far, and the bytes that a checkpoint stores."""
        trained = sum(p.numel() for p in self.trained().values())
        return {"trainable_parameters": trained, "stored_bytes": sum(v.nbytes for v in self.state().values())}

    def report(self) -> dict[str, Any]:
        """Further entries of the result file, such as the experts that each task used."""
        return {}


class ZeroShot(Method):
    """The frozen CLIP answers and nothing is learned (Radford et al. 2021): all rows of the matrix are the same."""

    def settled(self, task: int, learned: int) -> bool:
        return True

    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        return Predictions({"sample": features.zero_shot}, {})


def joined(prefix: str, state: Mapping[Any, Tensor]) -> dict[str, Tensor]:
    """The entries of a state dict, with a prefix before their names."""
    return {f"{prefix}{name}": value for name, value in state.items()}


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a state dict whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
