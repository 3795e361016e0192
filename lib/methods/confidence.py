"""MoE-Confidence: an adapter for every task, all of which answer, weighted by a Gaussian of each (ICML 2026, X-TAIL).

    d_t(x) = sqrt((f_t - mean_t)' S_t^-1 (f_t - mean_t)),   w = softmax over t of 1 / (0.01 (d_t + 1e-6))
    score(c) = w_t P_t(c) for a name of learned task t,  P_0(c) for a name that was not learned

f_t: image features under adapter t, not normalised. P_t: the softmax over all candidates under adapter t, P_0: under
the frozen CLIP. It is told which candidates it has learned, and with which task; among a task's own names that gives
the task away. In training, the logits of pictures about which an earlier adapter is confident are divided by 0.9: its
confidence is above the 99th percentile of that on the new task's pictures.

Differences from the released code: exact moments in double precision, 1e-6 on the diagonal of S_t; class features are
the mean over the study's templates, as for all methods.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.clip import zero_shot_classifier
from lib.data.frozen import Features, class_features
from lib.data.tasks import Task, random_crop
from lib.methods.adapter import KeptAdapters, RoutedTower
from lib.methods.base import Context, Lesson, Predictions
from lib.methods.scoring import learned_places, logits
from lib.selector import CLIP
from lib.settings import PositiveShare, Rate, Share

CROPS = 9  # the random stream of the crops that statistics are computed on
RIDGE = 1e-6


class MoEConfidence(KeptAdapters):
    """The experts, and a mean and a covariance of each task's features."""

    @dataclass(frozen=True)
    class Settings(KeptAdapters.Settings):
        """sharpness: what distances are divided by (0.01). quantile: of the confidences. divisor: of their logits."""

        sharpness: Rate
        quantile: Share
        divisor: PositiveShare

    saved = (*KeptAdapters.saved, "means", "factors", "earlier")
    decisions = ("sample", "oracle")

    def __init__(self, context: Context, settings: dict) -> None:
        super().__init__(context, settings)
        self.means: list[Tensor] = []  # (F,) of each task
        self.factors: list[Tensor] = []  # (F, F) lower triangles L of its covariance L L'
        self.earlier: list[Tensor] = []  # the training prompts (C, L) of each task
        self.seen: dict[Any, Tensor] = {}  # image features (N, F) and class features, not part of the state

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        """Finds the pictures about which earlier adapters are confident. Then begins with a new adapter."""
        crops = self._crops(lesson)
        confident = torch.zeros(len(crops), dtype=torch.bool)
        for number, tokens in enumerate(self.earlier):
            belief = self._belief(number, tokens, crops)
            confident |= belief >= torch.quantile(belief, self.settings.quantile)
        self.divisors = torch.where(confident, self.settings.divisor, 1.0)
        return super().begin_task(lesson)

    @torch.no_grad()
    def _belief(self, number: int, tokens: Tensor, crops: Tensor) -> Tensor:
        """The largest probability (N,) that an earlier adapter gives to a class of its own."""
        self.load(number)
        text = RoutedTower(self.model, "text", 0)(tokens)
        image = self._encode(crops)
        return logits(image, text, self.backbone.model.logit_scale).softmax(dim=1).amax(dim=1).cpu()

    def _crops(self, lesson: Lesson) -> Tensor:
        """The training pictures (N, 3, H, W), normalised, each cropped once at random."""
        pixels = self.backbone.pixels(lesson.task.train.images)
        return random_crop(pixels, self.context.train.crop, lesson.rng(CROPS))

    def _encode(self, pixels: Tensor) -> Tensor:
        """Image features (N, F) under the adapter that is loaded."""
        tower = RoutedTower(self.model, "image", 0)
        return torch.cat([tower(part) for part in pixels.split(128)])

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Smoothed cross entropy over the task's classes; the logits of confident pictures are divided."""
        image = self.model.encode_image(images, self.task, whole=False).features
        text = self.model.encode_text(self.prompts, self.task).features
        scores = logits(image, text, self.backbone.model.logit_scale)
        divided = scores / self.divisors[self.batch].to(scores)[:, None]
        return F.cross_entropy(divided, labels, label_smoothing=self.context.train.smoothing)

    @torch.no_grad()
    def end_task(self, lesson: Lesson) -> None:
        """Keeps the adapter and the Gaussian of its features."""
        super().end_task(lesson)
        features = self._encode(self._crops(lesson)).double().cpu()
        covariance = features.T.cov() + RIDGE * torch.eye(features.shape[1]).double()
        self.means.append(features.mean(dim=0))
        self.factors.append(torch.linalg.cholesky(covariance).contiguous())
        self.earlier.append(self.tokens(lesson.task))

    @torch.no_grad()
    def predict(self, task: Task, features: Features, number: int) -> Predictions:
        """By the weights, and as the oracle's: all weight on the picture's task if it was learned."""
        learned = len(self.means)
        places, other = learned_places(task, number, learned)
        scores = torch.zeros(len(task.test), len(task.classes), dtype=torch.float64)
        weights = self._weights(task, learned) if places else scores
        told = scores.clone()
        for t, at in places.items():
            block = self._answers(task, t)[:, at]
            scores[:, at] += weights[:, t, None] * block  # a class of two tasks has the sum
            told[:, at] += block * (t == number)
        if other.any():
            names = self._names(task, CLIP)
            rest = logits(features.image_test, names, self.backbone.model.logit_scale.cpu()).softmax(dim=1)
            scores[:, other], told[:, other] = rest[:, other].double(), rest[:, other].double() * (number >= learned)
        return Predictions({"sample": scores.argmax(dim=1), "oracle": told.argmax(dim=1)}, {})

    def _weights(self, task: Task, learned: int) -> Tensor:
        """w (N, T) of a task's test pictures."""
        distances = []
        for t in range(learned):
            distances.append(distance(self._image(task, t).double().cpu(), self.means[t], self.factors[t]))
        return (1 / (self.settings.sharpness * (torch.stack(distances, dim=1) + 1e-6))).softmax(dim=1)

    def _answers(self, task: Task, number: int) -> Tensor:
        """P_t (N, C) over a task's candidates."""
        image, names = self._image(task, number), self._names(task, number)
        return logits(image, names, self.backbone.model.logit_scale).softmax(dim=1).double().cpu()

    def _image(self, task: Task, number: int) -> Tensor:
        """Features (N, F) of a task's test pictures under an adapter; adapters are final, so they are computed once."""
        key = ("image", task.name, number)
        if key not in self.seen:
            self.load(number)
            self.seen[key] = self._encode(self.backbone.pixels(task.test.images))
            self.asked += len(task.test)
        return self.seen[key]

    def _names(self, task: Task, number: int) -> Tensor:
        """Class features (C, F) of a task's candidates under an adapter or the frozen CLIP."""
        key = ("text", *task.classes, number)
        if key not in self.seen and number == CLIP:
            self.seen[key] = class_features(self.backbone, task)
        elif key not in self.seen:
            self.load(number)
            text = RoutedTower(self.model, "text", 0)
            self.seen[key] = zero_shot_classifier(text, self.backbone.tokenizer, task.classes, task.templates)
        return self.seen[key]

    def size(self) -> dict[str, int]:
        """The parameters of all tasks' adapters."""
        size = super().size()
        return size | {"trainable_parameters": size["trainable_parameters"] * len(self.means)}


def distance(features: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """The Mahalanobis distance (N,) of features (N, F) to a mean (F,); the covariance is L L', L (F, F) triangular."""
    return torch.linalg.solve_triangular(factor, (features - mean).T, upper=False).norm(dim=0)
