"""MoE-Adapters, the paper's method: a mixture of adapters, activate-freeze and DDAS (paper, Sec. 3.2 to 3.4).

For each task: train a new router and the experts that are not frozen, freeze the experts that the task used most, and
let the selector (DDAS) learn the task's images. At test time DDAS finds the router of each image, or sends it to the
frozen CLIP; the method is given the class names among which to answer, but neither the task nor whether it was learned.

The settings name what the paper and the released code do differently: which experts are frozen, the balance loss, the
text router's token, and where adapters sit.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

from lib.clip import zero_shot_classifier
from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.adapter import RoutedTower, SingleAdapter
from lib.methods.base import Context, Lesson, Predictions
from lib.methods.scoring import Selecting, encode_images, nearest
from lib.moe import FreezeRule, MoEConfig, RouterOf, Routing, balance_loss
from lib.selector import DDAS, GaussianSelector
from lib.settings import Count, Positive, Weight


class MoEAdapters(Selecting, SingleAdapter):
    """The mixture. A task begins, and its cross entropy is computed, as with a single adapter."""

    @dataclass(frozen=True)
    class Settings(SingleAdapter.Settings):
        """Besides those of an adapter: E experts, of which top_k are chosen for a sample.

        router: one for each task, or one shared by all. noise: of the gates in training; "always" also at test time, as
        the released code does in class-incremental learning. balance: weight of the balance loss. text_router_token:
        the token that the text router reads. freeze, freeze_rule: how many experts are frozen after a task, and which.
        selector: what chooses the router; with "none" the last router answers every image. "early": DDAS on the class
        token that reaches the first mixture, so that a picture takes one pass (MoECLIP.encode_in_one_pass).
        """

        experts: Positive
        top_k: Positive
        router: RouterOf
        noise: bool | Literal["always"]
        balance: Weight
        text_router_token: Literal["start", "end"]
        freeze: Count
        freeze_rule: FreezeRule
        selector: Literal["autoencoder", "gaussian", "early", "none"]

        def config(self) -> MoEConfig:
            """The shape of every block's mixture."""
            shape: Any = {f.name: getattr(self, f.name) for f in fields(MoEConfig) if hasattr(self, f.name)}
            return MoEConfig(**shape | {"noise": bool(self.noise)})

    saved = ("answered",)

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        if self.settings.selector == "none":
            self.decisions = ("sample",)
        if self.settings.selector == "early" and context.selector.reference:
            raise ValueError("selector is early, and selector.reference is true: early tokens of it are not kept")
        # by task, number of candidate classes (label spaces differ by it) and router: classes (N,) of the test images,
        # int16, -1 = not final; and by router and names, not part of the state, class features (C, F) that are final
        self.answered: dict[str, Tensor] = {}
        self.names: dict[tuple, tuple[Tensor, bool]] = {}

    def new_selector(self, width: int) -> DDAS:
        kind = GaussianSelector if self.settings.selector == "gaussian" else DDAS
        return kind(width, self.context.selector)

    @torch.no_grad()
    def seen_by_selector(self, images: Tensor, features: Tensor) -> Tensor:
        if self.settings.selector != "early":
            return features
        self.asked += len(images)
        return encode_images(self.model.early_tokens, self.backbone, images).cpu()

    def extra_loss(self, routings: list[Routing]) -> Tensor | float:
        """The weighted balance loss of all routings (the released code leaves it out)."""
        if not self.settings.balance:
            return 0.0
        return self.settings.balance * torch.stack([balance_loss(r) for r in routings]).sum()

    def before_step(self) -> None:
        """Frozen experts get no gradient."""
        self.model.mask_frozen_gradients()

    def end_task(self, lesson: Lesson) -> None:
        """Activate-freeze: freezes the experts that the task used most. Then the selector learns the task."""
        super().end_task(lesson)
        self.model.freeze(self.task)
        self._set_noise()
        if self.settings.selector != "none":
            self.learn_route(lesson)

    def _set_noise(self) -> None:
        """A router draws noise in training mode, so with noise "always" the routers stay in that mode."""
        for mixture in self.model.adapters().values():
            mixture.routers.train(self.settings.noise == "always")

    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """Answers by the decisions sample, batch and oracle. Raises ValueError before the first task."""
        if self.settings.selector == "none":
            return SingleAdapter.predict(self, task, features, number)
        return super().predict(task, features, number)

    @torch.no_grad()
    def ask(self, task: Task, features: Features, number: int, places: Tensor) -> Tensor:
        """A router's answers (n,) on a task's test images at places (n,); final ones are not computed again.

        A router stays as it is after its task. So the features of an image or a prompt under it are final as soon as
        every expert on its way is frozen, and an answer is final if the features of the image and of all names are.
        """
        key = f"{task.name}.{len(task.classes)}.{number}"
        memory = self.answered.setdefault(key, torch.full((len(task.test),), -1, dtype=torch.int16))
        fresh, answers = places[memory[places] < 0], memory.long()
        if len(fresh):
            answers[fresh], final = self._encode(task, number, fresh)
            memory[fresh[final]] = answers[fresh[final]].short()
        return answers[places]

    def _encode(self, task: Task, router: int, places: Tensor) -> tuple[Tensor, Tensor]:
        """Answers (n,) from a pass of both towers, and which of them are final (n,)."""
        image, key = RoutedTower(self.model, "image", router), (router, *task.classes)
        names, fixed = self.names.get(key) or self.once(key, lambda: self._read(task, router))
        if fixed:
            self.names[key] = names, fixed

        def encode(images: Tensor) -> Tensor:  # features, and in a last column whether they are final
            features = encode_images(image, self.backbone, images)
            return torch.cat([features, torch.cat(image.final)[:, None].to(features)], dim=1)

        rows = self.encode_once(router, task, places, encode)
        return nearest(rows[:, :-1], names), (rows[:, -1] > 0).cpu() & fixed

    def _read(self, task: Task, router: int) -> tuple[Tensor, bool]:
        """Class features (C, F) of the candidates under a router, and whether they are final."""
        text = RoutedTower(self.model, "text", router)
        names = zero_shot_classifier(text, self.backbone.tokenizer, task.classes, task.templates)
        fixed = self.settings.router == "task" and self.settings.noise != "always"  # the router no longer changes
        return names, fixed and all(bool(final.all()) for final in text.final)

    def size(self) -> dict[str, int]:
        """The mixture without the answers, which can be computed again; and the parameters of the selector."""
        size = super().size()
        size["stored_bytes"] -= sum(answers.nbytes for answers in self.answered.values())
        return size

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self._set_noise()
        self.names = {}

    def report(self) -> dict[str, Any]:
        """For each tower and block: how often each task chose each expert (T, E), and which experts it froze."""
        experts: dict[str, dict[str, Any]] = {"image": {}, "text": {}}
        for name, mixture in self.model.adapters().items():
            tower, block = name.split("_adapters.")
            froze = [mixture.to_freeze(task) for task in range(self.model.num_tasks)]
            experts[tower][block] = {"counts": mixture.counts.tolist(), "froze": froze}
        return {"experts": experts}
