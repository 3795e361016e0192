"""How a run computes: the device, and bf16 in training."""

from dataclasses import replace

import pytest
import torch

from lib.clip import compute
from lib.moe import Router
from lib.study.train import learn_task
from tests.support import small_study

CPU = torch.device("cpu")


@pytest.mark.parametrize("gpu", [True, False])
def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert compute.device_of("auto") == (torch.device("cuda:0") if gpu else CPU)
    assert compute.device_of("cpu") == CPU
    if not gpu:
        with pytest.raises(ValueError, match=r"compute\.device is cuda"):
            compute.device_of("cuda")


def test_bf16_is_the_default_on_a_gpu_only() -> None:
    cases = [("auto", "cpu"), ("auto", "cuda"), ("fp32", "cuda"), ("bf16", "cpu")]
    assert [compute.is_bf16(kind, torch.device(device)) for kind, device in cases] == [False, True, False, True]


@pytest.mark.parametrize("name", ["finetune", "moe_adapters", "lora"])
def test_bf16_learns_nearly_the_same_and_keeps_weights_in_single_precision(name: str) -> None:
    losses, settings = [], replace(small_study.study().train, steps=8)
    for precision in ("fp32", "bf16"):
        method = small_study.method(name)
        losses.append(learn_task(method, small_study.lessons()[0], settings, precision))
        assert not {v.dtype for v in method.state().values()} & {torch.bfloat16, torch.float16}
    exact, short = losses
    assert short != exact
    assert short[0] == pytest.approx(exact[0], rel=0.02)
    assert short[-1] < short[0]


def test_a_router_decides_in_single_precision() -> None:
    router = Router(8, 4, 2).train()
    torch.nn.init.normal_(router.weight)
    x0, noise = torch.randn(5, 8), torch.randn(5, 4)
    with compute.training("bf16", CPU):
        short = router(x0, noise)
    assert torch.equal(short.gates, router(x0, noise).gates)
