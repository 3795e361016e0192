"""How far the confidence of answers and of the selector can be trusted (Guo et al. 2017)."""

import numpy as np
import torch
from torch import Tensor

from lib.clip import zero_shot_classifier
from lib.data.frozen import Features, class_features
from lib.data.tasks import Task
from lib.methods.adapter import RoutedTower
from lib.methods.moe_adapters import MoEAdapters
from lib.methods.scoring import encode_images, logits
from lib.selector import CLIP, DDAS


@torch.no_grad()
def confidence(method: MoEAdapters, task: Task, features: Features, routes: Tensor) -> tuple[Tensor, Tensor]:
    """The softmax of each test picture's answer by its route (N,), 0 to 1, and whether that answer is right (N,)."""
    sure, right = torch.zeros(len(routes)), torch.zeros(len(routes), dtype=torch.bool)
    for route in routes.unique().tolist():
        places = (routes == route).nonzero().flatten()
        if route == CLIP:
            image, names = features.image_test[places], class_features(method.backbone, task)
        else:
            encode, text = (RoutedTower(method.model, tower, route) for tower in ("image", "text"))
            image = encode_images(encode, method.backbone, task.test.images[places]).cpu()
            names = zero_shot_classifier(text, method.backbone.tokenizer, task.classes, task.templates).cpu()
        scores = logits(image, names, method.backbone.model.logit_scale.cpu()).softmax(dim=1)
        sure[places], answers = scores.max(dim=1)
        right[places] = answers == task.test.labels[places]
    return sure, right


def reliability(sure: Tensor, right: Tensor, bins: int = 10) -> tuple[np.ndarray, float]:
    """Of bins with equally many pictures the mean confidence, accuracy and its 95 % half width (bins, 3), in percent;
    and the calibration error in points: the mean distance of the two."""
    order = np.argsort(sure.numpy(), kind="stable")
    rows = []
    for part in np.array_split(order, bins):
        share, count = float(right.numpy()[part].mean()), len(part)
        rows.append((float(sure.numpy()[part].mean()), share, 1.96 * (share * (1 - share) / count) ** 0.5))
    table = 100 * np.array(rows)
    return table, float(np.abs(table[:, 0] - table[:, 1]).mean())


@torch.no_grad()
def refused(selector: DDAS, own: list[Tensor]) -> list[float]:
    """Percent of each task's pictures (N, S) whose error is above its own threshold; the quantile q promises 1 - q."""
    errors = [selector.errors(part)[:, number] for number, part in enumerate(own)]
    above = zip(errors, selector.thresholds, strict=True)
    return [100 * float((error > threshold).float().mean()) for error, threshold in above]
