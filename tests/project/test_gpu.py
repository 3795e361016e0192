"""The GPU gives what the CPU gives, within rounding: losses, gradients, and a run of three tasks.

Tolerances are relative, in single precision without TF32 (compute.precision: fp32). bf16, the default on a GPU, has 8
bits and gets a tolerance of its own.
"""

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from lib.clip.backbone import Backbone, is_bf16, set_up
from lib.methods import method_class
from lib.methods.base import Method
from lib.study.train import learn_task
from tests.support import small_study

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

GPU = torch.device("cuda")
FORWARD = 1e-4
GRADIENT = 1e-3  # of a gradient's norm
LOSS = 1e-2  # of a loss, after three tasks of four steps
BF16 = 3e-2
# nothing is drawn in a forward pass
STILL: dict[str, Any] = {"moe_adapters": {"noise": False, "dropout": 0.0}, "finetune": {}, "lora": {}}


@cache
def on_gpu() -> Backbone:
    """The tiny CLIP of the tests on the GPU."""
    set_up(1, GPU.type, "fp32")
    here = small_study.backbone()
    return replace(here, model=copy.deepcopy(here.model)).to(GPU)


def methods(name: str) -> tuple[Method, Method]:
    """A new method on the CPU, and one with the same weights on the GPU."""
    here = small_study.method(name, **STILL[name])
    context = replace(small_study.context(), backbone=on_gpu())
    there = method_class(name)(context, small_study.study().methods[name] | STILL[name])
    there.restore({key: value.to(GPU) for key, value in here.state().items()})
    return here, there


def first_step(method: Method, precision: str = "fp32") -> tuple[float, Tensor]:
    """The loss and the gradients of a first step, on the CPU."""
    trained = method.begin_task(small_study.lessons()[0])
    images, labels = (each.to(method.backbone.device) for each in small_study.shown(0))
    with torch.autocast(images.device.type, torch.bfloat16, enabled=is_bf16(precision, images.device)):
        loss = method.loss(images, labels)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten().cpu() for p in trained if p.grad is not None])


@pytest.mark.parametrize("name", STILL)
def test_loss_and_gradients_of_a_first_step_agree_and_the_loss_in_bf16_is_near(name: str) -> None:
    here, there = methods(name)
    (loss, gradients), (gpu_loss, gpu_gradients) = first_step(here), first_step(there)
    assert gpu_loss == pytest.approx(loss, rel=FORWARD)
    apart = torch.linalg.vector_norm(gpu_gradients - gradients) / torch.linalg.vector_norm(gradients)
    assert apart < GRADIENT
    assert first_step(methods(name)[1], "bf16")[0] == pytest.approx(loss, rel=BF16)


@pytest.mark.parametrize("name", STILL)
def test_a_run_of_three_tasks_agrees(name: str) -> None:
    lessons, (here, there) = small_study.lessons(), methods(name)
    for lesson in lessons:
        losses = learn_task(here, lesson, here.context.train)
        assert learn_task(there, lesson, there.context.train) == pytest.approx(losses, rel=LOSS)
    assert {v.device.type for k, v in there.state().items() if not k.startswith("answered")} == {GPU.type}
    answers = there.predict(lessons[0].task, lessons[0].features, 0).classes["sample"]
    assert len(answers) == len(lessons[0].task.test)
