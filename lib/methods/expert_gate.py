"""Expert Gate: a fine-tuned model for every task, and autoencoders that choose one (Aljundi et al. 2017).

    answer by expert argmin_t error_t(image)                                       (Sec. 3.2: the smallest error wins)
    Rel(a) = 1 - (Er_a - Er_new) / Er_new;  start from expert argmax_a Rel(a)      (Sec. 3.3)

Er_t: the mean error of task t's autoencoder on all training images of the new task; the paper takes validation images.
The first expert starts from CLIP. The autoencoders (gates) are the selector's (lib.selector) with the study's settings,
but without a threshold and without a reference, so that an expert answers every image. At test time the method is given
the class names among which to answer, but not the task.

Difference: if two tasks are related above a threshold the paper trains with LwF; here every expert is fine-tuned. As it
is a model of its own, this cannot harm the earlier ones.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.base import Context, Lesson, Predictions, joined, under
from lib.methods.finetune import FineTune
from lib.methods.scoring import three_decisions
from lib.selector import CLIP, DDAS


def relatedness(errors: Tensor) -> Tensor:
    """Of each earlier task (T,) to the new one, from mean errors (T+1,) on its images, its own last; 1 = equal."""
    return 1 - (errors[:-1] - errors[-1]) / errors[-1]


class ExpertGate(FineTune):
    """Experts and gates. `model` holds the weights of the one expert that is trained or asked at the time."""

    decisions = ("sample", "batch", "oracle")

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.experts: list[dict[str, Tensor]] = []
        self.started: list[int] = []  # the number of the expert from which each started, or CLIP
        self.gates: DDAS | None = None  # made with the first task, when the width of its features is at hand

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Learns the task's gate, and starts the new expert from the most related one."""
        features = lesson.features.train
        if self.gates is None:
            self.gates = self._new_gates(features.shape[1])
        self.gates.learn(features, lesson.task.train.labels, lesson.seed)
        related = relatedness(self.gates.errors(features).mean(dim=0))
        self.started.append(int(related.argmax()) if len(related) else CLIP)
        self._load_expert(self.started[-1])
        return super().begin_task(lesson)

    def _new_gates(self, width: int) -> DDAS:
        gates = DDAS(width, replace(self.context.selector, rule="absolute", threshold=math.inf))
        return gates.to(self.backbone.device)

    def _load_expert(self, expert: int) -> None:
        weights = self.backbone.model.state_dict() if expert == CLIP else self.experts[expert]
        self.model.load_state_dict(weights, strict=False)

    def end_task(self, lesson: Lesson) -> None:
        self.experts.append({name: p.detach().clone() for name, p in self.trained().items()})

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """Answers by each decision. Raises ValueError before the first task."""

        def ask(expert: int, places: Tensor) -> Tensor:
            self._load_expert(expert)
            return self.ask(task, task.test.images[places])

        return three_decisions(self.gates, features, number, len(self.experts), ask)

    def size(self) -> dict[str, int]:
        size, gates = super().size(), self.gates.tasks.parameters() if self.gates else ()
        size["trainable_parameters"] *= len(self.experts)
        return size | {"selector_parameters": sum(p.numel() for p in gates)}

    def state(self) -> dict[str, Tensor]:
        state = {"started": torch.tensor(self.started, dtype=torch.long)}
        for number, expert in enumerate(self.experts):
            state |= joined(f"experts.{number}.", expert)
        return state | joined("gates.", self.gates.state_dict() if self.gates else {})

    def restore(self, state: dict[str, Tensor]) -> None:
        self.started = state["started"].tolist()
        self.experts = [under(f"experts.{number}.", state) for number in range(len(self.started))]
        gates = under("gates.", state)
        if gates:
            self.gates = self._new_gates(int(gates["stored_width"]))
            self.gates.restore(gates)

    def report(self) -> dict[str, Any]:
        """The expert from which each task's expert started; -1 is CLIP."""
        return {"started_from": self.started}
