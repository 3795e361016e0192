"""MoE-Adapters with activate-freeze and DDAS: the paper's method; and a single adapter without mixture.

The switches follow the paper and the released code (see method settings in params.yaml): which experts are frozen, the
balance loss, the text router's token, where adapters sit.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lib.clip.backbone import zero_shot_classifier
from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.base import (
    Context,
    Lesson,
    Method,
    Predictions,
    answers_by_route,
    classify,
    cross_entropy,
    nearest,
    stored_bytes,
)
from lib.methods.state import beside, joined, under
from lib.moe.config import Blocks, FreezeRule, MoEConfig, RouterOf
from lib.moe.model import MoECLIP
from lib.moe.router import balance_loss
from lib.selector.ddas import CLIP, DDAS
from lib.selector.gaussian import GaussianSelector
from lib.settings import Count, Positive, Rate, Weight

ANSWERED = "answered."  # of the state: what need not be asked again; it can be computed, so it is not counted


@dataclass(frozen=True)
class AdapterSettings:
    """lr: peak learning rate, for all tasks or by task; bottleneck R; where adapters sit."""

    lr: Rate | dict[str, Rate]
    bottleneck: Positive
    dropout: float
    image_blocks: Blocks
    text_blocks: Blocks

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that make no mixture, such as more experts chosen than there are."""
        self.config()

    def config(self) -> MoEConfig:
        """One expert for every task: an adapter."""
        return MoEConfig(
            experts=1,
            top_k=1,
            bottleneck=self.bottleneck,
            dropout=self.dropout,
            image_blocks=self.image_blocks,
            text_blocks=self.text_blocks,
            freeze=0,
        )


@dataclass(frozen=True)
class MoESettings(AdapterSettings):
    """Further: E experts, K chosen, a router for each task or one for all, gate noise (always: in tests as well, as
    the released code does in class-incremental learning), balance loss weight, text router token, how many experts
    are frozen after a task and by which rule, and what the selector judges by (none: the last router answers)."""

    experts: Positive
    top_k: Positive
    router: RouterOf
    noise: bool | Literal["always"]
    balance: Weight
    text_router_token: Literal["start", "end"]
    freeze: Count
    freeze_rule: FreezeRule
    selector: Literal["autoencoder", "gaussian", "none"]

    def config(self) -> MoEConfig:
        """The shape of every block's mixture."""
        shape: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(MoEConfig)}
        shape["noise"] = bool(self.noise)
        return MoEConfig(**shape)


