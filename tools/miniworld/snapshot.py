"""A snapshot of training in progress: tensors, optimiser, random state and step in one safetensors file.

Written under a temporary name and renamed, so that a kill leaves the last whole one. Never pickled.
"""

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def write(path: Path, tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer, step: int) -> None:
    """Saves named tensors, the state of the optimiser and torch's CPU random state, as of `step` steps done."""
    state = optimizer.state_dict()["state"]
    held = {f"tensor/{name}": value.detach() for name, value in tensors.items()}
    held |= {f"optimizer/{i}/{key}": value for i, slots in state.items() for key, value in slots.items()}
    held["random"] = torch.get_rng_state()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    save_file({k: v.contiguous().cpu() for k, v in held.items()}, partial, {"step": str(step)})
    os.replace(partial, path)


def read(path: Path, tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Restores in place what `write` saved and returns the step; 0, and nothing touched, if there is no snapshot."""
    if not path.exists():
        return 0
    try:
        with safe_open(path, "pt") as file:
            step = int(file.metadata()["step"])
            held = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(
            f"the snapshot {path} cannot be read ({error}); delete it to start this stage again"
        ) from error
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in held.items():
        if key.startswith("optimizer/"):
            _, index, slot = key.split("/")
            state.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    with torch.no_grad():
        for name, value in tensors.items():
            value.copy_(held[f"tensor/{name}"])
    torch.set_rng_state(held["random"])
    return step
