"""Makers of bad input: each puts it where a user would, in a folder, and asks the public entry that meets it first."""

import copy
import io
import json
import struct
import tarfile
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
from lib.moe import MoECLIP, MoEConfig
from lib.report import tables
from lib.study import checkpoint, params, plan
from lib.study.checkpoint import About
from lib.study.evaluate import Row
from lib.study.paths import ROOT
from tests.support import made_results, small_study
from tools.datasets import archive

Maker = Callable[[Path], Any]  # given an empty folder, asks for what must be refused

COMMITTED = yaml.safe_load((ROOT / "params.yaml").read_text())


# --- params and plan


def given(text: str | bytes) -> Maker:
    """A params file that reads so."""

    def make(folder: Path) -> None:
        (folder / "params.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
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
    return given(yaml.safe_dump(raw, sort_keys=False))


def setting(name: str, **changes: Any) -> Maker:
    """A method whose settings differ from those of the small study."""
    return lambda _: small_study.method(name, **changes)


def study_folder(study: str, folder: str) -> Maker:
    """A study whose name is not that of its folder."""

    def make(home: Path) -> None:
        (home / "studies" / folder).mkdir(parents=True)
        (home / "studies" / folder / "params.yaml").write_text(yaml.safe_dump(COMMITTED | {"study": study}))
        plan.files(home / "studies" / folder)

    return make


# --- pictures and classes


def task(*changes: Callable[[Path], object], **settings: Any) -> Maker:
    """The small study's red task, after changes to its folder of pictures."""

    def make(folder: Path) -> None:
        small_study.write_pictures(folder)
        for change in changes:
            change(folder / "red")
        wanted = small_study.study({"tasks.root": "."} | {f"tasks.{k}": v for k, v in settings.items()})
        made = folders.make("red", wanted.tasks, 32, folder)
        tasks.check_prompts(made, small_study.backbone().tokenizer)

    return make


def picture(content: bytes | Image.Image, name: str = "0.png", **how: Any) -> Maker:
    """One training picture of the class upright is this."""

    def change(red: Path) -> None:
        file = red / "train" / "upright" / name
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            content.save(file, **how)

    return task(change)


def png_header(wide: int, high: int) -> bytes:
    """A PNG that says it has so many pixels, and holds next to none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", wide, high, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def packed(kind: str) -> bytes:
    """A whole picture as the bytes of a file."""
    held = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(held, kind)
    return held.getvalue()


def classes(*names: str) -> Callable[[Path], None]:
    """Further classes of these names, with a picture in both splits."""

    def change(red: Path) -> None:
        for split in ("train", "test"):
            for name in names:
                (red / split / name).mkdir()
                Image.new("RGB", (32, 32)).save(red / split / name / "0.png")

    return change


def only(count: int) -> Callable[[Path], None]:
    """Just the first classes stay."""

    def change(red: Path) -> None:
        for split in ("train", "test"):
            for folder in sorted((red / split).iterdir())[count:]:
                folder.rename(red / f"{split}-{folder.name}")

    return change


# --- archives


def tar(name: str, **changes: Any) -> Maker:
    """A tar with one member."""

    def make(folder: Path) -> None:
        member = tarfile.TarInfo(name)
        for key, value in changes.items():
            setattr(member, key, value)
        with tarfile.open(folder / "set.tar", "w") as made:
            made.addfile(member)
        archive.unpack(folder / "set.tar", folder / "out", "tar")

    return make


def not_a_tar(folder: Path) -> None:
    """An error page that was saved as an archive."""
    (folder / "set.tgz").write_text("<html>")
    archive.unpack(folder / "set.tgz", folder / "out", "tar")


# --- checkpoints

STATE = {"experts": torch.ones(2, 3)}


def about(**changes: Any) -> About:
    """What a good checkpoint says."""
    row = Row({"sample": [50.0]}, {})
    held: dict[str, Any] = {"study": "s", "run": "adapter", "order": "I", "seed": 0, "backbone": "a" * 64}
    held |= {"settings": {"lr": 0.1}, "tasks": ["red"], "rows": [row], "losses": [[1.0]]}
    return About(**held | changes)


def stored(state: dict[str, torch.Tensor] | None = None, **changes: Any) -> Maker:
    """A checkpoint that says something else than is asked for."""

    def make(folder: Path) -> None:
        checkpoint.save(folder / "run", about(**changes), state or STATE)
        checkpoint.load(folder / "run", "a" * 64, "adapter", {"lr": 0.1})

    return make


def spoilt(file: str, change: Callable[[bytes], bytes]) -> Maker:
    """A checkpoint with one file changed afterwards."""

    def make(folder: Path) -> None:
        checkpoint.save(folder / "run", about(), STATE)
        path = folder / "run" / file
        path.write_bytes(change(path.read_bytes()))
        checkpoint.load(folder / "run", "a" * 64, "adapter", {"lr": 0.1})

    return make


def said(**changes: Any) -> Callable[[bytes], bytes]:
    """Other values in a checkpoint's about.json."""
    return lambda raw: json.dumps(json.loads(raw) | changes).encode()


def mixture(width: int = 32, change: Callable[[dict], object] = lambda _: None, **shape: Any) -> Maker:
    """The state of a mixture of another shape, given to one of 4 experts, K = 2, R = 4, D = 32."""

    def model(width: int, **changes: Any) -> MoECLIP:
        config = small_study.CONFIG | {"width": width}
        clip = small_study.tiny_clip.build(config, seed=0)
        known: dict[str, Any] = {"experts": 4, "top_k": 2, "bottleneck": 4}
        made = MoECLIP(clip, MoEConfig(**known | changes))
        made.add_task()
        return made

    def make(_: Path) -> None:
        state = model(width, **shape).adapter_state()
        change(state)
        model(32).load_adapter_state(state)

    return make


# --- prepared tasks, results


def prepared(**changes: torch.Tensor) -> Maker:
    """A prepared task with other tensors."""

    def make(folder: Path) -> None:
        tasks.save(small_study.task(0), folder / "red.safetensors")
        made = tasks.load(folder / "red.safetensors")
        held = {f"{s}_{p}": getattr(getattr(made, s), p).clone() for s in tasks.SPLITS for p in ("images", "labels")}
        said_of_it = {"name": made.name, "classes": made.classes, "templates": made.templates}
        save_file(held | changes, folder / "red.safetensors", {"task": json.dumps(said_of_it)})
        tasks.load(folder / "red.safetensors")

    return make


def result(text: str | None = None, **changes: Any) -> Maker:
    """A result with other values (None: without the key), or another text."""

    def make(folder: Path) -> None:
        content = {k: v for k, v in (made_results.result("finetune") | changes).items() if v is not None}
        (folder / "results" / "mini").mkdir(parents=True)
        (folder / "results" / "mini" / "finetune--I--s0.json").write_text(text or json.dumps(content))
        tables.read(folder / "results" / "mini")

    return make
