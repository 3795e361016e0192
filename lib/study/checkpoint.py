"""Checkpoints: what was learned so far, in a folder with one safetensors file and one JSON; never pickled.

The tensors are the method's alone (adapters, routers, selector, or a fine-tuned model), not the frozen CLIP's. The JSON
names the CLIP by its hash, the run, its settings, the tasks learned and the rows of the accuracy matrix so far; and the
hashes of both files, so that neither can be damaged unnoticed.
A folder is written under a temporary name and renamed: it is whole or it is not there.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, isfinite

from lib.files import whole
from lib.settings import build
from lib.study.evaluate import Row

VERSION = 2  # 2: the hash of what it says of itself


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the folder, what is wrong and what to do."""


@dataclass
class About:
    """What a checkpoint says of itself."""

    study: str
    run: str
    order: str
    seed: int
    backbone: str  # the hash of the frozen CLIP
    settings: dict[str, Any]
    tasks: list[str]  # learned so far
    rows: list[Row]
    losses: list[list[float]]  # every tenth step of every task
    version: int = VERSION
    tensors: str = ""  # hash of the tensor file, filled in by `save`
    itself: str = ""  # hash of all the above, likewise


def save(folder: Path, about: About, state: dict[str, Tensor]) -> None:
    """Writes a checkpoint; an older one in its place is replaced. Raises DiskError for a full or read-only disk."""
    with whole(folder) as partial:
        partial.mkdir()
        tensors = partial / "state.safetensors"
        save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, tensors)
        about.tensors = hashlib.sha256(tensors.read_bytes()).hexdigest()
        about.itself = _hash(about)
        (partial / "about.json").write_text(json.dumps(asdict(about), indent=1) + "\n")


def load(folder: Path, backbone: str, run: str, settings: dict[str, Any]) -> tuple[About, dict[str, Tensor]]:
    """What `save` wrote. Raises CheckpointError if it is missing, damaged, or of another backbone, run or settings."""
    again = "delete it and run the study again"
    if not (folder / "about.json").exists():
        raise CheckpointError(f"there is no checkpoint {folder}; the stages before this one make it")
    try:
        raw = json.loads((folder / "about.json").read_text())
        if raw.get("version") != VERSION:
            raise CheckpointError(f"{folder} has version {raw.get('version')}, this code reads {VERSION}; {again}")
        about = build(About, raw, "about.json")
        data = (folder / "state.safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != about.tensors:
            raise CheckpointError(f"{folder}/state.safetensors is damaged: its hash is not {about.tensors}; {again}")
        state = load_file(folder / "state.safetensors")
        broken = [name for name, tensor in state.items() if not isfinite(tensor).all()]
        if broken:
            raise CheckpointError(f"{folder} holds what is no number, in {broken[0]}; {again}, with a smaller lr")
    except CheckpointError:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        SafetensorError,
    ) as error:
        raise CheckpointError(f"{folder} is no whole checkpoint ({error}); {again}") from error
    if about.backbone != backbone:
        raise CheckpointError(
            f"{folder} belongs to another backbone ({about.backbone[:12]}, not {backbone[:12]}); {again}"
        )
    if about.run != run or about.settings != settings:
        raise CheckpointError(
            f"{folder} belongs to run {about.run} with {about.settings}, not {run} with {settings}; {again}"
        )
    if about.itself != _hash(about):
        raise CheckpointError(f"{folder}/about.json is damaged: its hash is not {about.itself}; {again}")
    return about, state


def _hash(about: About) -> str:
    """The hash of what a checkpoint says of itself, but for this hash."""
    return hashlib.sha256(json.dumps(asdict(replace(about, itself=""))).encode()).hexdigest()
