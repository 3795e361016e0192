"""Expert Gate: a fully fine-tuned model for every task, and autoencoders that choose one (Aljundi et al. 2017).

    answer by expert argmin_t error_t(picture)                                     (Sec. 3.2: smallest error wins)
    Rel(a) = 1 - (Er_a - Er_new) / Er_new;  start from expert argmax_a Rel(a)      (Sec. 3.3)

Er_t: the mean error of task t's autoencoder on all training pictures of the new task; the paper takes validation
pictures, and so does its code. The first expert starts from CLIP. The autoencoders are the study's (lib.selector.ddas), with
its numbers but without a threshold, so that an expert answers every picture, and without one for reference pictures.

Where we differ: the paper trains by LwF instead of fine-tuning if the two tasks are related above a threshold; here
always by fine-tuning. Since the new task keeps a model of its own, this cannot harm the earlier ones.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.base import Context, Lesson, Predictions, answers_by_route, stored_bytes
from lib.methods.finetune import FineTune
from lib.methods.state import joined, under
from lib.selector.ddas import CLIP, DDAS


def relatedness(errors: Tensor) -> Tensor:
    """Of each earlier task (T,) to a new one, from mean errors (T+1,) on its pictures, its own last; 1 = as good."""
    return 1 - (errors[:-1] - errors[-1]) / errors[-1]


class ExpertGate(FineTune):
    """Experts and gates. `model` is where one expert at a time is put to be trained or asked."""

    decisions = ("sample", "batch", "oracle")

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.experts: list[dict[str, Tensor]] = []
        self.started: list[int] = []  # each expert from another's number, or from CLIP
        self.gates: DDAS | None = None  # made with the first task: then its width is known

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """The task's gate first; the new expert starts from the most related one."""
        seen = lesson.features.train
        if self.gates is None:
            self.gates = self._new_gates(seen.shape[1])
        self.gates.learn(seen, lesson.task.train.labels, lesson.seed)
        related = relatedness(self.gates.errors(seen).mean(dim=0))
        self.started.append(int(related.argmax()) if len(related) else CLIP)
        self._put(self.started[-1])
        return super().begin_task(lesson)

    def _new_gates(self, width: int) -> DDAS:
        gates = DDAS(width, replace(self.context.selector, rule="absolute", threshold=math.inf))
        return gates.to(self.backbone.device)

    def _put(self, expert: int) -> None:
        weights = self.backbone.model.state_dict() if expert == CLIP else self.experts[expert]
        self.model.load_state_dict(weights, strict=False)

    def end_task(self, lesson: Lesson) -> None:
        """Keeps the expert."""
        self.experts.append({name: p.detach().clone() for name, p in self.trained().items()})

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """Answers by each way of deciding; an expert sees the pictures that any of them sends to it, once.

        The oracle sends tasks not yet learned to CLIP. Raises ValueError before the first task.
        """
        if self.gates is None:
            raise ValueError("the gates have learned no task yet; learn one before predicting")
        decided = self.gates.decide(features.test)
        oracle = torch.full_like(decided.sample, number if number < len(self.experts) else CLIP)
        routes = [decided.sample, decided.batch, oracle]

        def ask(expert: int, places: Tensor) -> Tensor:
            self._put(expert)
            return self.ask(task, task.test.images[places])

        answers = answers_by_route(features.zero_shot, routes, ask)
        return Predictions(*(dict(zip(self.decisions, each, strict=True)) for each in (answers, routes)))

    def size(self) -> dict[str, int]:
        """All experts, and the gates' parameters."""
        trained = len(self.experts) * sum(p.numel() for p in self.trained().values())
        gates = [] if self.gates is None else self.gates.tasks.parameters()
        return {
            "trainable_parameters": trained,
            "stored_bytes": stored_bytes(self.state()),
            "selector_parameters": sum(p.numel() for p in gates),
        }

    def state(self) -> dict[str, Tensor]:
        """Every expert's trained tensors, where each started, and the gates."""
        found = {"started": torch.tensor(self.started, dtype=torch.long)}
        for number, expert in enumerate(self.experts):
            found |= joined(f"experts.{number}.", expert)
        return found | joined("gates.", {} if self.gates is None else self.gates.state_dict())

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads them."""
        self.started = state["started"].tolist()
        self.experts = [under(f"experts.{number}.", state) for number in range(len(self.started))]
        own = under("gates.", state)
        if own:
            self.gates = self._new_gates(int(own["stored_width"]))
            self.gates.restore(own)

    def report(self) -> dict[str, Any]:
        """Which expert each task's started from; -1 is CLIP."""
        return {"started_from": self.started}
