"""Tasks and reference pictures from the paper's data sets (a source of lib/data/folders.py), decoded only once.

`data/decoded/<data set>--<splits>--<pixels>.safetensors` is a prepared task (lib/data/tasks.py) that all studies share
that take as many pictures of a class (tasks.train_per_class, test_per_class).
It is written in chunks, one after the other: that needs no memory for 15 GB of pictures, and a full disk is an error
(a process that writes to a mapped file would die of it).
"""

import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from lib.data.folders import fitted
from lib.data.task_settings import ReferenceSettings, TaskSettings
from lib.files import whole
from lib.study.log import Progress
from tools.datasets.catalogue import NAMES, catalogue
from tools.datasets.formats import SPLITS
from tools.datasets.splits import Split, open_coop, open_split

__all__ = ["NAMES", "prepare", "reference"]  # what a source has

CHUNK = 512  # pictures that are in memory at the same time


def prepare(name: str, settings: TaskSettings, size: int, root: Path, file: Path) -> None:
    """Gives the decoded data set a second name, `file`: a copy would take 15 GB. Decodes it if that is not done."""
    most: dict[str, int] = dict(zip(SPLITS, settings.per_class(name), strict=True))
    few = f"--{most['train']}-{most['test']}-s{settings.seed}" if any(most.values()) else ""
    decoded = root / "data" / "decoded" / f"{name}--{settings.splits}--{size}{few}.safetensors"
    if not decoded.exists():
        classes, whole_splits = open_splits(name, root / settings.root, settings.splits)
        splits = {part: split.few(most[part], settings.seed) for part, split in whole_splits.items()}
        about = {"name": name, "classes": classes, "templates": catalogue(name).templates}
        write(decoded, about, splits, size)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    os.link(decoded, file)


def reference(settings: ReferenceSettings, template: str, size: int, root: Path) -> tuple[np.ndarray, list[str]]:
    """Training pictures (N, H, W, 3) uint8 of a data set, drawn by the seed, and captions with its class names."""
    split, names = open_split(settings.name, root / settings.root, "train"), catalogue(settings.name).names
    chosen = settings.choose(len(split))
    captions = [template.format(names[split.labels[i]]) for i in chosen]
    return np.stack([fitted(split.picture(i), size) for i in chosen]), captions


def open_splits(name: str, root: Path, kind: str) -> tuple[list[str], dict[str, Split]]:
    """Class names for prompts, and both splits: the protocol's, or CoOp's (`coop`) if it has them."""
    if kind == "coop" and catalogue(name).coop:
        parts = open_coop(name, root)
        return [c.replace("_", " ") for c in parts["train"].classes], {part: parts[part] for part in SPLITS}
    return catalogue(name).names, {part: open_split(name, root, part) for part in SPLITS}


def write(file: Path, about: dict, splits: dict[str, Split], size: int) -> None:
    """Writes a prepared task; an interrupted call leaves no file. Raises DiskError for a full or read-only disk."""
    ordered = sorted(splits.items())
    labels = {f"{part}_labels": np.asarray(split.labels, "<i8") for part, split in ordered}
    shapes = {f"{part}_images": (len(split), 3, size, size) for part, split in ordered}
    with whole(file) as partial, partial.open("wb") as out:
        out.write(_header({"task": json.dumps(about)}, labels, shapes))
        for row in labels.values():
            out.write(row.tobytes())
        for part, split in ordered:
            for rows in _rows(split, size, f"{about['name']}, {part}"):
                out.write(rows.tobytes())


def _header(metadata: dict[str, str], labels: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> bytes:
    """The head of a safetensors file with int64 labels and then uint8 images, padded to 8 bytes as safetensors does."""
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, shape in ({name: row.shape for name, row in labels.items()} | shapes).items():
        dtype, width = ("I64", 8) if name in labels else ("U8", 1)
        begin, end = end, end + width * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _rows(split: Split, size: int, label: str) -> Iterator[np.ndarray]:
    """The split's pictures in order, in chunks (n, 3, size, size) uint8; each core decodes some of them."""
    progress = Progress(label, len(split))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(split), CHUNK):
            numbers = range(first, min(first + CHUNK, len(split)))
            squares = pool.map(lambda i: fitted(split.picture(i), size).transpose(2, 0, 1), numbers)
            yield np.stack(list(squares))
            progress.report(numbers.stop, "pictures")
