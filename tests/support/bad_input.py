"""Makers of bad input: each puts it where a user would, in a folder, and asks the public entry that meets it first."""

import copy
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from lib.data import folders, tasks
from lib.report import tables
from lib.study import checkpoint, params
from lib.study.checkpoint import About
from lib.study.studies import ROOT
from lib.study.train import Row
from tests.support import small_study
from tests.support.made_results import result as made_result

Maker = Callable[[Path], Any]  # given an empty folder, asks for what must be refused

COMMITTED = yaml.safe_load((ROOT / "params.yaml").read_text())
GONE = object()  # in place of a value: without the key


# --- params


def given(text: str) -> Maker:
    """A params file with this text."""

    def make(folder: Path) -> None:
        (folder / "params.yaml").write_text(text)
        params.load(folder / "params.yaml")

    return make


def number(path: str, value: object, *more: tuple[str, object]) -> Maker:
    """The committed params with another value at a dotted path, or at several."""
    raw = copy.deepcopy(COMMITTED)
    for where, what in ((path, value), *more):
        *parents, last = where.split(".")
        place = raw
        for key in parents:
            place = place[key]
        place[last] = what
        if what is GONE:
            del place[last]
    return given(yaml.safe_dump(raw, sort_keys=False))


def setting(name: str, **changes: Any) -> Maker:
    """A method whose settings differ from those of the small study."""
    return lambda _: small_study.method(name, **changes)


# --- pictures and classes


def task(*changes: Callable[[Path], object], **settings: Any) -> Maker:
    """The small study's red task, after changes to its folder of pictures."""

    def make(home: Path) -> None:
        small_study.write_pictures(home / "pictures")
        for change in changes:
            change(home / "pictures" / "red")
        wanted = small_study.study({f"tasks.{key}": value for key, value in settings.items()})
        folders.prepare("red", wanted.tasks, 32, home, home / "red.safetensors")
        tasks.check_prompts(tasks.load(home / "red.safetensors"), small_study.backbone().tokenizer)

    return make


def picture(content: bytes | Image.Image, name: str = "0.png") -> Maker:
    """One training picture of the class upright is this."""

    def change(red: Path) -> None:
        file = red / "train" / "upright" / name
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            content.save(file)

    return task(change)


def png_header(wide: int, high: int) -> bytes:
    """A PNG that declares so many pixels, and holds next to none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", wide, high, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def packed(kind: str) -> bytes:
    """A whole picture as the bytes of a file."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, kind)
    return file.getvalue()


def classes(*names: str) -> Callable[[Path], None]:
    """Further classes of these names, with a picture in both splits."""

    def change(red: Path) -> None:
        for split in ("train", "test"):
            for name in names:
                (red / split / name).mkdir()
                Image.new("RGB", (32, 32)).save(red / split / name / "0.png")

    return change


# --- checkpoints


def about(**changes: Any) -> About:
    """The JSON of a good checkpoint."""
    row = Row({"sample": [50.0]}, {})
    fields: dict[str, Any] = {"study": "s", "run": "adapter", "order": "I", "seed": 0, "backbone": "a" * 64}
    fields |= {"settings": {"lr": 0.1}, "tasks": ["red"], "rows": [row], "losses": [[1.0]]}
    return About(**fields | changes)


def loaded(folder: Path) -> tuple[About, dict[str, torch.Tensor]]:
    """The checkpoint in a folder, as a run asks for it whose `about` this is."""
    return checkpoint.load(folder, "a" * 64, "adapter", {"lr": 0.1})


def stored(weight: float = 1.0, **changes: Any) -> Maker:
    """A checkpoint with another `about` than is asked for."""

    def make(home: Path) -> None:
        checkpoint.save(home / "run", about(**changes), {"x": torch.full((3,), weight)})
        loaded(home / "run")

    return make


def spoilt(file: str, change: Callable[[bytes], bytes]) -> Maker:
    """A checkpoint with one file changed afterwards."""

    def make(home: Path) -> None:
        checkpoint.save(home / "run", about(), {"x": torch.ones(3)})
        path = home / "run" / file
        path.write_bytes(change(path.read_bytes()))
        loaded(home / "run")

    return make


def replaced(**changes: Any) -> Callable[[bytes], bytes]:
    """Other values in a JSON; GONE: without the key."""
    return lambda raw: json.dumps({k: v for k, v in (json.loads(raw) | changes).items() if v is not GONE}).encode()


# --- prepared tasks and results


def prepared(**changes: torch.Tensor) -> Maker:
    """A prepared task with other tensors."""

    def make(home: Path) -> None:
        made = small_study.task(0)
        parts = {f"{s}_{p}": getattr(getattr(made, s), p) for s in tasks.SPLITS for p in ("images", "labels")}
        described = {"name": made.name, "classes": made.classes, "templates": made.templates}
        save_file(parts | changes, home / "red.safetensors", {"task": json.dumps(described)})
        tasks.load(home / "red.safetensors")

    return make


def result(change: Callable[[bytes], bytes]) -> Maker:
    """A result file that was changed."""

    def make(home: Path) -> None:
        (home / "one.json").write_bytes(change(json.dumps(made_result("finetune")).encode()))
        tables.read(home)

    return make
