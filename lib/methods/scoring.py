"""What several methods compute alike: logits, losses, the nearest class name, and answers by a selector's routes."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.clip.backbone import Backbone, Encode, zero_shot_classifier
from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.base import Lesson, Method, Predictions, joined, under
from lib.selector import CLIP, DDAS


def logits(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """exp(scale) * cosine (B, C) of image features (B, F) and text features (C, F), which need not be normalised."""
    with torch.autocast(image.device.type, enabled=False):  # bf16 has too few digits
        return scale.exp() * F.normalize(image.float(), dim=-1) @ F.normalize(text.float(), dim=-1).T


def cross_entropy(image: Tensor, text: Tensor, labels: Tensor, scale: Tensor, smoothing: float) -> Tensor:
    """Smoothed cross entropy () of image features (B, F) against class features (C, F), neither normalised."""
    return F.cross_entropy(logits(image, text, scale), labels, label_smoothing=smoothing)


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean over rows of T^2 * KL(softmax(teacher / T) || softmax(student / T)) of logits (N, C).

    Hinton et al. 2015, Sec. 2. LwF's modified cross entropy (Li and Hoiem 2016, Eq. 2) differs by a constant.
    """
    student, teacher = (F.log_softmax(scores / temperature, dim=-1) for scores in (student, teacher))
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def encode_images(encode: Encode, backbone: Backbone, images: Tensor, batch: int = 128) -> Tensor:
    """Features (N, F) of uint8 images (N, 3, H, W), as `encode` gives them, batch by batch."""
    return torch.cat([encode(backbone.pixels(part)) for part in images.split(batch)])


def nearest(image: Tensor, names: Tensor) -> Tensor:
    """For image features (N, F) the nearest of unit class features (C, F), as classes (N,) on the CPU."""
    return (F.normalize(image, dim=-1) @ names.T).argmax(dim=1).cpu()


def classify(method: Method, key: int, image: Tensor, encode_text: Encode, task: Task) -> Tensor:
    """Predicted classes (N,) of image features (N, F): the nearest class name, averaged over all templates.

    key: of the method's model whose text tower encodes the names (Method.once).
    """
    read = method.backbone.tokenizer, task.classes, task.templates
    return nearest(image, method.once((key, *task.classes), lambda: zero_shot_classifier(encode_text, *read)))


def of_learned(task: Task, number: int, learned: int) -> dict[str, Tensor]:
    """Of each test image (N,) whether its class was learned, by the rule of RAIL (sample) and as told (oracle).

    RAIL's rule (Xu et al. 2024): the class that the frozen CLIP finds among those of all tasks is of a learned task.
    learned: how many tasks were learned. Outside of a label space (lib.data.scenarios) the rule is told, too.
    """
    oracle = torch.full((len(task.test),), number < learned)
    return {"sample": oracle if task.nearest_task is None else task.nearest_task < learned, "oracle": oracle}


def learned_places(task: Task, number: int, learned: int) -> tuple[dict[int, Tensor], Tensor]:
    """By learned task, where its classes (C,) stand among a task's candidates; and which candidates are others (C,)."""
    places = {t: at for t, at in task.places_or_own(number).items() if t < learned}
    return places, others(places, len(task.classes))


def others(places: dict[int, Tensor], candidates: int) -> Tensor:
    """Which of the candidates (C,) are of none of these tasks."""
    other = torch.ones(candidates, dtype=torch.bool)
    for at in places.values():
        other[at] = False
    return other


class Selecting(Method):
    """A method with a selector, which sends each test image to a learned task or to CLIP; the first of the bases."""

    decisions = ("sample", "batch", "oracle", "lookup")
    selector: DDAS | None = None  # made with the first task, when the width of its features is at hand
    prefix: ClassVar[str] = "selector."  # of the selector's entries in the state

    def new_selector(self, width: int) -> DDAS:
        """The selector, for features of this width."""
        return DDAS(width, self.context.selector)

    def seen_by_selector(self, images: Tensor, features: Tensor) -> Tensor:
        """What the selector judges images (N, 3, H, W) by: as a rule the study's selector features (N, S) of them."""
        return features

    def ask(self, task: Task, features: Features, number: int, places: Tensor) -> Tensor:
        """The answers (n,) of learned task `number` on a task's test images at places (n,)."""
        raise NotImplementedError

    def learn_route(self, lesson: Lesson) -> DDAS:
        """Has the selector learn a task, and before the first one the reference set, if its settings say so."""
        seen = self.seen_by_selector(lesson.task.train.images, lesson.features.train)
        if self.selector is None:
            self.selector = self.new_selector(seen.shape[1]).to(self.backbone.device)
            if self.selector.settings.reference:
                self.selector.learn_reference(self.context.reference_features(), lesson.seed)
        self.selector.learn(seen, lesson.task.train.labels, lesson.seed)
        return self.selector

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """By each decision; the oracle sends tasks not learned yet to CLIP. ValueError before the first task."""
        if self.selector is None:
            raise ValueError("the selector has learned no task yet; learn one before predicting")
        seen = self.once(("seen", task.name), lambda: self.seen_by_selector(task.test.images, features.test))
        decided, learned = self.selector.decide(seen), len(self.selector.tasks)
        listed = learned if task.listed is None else task.listed
        by_rule = {"oracle": number if number < learned else CLIP, "lookup": listed if listed < learned else CLIP}
        routes = {"sample": decided.sample, "batch": decided.batch}
        routes |= {name: torch.full_like(decided.sample, route) for name, route in by_rule.items()}
        answers = self.answer(task, features, list(routes.values()))
        return Predictions(dict(zip(routes, answers, strict=True)), routes)

    def answer(self, task: Task, features: Features, routes: list[Tensor]) -> list[Tensor]:
        """Classes (N,) for each of several routes (N,); where a route says CLIP they are the zero-shot answers.

        `ask` is called once for each number, with the images that any of the routes sends there.
        """
        stacked = torch.stack(routes)  # (W, N)
        answers = features.zero_shot.repeat(len(stacked), 1)
        for number in set(stacked.unique().tolist()) - {CLIP}:
            sent = stacked == number
            places = sent.any(dim=0).nonzero().flatten()
            classes = torch.full_like(features.zero_shot, -1)
            classes[places] = self.ask(task, features, number, places)
            answers = torch.where(sent, classes, answers)
        return list(answers)

    def size(self) -> dict[str, int]:
        """Also the parameters of the selector."""
        coders = self.selector.tasks.state_dict() if self.selector else {}
        return super().size() | {"selector_parameters": sum(v.numel() for v in coders.values())}

    def state(self) -> dict[str, Tensor]:
        return super().state() | joined(self.prefix, self.selector.state_dict() if self.selector else {})

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        held = under(self.prefix, state)
        self.selector = self.new_selector(int(held["stored_width"])).to(self.backbone.device) if held else None
        if self.selector:
            self.selector.restore(held)


class ModelPerTask(Selecting):
    """A selecting method that keeps a model for every task in `saved`; `model` is the one that is trained or asked."""

    def size(self) -> dict[str, int]:
        """The parameters of all tasks' models."""
        size, tasks = super().size(), len(self.selector.tasks) if self.selector else 0
        return size | {"trainable_parameters": tasks * size["trainable_parameters"]}

    def state(self) -> dict[str, Tensor]:
        """What is saved, and the selector; not `model`."""
        return {name: v for name, v in super().state().items() if name.startswith((*self.saved, self.prefix))}
