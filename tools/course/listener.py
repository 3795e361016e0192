"""A small transformer that listens, and ways to teach it one task of sounds after another (notebook 11).

Its blocks are open_clip's, so that lib.clip.towers and lib.moe work on them as they are. The first token is a class
token, and each other token is a frame of the sound. There is no text tower: every task has a linear head, and the
first family of sounds, on which the transformer is pre-trained, has one too. It goes by the number CLIP, which is
what the selector calls the untouched model.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from open_clip.transformer import Transformer
from torch import Tensor, nn

from lib.clip.towers import Block, Pass
from lib.methods.constrained import importance
from lib.methods.expert_gate import relatedness
from lib.selector import CLIP, DDAS
from lib.study.train import batches, warmup_cosine
from tools.course.sounds import BINS, FRAMES, Place, draw, log_spectrogram

BATCH = 24  # sounds of a training step
SOUNDS = 30  # so many of a task give MAS its importances


class Heard(NamedTuple):
    """Sounds as a transformer gets them: frames (N, FRAMES, BINS) and the number of each one's class (N,)."""

    frames: Tensor
    labels: Tensor


def hear(place: Place, per_class: int, seed: list[int]) -> Heard:
    """So many sounds of each class of a place."""
    sounds = draw(place, per_class, seed)
    return Heard(torch.from_numpy(log_spectrogram(sounds.waves)), torch.from_numpy(sounds.labels))


