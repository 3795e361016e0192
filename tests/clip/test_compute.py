"""How a run computes: the device, and bf16 in training."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from lib.clip import compute
from lib.moe import Router
from lib.study.train import learn_task
from tests.support import small_study

CPU = torch.device("cpu")


@pytest.mark.parametrize(("kind", "expected"), [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cpu", "cpu")])
def test_a_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch, kind: str, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert compute.device_of(kind) == torch.device(expected)


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert compute.device_of("auto") == CPU
    with pytest.raises(ValueError, match=r"compute\.device is cuda"):
        compute.device_of("cuda")


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [("auto", "cpu", False), ("auto", "cuda", True), ("fp32", "cuda", False), ("bf16", "cpu", True)],
)
def test_bf16_is_the_default_on_a_gpu_only(precision: str, device: str, expected: bool) -> None:
    assert compute.is_bf16(precision, torch.device(device)) is expected


@pytest.mark.parametrize("name", ["finetune", "moe_adapters", "lora"])
def test_bf16_learns_nearly_the_same_and_keeps_weights_in_single_precision(name: str) -> None:
    def losses(precision: str) -> tuple[list[float], Any]:
        method = small_study.method(name)
        settings = replace(method.context.train, steps=8)
        return learn_task(method, small_study.lessons()[0], settings, precision), method

    (exact, _), (short, method) = losses("fp32"), losses("bf16")
    assert short != exact
    assert short[0] == pytest.approx(exact[0], rel=0.02)
    assert short[-1] < short[0]
    assert not {v.dtype for v in method.state().values()} & {torch.bfloat16, torch.float16}


def test_a_router_decides_in_single_precision() -> None:
    router = Router(8, 4, 2).train()
    torch.nn.init.normal_(router.weight)
    x0, noise = torch.randn(5, 8), torch.randn(5, 4)
    with compute.training("bf16", CPU):
        short = router(x0, noise)
    assert torch.equal(short.gates, router(x0, noise).gates)