class Adapter(Method):
    """One adapter in every block, trained on task after task; no mixture, no freezing, no selector."""

    Settings = AdapterSettings

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.model = MoECLIP(context.backbone.model, self.settings.config()).eval()

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """A new router everywhere; trained are it and the experts."""
        prompts = lesson.task.prompts(lesson.task.templates[0])
        self.prompts = self.model.prepare(self.backbone.tokenizer(prompts))
        self.task = self.model.add_task()
        self.model.train()
        return [parameter for _, parameter in self.model.trainable_parameters(self.task)]

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Smoothed cross entropy over the task's classes, first template."""
        return self._loss(images, labels)[0]

    def _loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, list]:
        image = self.model.encode_image(images, self.task, whole=False)
        text = self.model.encode_text(self.prompts, self.task)
        scale = self.backbone.model.logit_scale
        loss = cross_entropy(image.features, text.features, labels, scale, self.context.train.smoothing)
        self.model.add_counts(self.task, image.routings, text.routings)
        return loss, [*image.routings.values(), *text.routings.values()]

    def end_task(self, lesson: Lesson) -> None:
        """Back to eval mode."""
        self.model.eval()

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """The adapter's answers, whatever the task."""
        route = torch.full((len(task.test),), self.model.num_tasks - 1)
        return Predictions({"sample": self.answer(task, features, [route])[0]}, {})

    def answer(self, task: Task, features: Features, routes: list[Tensor]) -> list[Tensor]:
        """Classes (N,) for each of several routes (N,). A picture is run once for each router that it is sent to."""

        def ask(router: int, places: Tensor) -> Tensor:
            return self.ask(task, router, places)

        return answers_by_route(features.zero_shot, routes, ask)

    def ask(self, task: Task, router: int, places: Tensor) -> Tensor:
        """A router's answers (n,) on a task's test pictures at some places (n,)."""
        self.asked += len(places)
        return classify(
            lambda x: self.model.encode_image(x, router, whole=False).features,
            lambda t: self.model.encode_text(self.model.prepare(t), router).features,
            self.backbone,
            task.test.images[places],
            task,
        )

    def size(self) -> dict[str, int]:
        """Experts and the routers of all tasks; a selector is counted by itself."""
        trained = sum(p.numel() for a in self.model.adapters().values() for p in a.parameters())
        return {"trainable_parameters": trained, "stored_bytes": stored_bytes(beside(ANSWERED, self.state()))}

    def state(self) -> dict[str, Tensor]:
        """Experts, routers, what is frozen, counts."""
        return joined("moe.", self.model.adapter_state())

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads them."""
        self.model.load_adapter_state(under("moe.", state))


class MoEAdapters(Adapter):
    """The mixture: a router for each task, most used experts frozen after it, DDAS to choose the router."""

    Settings = MoESettings
    decisions = ("sample", "batch", "oracle")

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.selector: DDAS | None = None  # made with the first task: then its width is known
        # by task, its classes and router: answers (N,) that last, else -1; and class features (C, F) that last
        self.answered: dict[str, Tensor] = {}
        self.names: dict[str, Tensor] = {}
        if self.settings.selector == "none":
            self.decisions = ("sample",)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy, plus the balance loss of all routings where its weight is not 0 (released code: 0)."""
        loss, routings = self._loss(images, labels)
        if self.settings.balance:
            loss = loss + self.settings.balance * torch.stack([balance_loss(r) for r in routings]).sum()
        return loss

    def before_step(self) -> None:
        """Frozen experts get no gradient."""
        self.model.mask_frozen_gradients()

    def end_task(self, lesson: Lesson) -> None:
        """Freezes the most used experts and lets the selector learn the task."""
        super().end_task(lesson)
        self.model.freeze(self.task)
        self._set_noise()
        if self.settings.selector == "none":
            return
        if self.selector is None:
            self.selector = self._new_selector(lesson.features.train.shape[1])
            if self.context.selector.reference:
                self.selector.learn_reference(self.context.reference_features(), lesson.seed)
        self.selector.learn(lesson.features.train, lesson.task.train.labels, lesson.seed)

    def _set_noise(self) -> None:
        """Routers in training mode draw noise; those of a tested model do if it is always on."""
        for adapter in self.model.adapters().values():
            adapter.routers.train(self.settings.noise == "always")

    def _new_selector(self, width: int) -> DDAS:
        kind = GaussianSelector if self.settings.selector == "gaussian" else DDAS
        return kind(width, self.context.selector).to(self.backbone.device)

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """Answers by each way of deciding; the oracle sends tasks not yet learned to CLIP."""
        if self.settings.selector == "none":
            return super().predict(task, features, number)
        if self.selector is None:
            raise ValueError("the selector has learned no task yet; learn one before predicting")
        decided = self.selector.decide(features.test)
        true = number if number < self.model.num_tasks else CLIP
        oracle = torch.full_like(decided.sample, true)
        routes = {"sample": decided.sample, "batch": decided.batch, "oracle": oracle}
        answers = self.answer(task, features, list(routes.values()))
        return Predictions(dict(zip(routes, answers, strict=True)), routes)

    def ask(self, task: Task, router: int, places: Tensor) -> Tensor:
        """As an adapter does, but a picture is not run again if no expert on its way, and its classes', can change."""
        key = f"{task.name}.{len(task.classes)}.{router}"
        known = self.answered.setdefault(key, torch.full((len(task.test),), -1, dtype=torch.int16))
        answers, fresh = known[places].long(), known[places] < 0
        if fresh.any():
            answers[fresh], lasting = self._ask(task, router, task.test.images[places[fresh]], key)
            known[places[fresh]] = answers[fresh].where(lasting, -1).short()
        return answers

    def _ask(self, task: Task, router: int, images: Tensor, key: str) -> tuple[Tensor, Tensor]:
        """Answers (n,) on images (n, 3, H, W), and which of them last: none where routers go on changing."""
        final = self.settings.router == "task" and self.settings.noise != "always"
        lasting: list[Tensor] = []

        def encode_image(images: Tensor) -> Tensor:
            encoded = self.model.encode_image(images, router, whole=False)
            lasting.append(self.model.settled(encoded, "image").cpu())
            return encoded.features

        def encode_text(tokens: Tensor) -> Tensor:
            nonlocal final
            encoded = self.model.encode_text(self.model.prepare(tokens), router)
            final = final and bool(self.model.settled(encoded, "text").all())
            return encoded.features

        self.asked += len(images)
        names = self.names.get(key)
        if names is None:
            names = zero_shot_classifier(encode_text, self.backbone.tokenizer, task.classes, task.templates)
        if final:
            self.names[key] = names
        answers = nearest(encode_image, names, self.backbone, images)
        return answers, torch.cat(lasting) & final

    def size(self) -> dict[str, int]:
        """The mixture's, and the selector's parameters."""
        coders = 0 if self.selector is None else sum(v.numel() for v in self.selector.tasks.state_dict().values())
        return super().size() | {"selector_parameters": coders}

    def state(self) -> dict[str, Tensor]:
        """The adapters' state and the selector's, and the answers that last."""
        own = {} if self.selector is None else self.selector.state_dict()
        return super().state() | joined("selector.", own) | joined(ANSWERED, self.answered)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Loads them."""
        super().restore(state)
        self._set_noise()
        self.answered, self.names = under(ANSWERED, state), {}
        own = under("selector.", state)
        if own:
            self.selector = self._new_selector(int(own["stored_width"]))
            self.selector.restore(own)

    def report(self) -> dict[str, Any]:
        """For each tower and block: how often each task chose each expert (T, E), and the experts it froze."""
        experts: dict[str, dict[str, Any]] = {"image": {}, "text": {}}
        for name, adapter in self.model.adapters().items():
            tower, block = name.split("_adapters.")
            froze = [adapter.to_freeze(task) for task in range(self.model.num_tasks)]
            experts[tower][block] = {"counts": adapter.counts.tolist(), "froze": froze}
        return {"experts": experts}
