"""ZSCL: the distance to CLIP on the reference set, and the averaged weights."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from lib.clip.towers import image_tower, text_tower
from tests.support import small_lessons, small_study


def drift(method: Any) -> Tensor:
    """The distillation without its weight; images and features of the current task play no part."""
    return method.extra_loss(torch.zeros(0), torch.zeros(0)) / method.settings.weight


def test_the_drift_is_0_until_a_step_is_made() -> None:
    method, (images, labels) = small_lessons.begun("zscl"), small_study.shown(0)
    assert abs(drift(method).item()) < 1e-6
    optimizer = torch.optim.AdamW(method.trained().values(), lr=0.001)
    for _ in range(3):
        optimizer.zero_grad()
        method.loss(images, labels).backward()
        optimizer.step()
    assert drift(method) > 1e-5


def test_a_later_task_is_still_held_to_the_original_clip() -> None:
    method, images = small_lessons.begun("zscl", 0), small_study.others().images
    with torch.no_grad():
        expected = image_tower(small_study.backbone().model, method.backbone.pixels(images))
    torch.testing.assert_close(method.teacher[0], expected)
    assert drift(method) > 1e-5


def test_the_drift_in_both_directions_by_hand() -> None:
    method, others = small_lessons.begun("zscl", 0, temperature=3.0, reference_batch=5), small_study.others()
    method.rng = np.random.default_rng(5)
    rng = np.random.default_rng(5)
    pictures, captions = (rng.choice(8, 5, replace=False) for _ in range(2))

    def logits(model: Any) -> Tensor:
        image = F.normalize(image_tower(model, method.backbone.pixels(others.images[pictures])))
        return model.logit_scale.exp() * image @ F.normalize(text_tower(model, others.tokens[captions])).T / 3

    expected = 0.0
    for direction in (0, 1):
        student, teacher = (logits(m).softmax(direction) for m in (method.model, method.backbone.model))
        expected += 9 * (teacher * (teacher / student).log()).sum() / 5
    torch.testing.assert_close(drift(method), expected, rtol=1e-3, atol=1e-6)


def test_the_loss_is_cross_entropy_plus_the_weighted_drift() -> None:
    method, again = (small_lessons.begun("zscl", 0, weight=3.0) for _ in range(2))  # which draw alike
    images, labels = small_study.shown(1)
    expected = small_lessons.bare_loss(method, images, labels) + 3 * drift(method)
    torch.testing.assert_close(again.loss(images, labels), expected)


def test_weights_are_averaged_from_the_start_of_the_task_on() -> None:
    method = small_lessons.begun("zscl")
    start = {name: parameter.detach().clone() for name, parameter in method.trained().items()}
    for _ in range(5):  # the weights of steps 2 and 4 join: start + (0 + 2 + 4) / 3
        with torch.no_grad():
            for parameter in method.trained().values():
                parameter += 1
        method.after_step()
    method.end_task(small_study.lessons()[0])
    for name, parameter in method.trained().items():
        torch.testing.assert_close(parameter.detach(), start[name] + 2)


def test_without_weight_and_averaging_it_is_finetune() -> None:
    bare = small_study.teach(small_study.method("zscl", weight=0.0, average_every=0), 0, 1)
    plain = small_study.teach(small_study.method("finetune"), 0, 1)
    assert save(bare.state()) == save(plain.state())
    averaged = small_study.teach(small_study.method("zscl", weight=0.0), 0, 1)
    assert save(averaged.state()) != save(plain.state())


def test_pictures_and_captions_are_drawn_by_the_lessons_seed() -> None:
    drifts = [small_lessons.begun("zscl", 0, reference_batch=2) for _ in range(2)]
    one, two = ([drift(method).item() for _ in range(3)] for method in drifts)
    assert one == two
    assert len(set(one)) == 3
