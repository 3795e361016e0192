"""Snapshots of the training of the tiny CLIP: an interrupted run goes on from the last one."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.files import whole


def save_snapshot(file: Path, tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer, step: int) -> None:
    """Writes a state dict and the optimizer's state after `step` steps."""
    state = optimizer.state_dict()["state"]
    held = {f"tensor/{name}": value.detach() for name, value in tensors.items()}
    held |= {f"optimizer/{i}/{key}": value for i, slots in state.items() for key, value in slots.items()}
    with whole(file) as partial:
        save_file({key: value.contiguous().cpu() for key, value in held.items()}, partial, {"step": str(step)})


def load_snapshot(file: Path, tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Restores a snapshot in place and returns its step; without one it returns 0. Raises ValueError for a bad one."""
    if not file.exists():
        return 0
    try:
        with safe_open(file, "pt") as opened:
            step = int(opened.metadata()["step"])
            held = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise ValueError(f"the snapshot {file} cannot be read ({error}); delete it to train from the start") from error
    state: dict[int, dict[str, Tensor]] = {}
    for key in (key for key in held if key.startswith("optimizer/")):
        _, index, slot = key.split("/")
        state.setdefault(int(index), {})[slot] = held[key]
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    for name, value in tensors.items():
        value.copy_(held[f"tensor/{name}"])
    return step
