"""What several methods compute alike: logits, losses, the nearest class name, and answers by route."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.clip.backbone import Backbone, Encode, zero_shot_classifier
from lib.clip.compute import single_precision
from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.methods.base import Predictions
from lib.selector import CLIP, DDAS


def logits(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """exp(scale) * cosine (B, C) of image features (B, F) and text features (C, F), which need not be normalised."""
    with single_precision(image.device):
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


def classify(encode_image: Encode, encode_text: Encode, backbone: Backbone, images: Tensor, task: Task) -> Tensor:
    """Predicted classes (N,) of uint8 images (N, 3, H, W): the nearest class name, averaged over all templates."""
    names = zero_shot_classifier(encode_text, backbone.tokenizer, task.classes, task.templates)
    return nearest(encode_images(encode_image, backbone, images), names)


def answers_by_route(zero_shot: Tensor, routes: Sequence[Tensor], ask: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
    """Classes (N,) for each of several routes (N,); where a route says CLIP they are the zero-shot answers (N,).

    ask: from a task's number and places (n,) of images to their classes (n,). It is called once for each number, with
    the images that any of the routes sends there.
    """
    stacked = torch.stack(list(routes))  # (W, N)
    answers = zero_shot.repeat(len(stacked), 1)
    for number in set(stacked.unique().tolist()) - {CLIP}:
        sent = stacked == number
        places = sent.any(dim=0).nonzero().flatten()
        classes = torch.full_like(zero_shot, -1)
        classes[places] = ask(number, places)
        answers = torch.where(sent, classes, answers)
    return list(answers)


def three_decisions(
    selector: DDAS | None, features: Features, number: int, learned: int, ask: Callable[[int, Tensor], Tensor]
) -> Predictions:
    """Answers on the test images of task `number` by the decisions sample, batch and oracle.

    The oracle is given the true task, and sends tasks from number `learned` on, which are not learned yet, to CLIP.
    ask: as in `answers_by_route`. Raises ValueError without a selector, which is before the first task.
    """
    if selector is None:
        raise ValueError("the selector has learned no task yet; learn one before predicting")
    decided = selector.decide(features.test)
    oracle = torch.full_like(decided.sample, number if number < learned else CLIP)
    routes = {"sample": decided.sample, "batch": decided.batch, "oracle": oracle}
    answers = answers_by_route(features.zero_shot, list(routes.values()), ask)
    return Predictions(dict(zip(routes, answers, strict=True)), routes)
