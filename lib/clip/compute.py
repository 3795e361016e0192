"""How a run computes: the number of threads, the device, and the precision of training."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


def set_up(threads: int, kind: str, precision: str) -> torch.device:
    """Sets the number of CPU threads, and allows TF32 on a GPU unless precision is "fp32". Returns the device."""
    torch.set_num_threads(threads)
    device = device_of(kind)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    return device


def device_of(kind: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda". Raises ValueError for cuda without a GPU."""
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("compute.device is cuda, and PyTorch sees no GPU; choose auto or cpu")
    return torch.device("cuda", 0) if kind != "cpu" and torch.cuda.is_available() else torch.device("cpu")


def is_bf16(precision: str, device: torch.device) -> bool:
    """True if training computes matrix products in bf16: for "bf16", and for "auto" on a GPU."""
    return precision == "bf16" or (precision == "auto" and device.type == "cuda")


@contextmanager
def training(precision: str, device: torch.device) -> Iterator[None]:
    """The context of a training step's forward pass. Weights stay in single precision."""
    with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16(precision, device)):
        yield


def single_precision(device: torch.device) -> AbstractContextManager:
    """A context for routers and logits, which stay in single precision when the rest of a forward pass is in bf16."""
    return torch.autocast(device.type, enabled=False)


def peak_gpu_mb() -> float | None:
    """The most memory that tensors have occupied on the GPU, in megabytes; None without a GPU."""
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_initialized() else None
