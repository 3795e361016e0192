"""Fine-tuning of the whole CLIP: continually (the lower bound), or one task at a time from CLIP (the upper bound)."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib import params
from lib.clip import Backbone
from lib.features import Features
from lib.methods.base import Method, Predictions, classify, cross_entropy, stored_bytes
from lib.tasks import Task
from lib.towers import image_tower, text_tower


@dataclass(frozen=True)
class FineTuneSettings:
    """lr: peak learning rate, for all tasks or by task."""

    lr: float | dict[str, float]


class FineTune(Method):
    """Both towers go on learning from task to task. The temperature and the token table stay as they are."""

    Settings = FineTuneSettings

    def __init__(self, backbone: Backbone, settings: dict, study: params.Study) -> None:
        super().__init__(backbone, settings, study)
        self.model = copy.deepcopy(backbone.model)

    def begin_task(self, task: Task, number: int) -> list[nn.Parameter]:
        """Everything but the temperature and the token table."""
        self.prompts = self.backbone.tokenizer(task.prompts(task.templates[0]))
        self.model.requires_grad_(False)
        for parameter in self._trained():
            parameter.requires_grad_(True)
        return self._trained()

    def _trained(self) -> list[nn.Parameter]:
        kept = ("logit_scale", "token_embedding")
        return [p for name, p in self.model.named_parameters() if not name.startswith(kept)]

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Smoothed cross entropy over the task's classes, first template."""
        image, text = image_tower(self.model, images), text_tower(self.model, self.prompts)
        return cross_entropy(image, text, labels, self.model.logit_scale, self.study.train.smoothing)

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """The answers of the model as it is now."""
        model = self.model
        found = classify(
            lambda x: image_tower(model, x),
            lambda t: text_tower(model, t),
            self.backbone,
            task.test.images,
            task,
        )
        return Predictions({"sample": found}, {})

    def state(self) -> dict[str, Tensor]:
        """The trained tensors."""
        return {k: v for k, v in self.model.state_dict().items() if not k.startswith("token_embedding")}

    def size(self) -> dict[str, int]:
        """One model, whatever the number of tasks."""
        trained = sum(p.numel() for p in self._trained())
        return {"trainable_parameters": trained, "stored_bytes": stored_bytes(FineTune.state(self))}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads them."""
        self.model.load_state_dict(self.model.state_dict() | state)


class FineTuneSingle(FineTune):
    """A model of its own for every task, each started from CLIP and asked only about its task; unseen tasks get CLIP.

    With the true task given this is what adaptation can reach: the upper bound of the comparison.
    """

    def __init__(self, backbone: Backbone, settings: dict, study: params.Study) -> None:
        super().__init__(backbone, settings, study)
        self.models = 0

    def begin_task(self, task: Task, number: int) -> list[nn.Parameter]:
        """Starts from CLIP again."""
        self.models = number + 1
        self.model = copy.deepcopy(self.backbone.model)
        return super().begin_task(task, number)

    def size(self) -> dict[str, int]:
        """As many models as tasks."""
        return {key: self.models * value for key, value in super().size().items()}

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
