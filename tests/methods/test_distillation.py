"""LwF, LwF-VR and ZSCL: what they distil, from which teacher, on which captions; and ZSCL's averaged weights."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from lib.clip import backbone as clip
from lib.clip.towers import image_tower, text_tower
from tests.support import small_lessons, small_study

BOTH = ["lwf", "lwf_vr"]


def forgotten(method: Any, number: int) -> Tensor:
    images = small_study.shown(number)[0]
    return method.extra_loss(images, image_tower(method.model, images)) / method.settings.weight


def answers(model: Any, images: Tensor, prompts: Tensor, temperature: float) -> Tensor:
    """Probabilities (B, C) of prompts at CLIP's scale and a temperature."""
    image, text = F.normalize(image_tower(model, images)), F.normalize(text_tower(model, prompts))
    return (model.logit_scale.exp() * image @ text.T / temperature).softmax(dim=1)


@torch.no_grad()
def test_each_earlier_task_is_a_softmax_of_its_own_and_counts_alike() -> None:
    method, images = small_study.method("lwf", temperature=3.0), small_study.shown(2)[0]
    first, second = (method.tokens(lesson.task) for lesson in small_study.lessons()[:2])
    method.earlier = [first[:2], second]
    method.begin_task(small_study.lessons()[2])
    small_lessons.stir(method)
    expected = []
    for prompts in method.earlier:
        student, teacher = (answers(m, images, prompts, 3.0) for m in (method.model, method.backbone.model))
        expected.append((teacher * (teacher / student).log()).sum(dim=1).mean() * 9)
    assert expected[0] > 1e-3
    torch.testing.assert_close(forgotten(method, 2), (expected[0] + expected[1]) / 2, rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_lwf_vr_has_one_softmax_over_the_drawn_captions() -> None:
    method, images = small_lessons.begun("lwf_vr", sentences=5), small_study.shown(0)[0]
    small_lessons.stir(method)
    drawn = method.groups()[0]
    method.groups = lambda: [drawn]
    captions = small_study.others().tokens[drawn]
    student, teacher = (answers(m, images, captions, 2.0) for m in (method.model, method.backbone.model))
    expected = (teacher * (teacher / student).log()).sum(dim=1).mean() * 4
    torch.testing.assert_close(forgotten(method, 0), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["lwf", "zscl"])
def test_the_loss_is_cross_entropy_plus_the_weighted_distillation(name: str) -> None:
    method, again = (small_lessons.stir(small_lessons.begun(name, 0, weight=3.0)) for _ in range(2))  # which draw alike
    expected = small_lessons.bare_loss(method, *small_study.shown(1)) + 3 * forgotten(method, 1)
    torch.testing.assert_close(again.loss(*small_study.shown(1)), expected)


@pytest.mark.parametrize(("name", "before"), [("lwf", [0]), ("lwf_vr", []), ("lwf_vr", [0]), ("zscl", [])])
def test_nothing_is_forgotten_until_a_step_is_made(name: str, before: list[int]) -> None:
    method, (images, labels) = small_lessons.begun(name, *before), small_study.shown(len(before))
    assert abs(forgotten(method, len(before)).item()) < 1e-6
    optimizer = torch.optim.AdamW(method.trained().values(), lr=0.001)
    for _ in range(3):
        optimizer.zero_grad()
        method.loss(images, labels).backward()
        optimizer.step()
    assert forgotten(method, len(before)) > 1e-5


@pytest.mark.parametrize("name", BOTH)
def test_both_towers_of_the_student_are_taught_and_the_teacher_is_not(name: str) -> None:
    method = small_lessons.stir(small_lessons.begun(name, 0))
    forgotten(method, 1).backward()
    assert all(parameter.grad is not None for parameter in method.trained().values())
    assert method.model.visual.proj.grad.any()
    assert method.model.text_projection.grad.any()
    assert not any(parameter.requires_grad for parameter in method.teacher.parameters())


def test_the_teacher_is_the_model_before_the_task() -> None:
    method = small_lessons.begun("lwf_vr")
    assert clip.fingerprint(method.teacher) == small_study.backbone().fingerprint
    small_study.teach(method, 0)
    learned = clip.fingerprint(method.model)
    small_study.teach(method, 1)
    assert clip.fingerprint(method.teacher) == learned != clip.fingerprint(method.model)


def test_captions_are_drawn_anew_at_each_step_and_by_the_lessons_seed() -> None:
    one, two, other = small_lessons.begun("lwf_vr"), small_lessons.begun("lwf_vr"), small_lessons.begun("lwf_vr", 0)
    draws = [[method.groups()[0].tolist() for _ in range(5)] for method in (one, two, other)]
    assert draws[0] == draws[1] != draws[2]
    assert all(len(set(drawn)) == 4 for drawn in draws[0])
    assert len({tuple(drawn) for drawn in draws[0]}) > 1
    assert len(small_lessons.begun("lwf_vr", sentences=100).groups()[0]) == len(small_study.others().tokens)


# --- ZSCL


def drift(method: Any) -> Tensor:
    """The distillation without its weight; images and features of the current task play no part."""
    return method.extra_loss(torch.zeros(0), torch.zeros(0)) / method.settings.weight


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


# --- captions that name the tasks' classes


@pytest.mark.parametrize("name", ["lwf_vr", "zscl"])
def test_without_task_names_no_caption_that_has_one_is_used(name: str) -> None:
    both, without = (small_lessons.begun(name, task_names=used) for used in (True, False))
    every = small_study.others().tokens
    for method, expected in ((both, every), (without, every[5:])):
        assert torch.equal(method.sentences if name == "lwf_vr" else method.reference.tokens, expected)
    drawn = without.groups()[0] if name == "lwf_vr" else without.teacher[0]
    assert len(drawn) == 3
