"""Checkpoints: a folder with the method's tensors (safetensors) and a JSON that describes them; never pickled.

The tensors are the method's alone (adapters, routers, selector, or a fine-tuned model), not the frozen CLIP's. The JSON
holds the hashes of both files, so that damage is noticed. A checkpoint is whole or it is not there.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save_file
from torch import Tensor, isfinite

from lib.files import whole
from lib.settings import Number, build, shown
from lib.study.train import Row

VERSION = 2  # since 2 the JSON holds its own hash
AGAIN = "delete it and run the study again"  # the advice of every refusal


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the folder, what is wrong and what to do."""


@dataclass
class About:
    """The JSON of a checkpoint."""

    study: str
    run: str
    order: str
    seed: int
    backbone: str  # the hash of the frozen CLIP
    settings: dict[str, Any]
    tasks: list[str]  # learned so far
    rows: list[Row]
    losses: list[list[Number]]  # every tenth step of every task
    version: int = VERSION
    tensors: str = ""  # the hash of the tensors' file; `save` fills it in
    itself: str = ""  # the hash of all fields above; `save` fills it in


def save(folder: Path, about: About, state: dict[str, Tensor]) -> None:
    """Writes a checkpoint in place of an older one. Raises DiskError for a full or read-only disk."""
    with whole(folder) as partial:
        partial.mkdir()
        tensors = partial / "state.safetensors"
        save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, tensors)
        about.tensors = hashlib.sha256(tensors.read_bytes()).hexdigest()
        about.itself = _hash(about)
        (partial / "about.json").write_text(json.dumps(asdict(about), indent=1) + "\n")


def load(folder: Path, backbone: str, run: str, settings: dict[str, Any]) -> tuple[About, dict[str, Tensor]]:
    """The JSON and the state dict of a checkpoint. backbone: its hash.

    Raises CheckpointError if it is missing, damaged, or of another backbone, run or settings.
    """
    if not folder.exists():
        raise CheckpointError(f"there is no checkpoint {folder}; the stages before this one make it")
    try:
        about = _read_about(folder / "about.json")
        if about.backbone != backbone:
            raise ValueError(f"it belongs to another backbone ({about.backbone[:12]}, not {backbone[:12]})")
        if about.run != run or about.settings != settings:
            raise ValueError(f"it belongs to run {about.run} with {about.settings}, not {run} with {settings}")
        return about, _read_state(folder / "state.safetensors", about.tensors)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be used: {error}; {AGAIN}") from error


def _read_about(file: Path) -> About:
    raw = json.loads(file.read_bytes())
    if isinstance(raw, dict) and raw.get("version") != VERSION:
        raise ValueError(f"it has version {shown(raw.get('version'))}, this code reads {VERSION}")
    about = build(About, raw, file.name)
    if about.itself != _hash(about):
        raise ValueError(f"{file.name} is damaged, its hash is not {about.itself}")
    return about


def _read_state(file: Path, wanted: str) -> dict[str, Tensor]:
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != wanted:
        raise ValueError(f"{file.name} is damaged, its hash is not {wanted}")
    state = parse_tensors(content)
    for name, tensor in state.items():
        if not isfinite(tensor).all():
            raise ValueError(f"{name} holds numbers that are not finite; choose a smaller lr")
    return state


def _hash(about: About) -> str:
    """The hash of all fields but `itself`."""
    return hashlib.sha256(json.dumps(asdict(replace(about, itself=""))).encode()).hexdigest()