class Listener(nn.Module):
    """A transformer of width D."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Linear(BINS, width)
        self.class_token = nn.Parameter(width**-0.5 * torch.randn(width))
        self.positions = nn.Parameter(width**-0.5 * torch.randn(FRAMES + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, layers, heads)

    def tower(self, frames: Tensor) -> Pass:
        """A pass of frames (B, FRAMES, BINS); its last block computes the class token only."""
        token = self.class_token.expand(len(frames), 1, -1)
        x = self.ln_pre(torch.cat([token, self.embed(frames)], dim=1) + self.positions)  # (B, L, D)
        class_token = torch.zeros(len(frames), 1, dtype=torch.long)  # (B, 1)
        resblocks: Any = self.transformer.resblocks
        *most, last = resblocks
        blocks = [*(Block(layers, None, None) for layers in most), Block(last, None, class_token)]
        return Pass(x, blocks, lambda end: self.ln_post(end[:, 0]))

    def forward(self, frames: Tensor) -> Tensor:
        """Features (B, D) of frames (B, FRAMES, BINS)."""
        return self.tower(frames).features()


def train(
    parameters: list[nn.Parameter],
    loss: Callable[[np.ndarray], Tensor],
    count: int,
    steps: int,
    lr: float,
    rng: Generator,
    before_step: Callable[[], None] = lambda: None,
) -> None:
    """AdamW on batches of `count` sounds. loss: of a batch, by the rows of its sounds (BATCH,)."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0, fused=True)
    for step, rows in enumerate(batches(count, BATCH, steps, rng)):
        optimizer.param_groups[0]["lr"] = lr * warmup_cosine(step, steps, steps // 10)
        optimizer.zero_grad()
        loss(rows).backward()
        before_step()
        optimizer.step()


def pretrained(heard: Heard, steps: int, lr: float, seed: int) -> tuple[Listener, nn.Linear]:
    """A transformer that has learned to name the sounds of the first family, frozen, and its head."""
    torch.manual_seed(seed)
    listener = Listener(width=48, layers=3, heads=4)
    head = nn.Linear(listener.width, int(heard.labels.max()) + 1)

    def loss(rows: np.ndarray) -> Tensor:
        return F.cross_entropy(head(listener(heard.frames[rows])), heard.labels[rows])

    both = [*listener.parameters(), *head.parameters()]
    train(both, loss, len(heard.labels), steps, lr, np.random.default_rng([seed, 10]))
    return listener.requires_grad_(False).eval(), head.requires_grad_(False)


class Learner:
    """The least that can be learned: a linear head for each task on the frozen features. Others override the hooks."""

    def __init__(self, listener: Listener, head: nn.Linear, steps: int, lr: float, seed: int) -> None:
        self.listener = deepcopy(listener)
        self.heads = {CLIP: head}
        self.steps, self.lr, self.seed = steps, lr, seed

    def begin(self, task: int, frames: Tensor) -> list[nn.Parameter]:
        """Before a task, by its number and its training frames; returns what is trained besides the head."""
        return []

    def features(self, frames: Tensor, task: int) -> Tensor:
        """Features (B, D) for the head of a task, or of the first family (CLIP)."""
        return self.listener(frames)

    def extra_loss(self) -> Tensor | float:
        """What is added to the cross entropy."""
        return 0.0

    def before_step(self) -> None:
        """Between backward and the optimiser's step."""

    def end(self, task: int, frames: Tensor) -> None:
        """After the last step of a task."""

    def learn(self, task: int, heard: Heard) -> None:
        """Learns a task from its training sounds. The same seed gives the same bytes."""
        frames, labels = heard
        torch.manual_seed(1000 * self.seed + task)
        parameters = self.begin(task, frames)
        head = self.heads[task] = nn.Linear(self.listener.width, int(labels.max()) + 1)
        known = None if parameters else self.features(frames, task)  # they will not change

        def loss(rows: np.ndarray) -> Tensor:
            features = self.features(frames[rows], task) if known is None else known[rows]
            return F.cross_entropy(head(features), labels[rows]) + self.extra_loss()

        rng = np.random.default_rng([self.seed, 11, task])
        train([*parameters, *head.parameters()], loss, len(labels), self.steps, self.lr, rng, self.before_step)
        self.end(task, frames)

    @torch.no_grad()
    def named(self, heard: Heard, task: int) -> Tensor:
        """Whether each sound (N,) is named rightly by the head of a task, or of the first family (CLIP)."""
        return self.heads[task](self.features(heard.frames, task)).argmax(dim=1) == heard.labels


class FineTuned(Learner):
    """Continual fine-tuning of all weights."""

    def begin(self, task: int, frames: Tensor) -> list[nn.Parameter]:
        """All weights of the transformer."""
        return list(self.listener.requires_grad_(True).parameters())


class Mas(FineTuned):
    """Fine-tuning that holds back the weights to which the features are sensitive (as lib.methods.constrained.MAS)."""

    def __init__(self, listener: Listener, head: nn.Linear, steps: int, lr: float, seed: int, weight: float) -> None:
        super().__init__(listener, head, steps, lr, seed)
        self.weight = weight
        self.omega: Tensor | None = None  # the importances of all weights in one row

    def weights(self) -> Tensor:
        """All weights of the transformer in one row."""
        return nn.utils.parameters_to_vector(self.listener.parameters())

    def begin(self, task: int, frames: Tensor) -> list[nn.Parameter]:
        """Remembers the weights."""
        self.before = self.weights().detach()
        return super().begin(task, frames)

    def extra_loss(self) -> Tensor | float:
        """From the second task on: weight * sum of omega * (theta - theta_before)^2."""
        if self.omega is None:
            return 0.0
        return self.weight * (self.omega * (self.weights() - self.before).square()).sum()

    def end(self, task: int, frames: Tensor) -> None:
        """Adds the importances of the weights for some sounds of the task."""
        some = frames[torch.randperm(len(frames))[:SOUNDS]]
        new = importance(self.listener, some, dict(self.listener.named_parameters()))
        row = torch.cat([omega.flatten() for omega in new.values()])
        self.omega = row if self.omega is None else self.omega + row


class ExpertGate(Learner):
    """A fine-tuned model for each task, which starts from the most related one (lib.methods.expert_gate)."""

    def __init__(self, listener: Listener, head: nn.Linear, steps: int, lr: float, seed: int, gates: DDAS) -> None:
        super().__init__(listener, head, steps, lr, seed)
        self.gates = gates  # they have learned the task before its expert does
        self.experts = {CLIP: listener}
        self.started: list[int] = []  # the expert from which each started

    def begin(self, task: int, frames: Tensor) -> list[nn.Parameter]:
        """Copies the expert of the most related task; the first one starts from the pre-trained transformer."""
        with torch.no_grad():
            errors = self.gates.errors(self.listener(frames)).mean(dim=0)
        self.started.append(int(relatedness(errors).argmax()) if task else CLIP)
        self.experts[task] = deepcopy(self.experts[self.started[task]]).requires_grad_(True)
        return list(self.experts[task].parameters())

    def features(self, frames: Tensor, task: int) -> Tensor:
        """Those of the task's own model."""
        return self.experts[task](frames)
