"""The GPU gives what the CPU gives, within rounding: forward passes, gradients, and a run of three tasks.

Tolerances are relative, in single precision without TF32 (compute.precision: fp32). bf16, the default on a GPU, is held
to what bf16 can say: 8 bits.
"""

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from lib.clip import compute
from lib.methods import method_class
from lib.methods.base import Lesson, Method
from lib.study import train
from lib.study.params import ComputeSettings
from tests.support import small_study

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

EXACT = ComputeSettings(threads=1, device="cuda", precision="fp32")
FORWARD = 1e-4
GRADIENT = 1e-3  # of a gradient's norm
LOSS = 1e-2  # of a loss, after three tasks of four steps
BF16 = 3e-2
STILL = {
    "moe_adapters": {"noise": False, "dropout": 0.0},
    "finetune": {},
    "lora": {},
}  # nothing is drawn in a pass


@cache
def on_gpu() -> Any:
    """The tiny CLIP of the tests on the GPU."""
    compute.begin(EXACT)
    here = small_study.backbone()
    return replace(here, model=copy.deepcopy(here.model)).to(torch.device("cuda"))


def pupil(name: str, device: str) -> Method:
    """A method that has learned nothing, on a device, at the same weights on both."""
    if device == "cpu":
        return small_study.method(name, **STILL[name])
    made = small_study.study()
    torch.manual_seed(0)
    found = method_class(name)(on_gpu(), made.methods[name] | STILL[name], made)
    own = small_study.method(name, **STILL[name])
    found.restore({key: value.to("cuda") for key, value in own.state().items()})
    return found


def first(name: str, device: str, how: ComputeSettings) -> tuple[float, Tensor]:
    """The loss of a first step and its gradients, on the CPU."""
    taught = pupil(name, device)
    trained = taught.begin_task(small_study.lessons()[0])
    images, labels = (each.to(device) for each in small_study.shown(0))
    loss = train._backward(taught.loss, images, labels, how)
    gradients = [p.grad.flatten().cpu() for p in trained if p.grad is not None]
    return float(loss), torch.cat(gradients)


def taught(name: str, device: str, lessons: list[Lesson]) -> tuple[list[list[float]], Method]:
    """The losses of a run, and the method after it."""
    made, how = pupil(name, device), EXACT if device == "cuda" else small_study.study().compute
    return [train.learn_task(made, each, made.study.train, how) for each in lessons], made


def test_features_of_the_frozen_clip_agree() -> None:
    images = small_study.shown(0)[0]
    with torch.no_grad():
        here = small_study.backbone().model.encode_image(images)
        there = on_gpu().model.encode_image(images.to("cuda")).cpu()
    torch.testing.assert_close(there, here, rtol=FORWARD, atol=FORWARD / 10)


@pytest.mark.parametrize("name", STILL)
def test_a_first_steps_loss_and_gradients_agree(name: str) -> None:
    loss, gradients = first(name, "cpu", small_study.study().compute)
    found, others = first(name, "cuda", EXACT)
    assert found == pytest.approx(loss, rel=FORWARD)
    apart = torch.linalg.vector_norm(others - gradients) / torch.linalg.vector_norm(gradients)
    assert apart < GRADIENT


@pytest.mark.parametrize("name", STILL)
def test_a_first_step_in_bf16_is_near(name: str) -> None:
    loss, _ = first(name, "cpu", small_study.study().compute)
    found, _ = first(name, "cuda", replace(EXACT, precision="bf16"))
    assert found == pytest.approx(loss, rel=BF16)


@pytest.mark.parametrize("name", STILL)
def test_a_run_of_three_tasks_agrees(name: str) -> None:
    lessons = small_study.lessons()
    (losses, _), (found, made) = (taught(name, device, lessons) for device in ("cpu", "cuda"))
    for mine, theirs in zip(losses, found, strict=True):
        assert theirs == pytest.approx(mine, rel=LOSS)
    assert {v.device.type for k, v in made.state().items() if not k.startswith("answered")} == {"cuda"}
    answers = made.predict(lessons[0].task, lessons[0].features, 0).classes["sample"]
    assert len(answers) == len(lessons[0].task.test)
