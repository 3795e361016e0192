"""How a run computes: devices, bf16, batches in parts, and processes that share a batch."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lib.clip import compute
from lib.moe import Router
from lib.study import stage as learn
from lib.study import train
from lib.study.params import ComputeSettings, ParamsError
from lib.study.paths import ROOT
from tests.support import small_study
from tests.support.small_run import result, study

CPU = torch.device("cpu")
ALONE = ComputeSettings(threads=1)
STILL = {"moe_adapters": {"noise": False, "dropout": 0.0}, "finetune": {}}  # nothing drawn in a forward pass


def after_a_task(name: str, how: ComputeSettings, steps: int = 4, **settings: Any) -> tuple[list[float], Any]:
    """The losses and the method after one task."""
    pupil = small_study.method(name, **settings)
    return train.learn_task(pupil, small_study.lessons()[0], replace(pupil.study.train, steps=steps), how), pupil


def test_a_gpu_is_used_where_there_is_one_and_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert compute.device_of(replace(ALONE, device="auto")) == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert compute.device_of(replace(ALONE, device="cuda")) == torch.device("cuda", 1)
    assert compute.device_of(ALONE) == CPU


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert compute.device_of(replace(ALONE, device="auto")) == CPU
    with pytest.raises(ParamsError, match="compute.device is cuda, and PyTorch sees no GPU; choose auto or cpu"):
        compute.device_of(replace(ALONE, device="cuda"))


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [("auto", "cpu", False), ("auto", "cuda", True), ("fp32", "cuda", False), ("bf16", "cpu", True)],
)
def test_bf16_is_the_default_on_a_gpu_alone(precision: Any, device: str, expected: bool) -> None:
    assert compute.is_bf16(replace(ALONE, precision=precision), torch.device(device)) is expected


@pytest.mark.parametrize("name", STILL)
@pytest.mark.parametrize("parts", [2, 3])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(name: str, parts: int) -> None:
    found = []
    for how in (ALONE, replace(ALONE, accumulate=parts)):
        pupil = small_study.method(name, **STILL[name])
        trained = pupil.begin_task(small_study.lessons()[0])
        loss = train._backward(pupil.loss, *small_study.shown(0), how)
        found.append((float(loss), torch.cat([p.grad.flatten() for p in trained if p.grad is not None])))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    torch.testing.assert_close(found[1][1], found[0][1], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", ["finetune", "moe_adapters", "lora", "mas"])
def test_recomputed_blocks_learn_the_same_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, _ = after_a_task(name, ALONE, 3)
    calls = []
    whole = compute.checkpoint
    monkeypatch.setattr(compute, "checkpoint", lambda *a, **k: calls.append(torch.is_grad_enabled()) or whole(*a, **k))
    again, _ = after_a_task(name, replace(ALONE, recompute=True), 3)
    assert again == kept
    assert calls
    assert all(calls)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of torch's own tracing
@pytest.mark.parametrize("name", ["finetune", "moe_adapters"])
def test_a_compiled_loss_learns_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda loss: compiled(loss, backend="aot_eager"))  # without a C++ compiler
    expected, _ = after_a_task(name, ALONE, 3)
    found, _ = after_a_task(name, replace(ALONE, compile=True), 3)
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["finetune", "moe_adapters", "lora"])
def test_bf16_begins_nearly_the_same_and_keeps_weights_in_single_precision(name: str) -> None:
    exact, _ = after_a_task(name, ALONE, 8)
    short, pupil = after_a_task(name, replace(ALONE, precision="bf16"), 8)
    assert short != exact
    assert short[0] == pytest.approx(exact[0], rel=0.02)
    assert short[-1] < short[0]
    assert not {v.dtype for v in pupil.state().values()} & {torch.bfloat16, torch.float16}


def test_a_router_decides_in_single_precision() -> None:
    router = Router(8, 4, 2).train()
    torch.nn.init.normal_(router.weight)
    x0, noise = torch.randn(5, 8), torch.randn(5, 4)
    with compute.training(replace(ALONE, precision="bf16"), CPU):
        found = router(x0, noise)
    assert torch.equal(found.gates, router(x0, noise).gates)


@pytest.mark.parametrize("run", STILL)
def test_two_processes_learn_what_one_learns(run: str, tmp_path: Path) -> None:
    places = {count: tmp_path / str(count) for count in (1, 2)}
    for place in places.values():
        small_study.prepare(place)
    with pytest.MonkeyPatch.context() as patch:
        small_study.move(patch, places[1])
        learn.learn(study(run, set=STILL[run]), f"{run}--I--s0")
    options = ["--standalone", "--nproc-per-node=2", str(ROOT / "tests" / "shared_run.py")]
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, places[2], run, json.dumps(STILL[run])],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    one, two = (json.loads(result(place, run).read_text()) for place in places.values())
    assert two["accuracy"] == one["accuracy"]
    for losses, expected in zip(two["losses"], one["losses"], strict=True):
        assert losses == pytest.approx(expected, abs=1e-3)
    if run == "moe_adapters":
        text = [block for found in (one, two) for block in found["experts"].pop("text").values()]
        for mine, both in zip(text[:2], text[2:], strict=True):
            assert both["froze"] == mine["froze"]
            assert both["counts"] == [[2 * n for n in row] for row in mine["counts"]]  # each saw all prompts
        assert two["experts"] == one["experts"]
    states = [load_file(p / "data/tiny/runs" / f"{run}--I--s0" / "state.safetensors") for p in places.values()]
    assert states[0].keys() == states[1].keys()
    moved = {k: states[0][k] - v for k, v in before(run).items() if v.shape == states[0][k].shape}
    apart = [torch.linalg.vector_norm(states[1][name] - states[0][name]) for name in moved]
    # Adam makes steps of noise where a gradient should be zero, so not every number can be compared
    assert sum(apart) < 0.1 * sum(torch.linalg.vector_norm(way) for way in moved.values())


def before(run: str) -> dict[str, torch.Tensor]:
    """The floating-point state of a method that has learned nothing."""
    new = learn.new_method(study(run, set=STILL[run]), small_study.backbone(), run, 0).state()
    return {name: value.clone() for name, value in new.items() if value.is_floating_point() and len(value.shape)}


def test_a_run_of_several_processes_is_torchruns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begun: list[list[str]] = []

    class Group:
        returncode, stdout = 0, ["task 1/3\n"]

        def __init__(self, command: list[str], **_: Any) -> None:
            begun.append(command)

        def __enter__(self) -> "Group":
            return self

        def __exit__(self, *_: Any) -> None: ...

    monkeypatch.setattr(learn.subprocess, "Popen", Group)
    monkeypatch.setattr(learn, "ROOT", tmp_path)
    monkeypatch.setattr(learn, "folder_of", lambda name: Path("studies") / name)
    result(tmp_path, "finetune").parent.mkdir(parents=True)
    result(tmp_path, "finetune").write_text('{"last": 1}')
    shared = study("finetune", {"compute": {"threads": 1, "processes": 2}})
    assert learn.learn(shared, "finetune--I--s0") == {"last": 1}
    assert begun[0][1:3] == ["-m", "torch.distributed.run"]
    assert "--nproc-per-node=2" in begun[0]
    assert begun[0][-4:] == ["-m", "lib.study.stage", "studies/tiny/params.yaml", "finetune--I--s0"]
    Group.returncode = 1
    with pytest.raises(RuntimeError, match="the processes of finetune--I--s0 failed; the first error above"):
        learn.learn(shared, "finetune--I--s0")
