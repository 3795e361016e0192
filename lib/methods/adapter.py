"""One adapter in every block, trained on task after task: the method without mixture, freezing and selector."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.base import Context, Lesson, Method, Predictions, joined, under
from lib.methods.scoring import ModelPerTask, classify, cross_entropy, encode_images
from lib.moe import Blocks, MoECLIP, MoEConfig, Routing
from lib.settings import Positive, Rate


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


class SingleAdapter(Method):
    """CLIP stays frozen; the adapters beside its MLPs learn (paper, Sec. 3.2)."""

    @dataclass(frozen=True)
    class Settings(Method.Settings):
        """lr: peak learning rate, for all tasks or by task; bottleneck R; the blocks that get an adapter."""

        lr: Rate | dict[str, Rate]
        bottleneck: Positive
        dropout: float
        image_blocks: Blocks
        text_blocks: Blocks

        def __post_init__(self) -> None:
            self.config()  # raises ValueError for numbers that make no mixture

        def config(self) -> MoEConfig:
            """The shape of every block's mixture: one expert, which every sample gets."""
            where: Any = {"image_blocks": self.image_blocks, "text_blocks": self.text_blocks}
            return MoEConfig(1, 1, self.bottleneck, self.dropout, freeze=0, **where)

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.model = MoECLIP(context.backbone.model, self.settings.config()).eval()

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Tokenizes the class prompts; trains the experts, and the router that a mixture adds for the task."""
        self.prompts = self.model.prepare(self.tokens(lesson.task))
        self.task = self.model.add_task()
        self.model.train()
        return [parameter for _, parameter in self.model.trainable_parameters(self.task)]

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Smoothed cross entropy over the task's classes, with the first template, plus the `extra_loss`."""
        image = self.model.encode_image(images, self.task, whole=False)
        text = self.model.encode_text(self.prompts, self.task)
        self.model.add_counts(self.task, image.routings, text.routings)
        scale = self.backbone.model.logit_scale
        loss = cross_entropy(image.features, text.features, labels, scale, self.context.train.smoothing)
        return loss + self.extra_loss([*image.routings.values(), *text.routings.values()])

    def extra_loss(self, routings: list[Routing]) -> Tensor | float:
        """What a method adds to the cross entropy, by the routings of all blocks of both towers."""
        return 0.0

    def end_task(self, lesson: Lesson) -> None:
        """Turns dropout and noise off."""
        self.model.eval()

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """The answers of the adapters as they are now, by the last router."""
        places, router = torch.arange(len(task.test)), self.model.num_tasks - 1
        return Predictions({"sample": self.ask(task, features, router, places)}, {})

    def ask(self, task: Task, features: Features, number: int, places: Tensor) -> Tensor:
        """A router's answers (n,) on a task's test images at places (n,)."""
        return self.routed(task, number, places, number)

    def routed(self, task: Task, router: int, places: Tensor, key: int) -> Tensor:
        """Those answers, by a router of the model as it is now. key: of `encode_once`."""
        encode, text = (RoutedTower(self.model, tower, router) for tower in ("image", "text"))
        image = self.encode_once(key, task, places, lambda x: encode_images(encode, self.backbone, x))
        return classify(self, key, image, text, task)

    def trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if not name.startswith("clip.")}

    def state(self) -> dict[str, Tensor]:
        return super().state() | joined("moe.", self.model.adapter_state())

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self.model.load_adapter_state(under("moe.", state))


class KeptAdapters(SingleAdapter):
    """An adapter of its own for every task, frozen after it: nothing is shared, so nothing is forgotten."""

    saved = ("adapters",)

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.adapters: dict[str, Tensor] = {}  # by task number and name

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Begins with a new adapter."""
        self.model = MoECLIP(self.backbone.model, self.settings.config())
        return super().begin_task(lesson)

    def end_task(self, lesson: Lesson) -> None:
        """Keeps the adapter."""
        super().end_task(lesson)
        self.adapters |= joined(f"{lesson.number}.", {k: v.clone() for k, v in self.model.adapter_state().items()})

    def load(self, number: int) -> None:
        """Puts the adapter of task `number` into the model."""
        self.model.load_adapter_state(under(f"{number}.", self.adapters))

    def state(self) -> dict[str, Tensor]:
        """What is saved; not `model`."""
        return {name: tensor for name, tensor in super().state().items() if not name.startswith("moe.")}

    def restore(self, state: dict[str, Tensor]) -> None:
        model = under("adapters.0.", state) or self.model.adapter_state()
        super().restore(state | joined("moe.", model))


class AdapterPerTask(ModelPerTask, KeptAdapters):
    """A control: kept adapters and the selector of the mixture (DDAS). What a mixture is worth is what it adds."""

    def end_task(self, lesson: Lesson) -> None:
        """Keeps the adapter, and the selector learns the task."""
        super().end_task(lesson)
        self.learn_route(lesson)

    def ask(self, task: Task, features: Features, number: int, places: Tensor) -> Tensor:
        self.load(number)
        return self.routed(task, 0, places, number)
