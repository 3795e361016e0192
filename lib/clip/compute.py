"""Where and how a run computes (params `compute`): the device, bf16 on it, and processes that share every batch.

Several processes, one a GPU, are started by torchrun. Each computes the whole run, with its part of every training
batch; gradients and counts are put together, so that all hold the same model; the first one evaluates and writes.
Every function here also works in a process by itself.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lib.study.params import Compute, ParamsError

_recomputes = ContextVar("_recomputes", default=False)


def device_of(settings: Compute) -> torch.device:
    """The GPU if there is one and it may be used, else the CPU. Raises ParamsError for cuda without a GPU."""
    if settings.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    if settings.device == "cuda":
        raise ParamsError("compute.device is cuda, and PyTorch sees no GPU; choose auto or cpu")
    return torch.device("cpu")


def is_bf16(settings: Compute, device: torch.device) -> bool:
    """True if training computes its products in bf16: where the params say so, and for `auto` on a GPU."""
    return settings.precision == "bf16" or (settings.precision == "auto" and device.type == "cuda")


def begin(settings: Compute) -> torch.device:
    """Sets the threads, and on a GPU TF32 unless fp32 is asked for; joins torchrun's processes if it started this."""
    torch.set_num_threads(settings.threads)
    device = device_of(settings)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("highest" if settings.precision == "fp32" else "high")
    if joined() and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


@contextmanager
def training(settings: Compute, device: torch.device) -> Iterator[None]:
    """The context of a training step's forward pass: products in bf16 where that is meant (weights stay fp32), and
    blocks that `run` computes again for the gradient."""
    before = _recomputes.set(settings.recompute)
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16(settings, device)):
            yield
    finally:
        _recomputes.reset(before)


def recomputes() -> bool:
    """True while a training step's forward pass keeps little, and `run` computes blocks again for the gradient."""
    return _recomputes.get() and torch.is_grad_enabled()


def run(work: Callable[..., Tensor], *given: object) -> Tensor:
    """A block's work on what is given; in training that saves memory it keeps nothing but these for the gradient."""
    if recomputes():
        return checkpoint(work, *given, use_reentrant=False)
    return work(*given)


def exactly(device: torch.device) -> AbstractContextManager:
    """A context in single precision inside an autocast one: for routers and logits."""
    return torch.autocast(device.type, enabled=False)


def joined() -> bool:
    """True in a process that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def processes() -> int:
    """How many share this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def share(batch: Tensor) -> Tensor:
    """This process's part of a batch (B, ...): every so many-th."""
    return batch[rank() :: processes()]


@torch.no_grad()
def average(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Makes every gradient its mean over the processes."""
    if processes() > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= processes()


def total(value: Tensor) -> Tensor:
    """The sum of a tensor over the processes."""
    if processes() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def peak_gpu_mb() -> float | None:
    """The most memory that tensors of this process have held on its GPU, in megabytes; None on the CPU."""
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_initialized() else None


def wait() -> None:
    """Until all processes are here."""
    if processes() > 1:
        dist.barrier()
