"""Data sets decoded once: uint8 pictures at the backbone's size in a file that is mapped into memory.

`data/decoded/<data set>--<splits>--<pixels>.safetensors` has what a prepared task has, for all studies alike; a study's
own file is a second name of it (a hard link). It is written row by row by as many threads as there are cores, and
read as far as rows are asked for, so neither needs the memory that 15 GB of pictures would take.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lib.data.folders import fitted
from lib.data.reference import ReferenceSettings, draw
from lib.data.tasks import TaskSettings
from lib.files import whole
from lib.study.paths import DATA, ROOT
from lib.study.progress import Progress
from tools.datasets.catalogue import Split, catalogue, coop_split, open_split

Shapes = dict[str, tuple[str, tuple[int, ...]]]  # by name: type as safetensors names it, and shape
TYPES = {"I64": np.dtype("<i8"), "U8": np.dtype("u1")}
# of CoOp's splits: the file's name, and the folder that its paths start from
COOP = {
    "caltech101": ("Caltech101", "caltech101/101_ObjectCategories"),
    "dtd": ("DescribableTextures", "dtd/dtd/images"),
    "eurosat": ("EuroSAT", "eurosat/2750"),
    "flowers": ("OxfordFlowers", "flowers-102/jpg"),
    "food": ("Food101", "food-101/images"),
    "pets": ("OxfordPets", "oxford-iiit-pet/images"),
    "cars": ("StanfordCars", "stanford_cars"),
    "sun397": ("SUN397", "SUN397"),
}


def ensure(name: str, params: TaskSettings, size: int) -> Path:
    """The decoded file of a data set, made now if it is not there. Raises DataError for what is missing or broken."""
    file = DATA / "decoded" / f"{name}--{params.splits}--{size}.safetensors"
    if not file.exists():
        classes, splits = opened(name, ROOT / params.root, params.splits)
        about = {"name": name, "classes": classes, "templates": catalogue(name).templates}
        _write(file, about, splits, size)
    return file


def opened(name: str, root: Path, splits: str) -> tuple[list[str], dict[str, Split]]:
    """Class names as prompts use them, and both splits of a data set: the protocol's, or CoOp's where it has one."""
    if splits == "coop" and name in COOP:
        published, folder = COOP[name]
        files = [root / "coop_splits" / f"split_zhou_{published}.json{end}" for end in ("", ".gz")]
        file = next((file for file in files if file.exists()), files[0])
        parts = {part: coop_split(file, root / folder, part) for part in ("train", "test")}
        return [c.replace("_", " ") for c in parts["train"].classes], parts
    return catalogue(name).names, {part: open_split(name, root, part) for part in ("train", "test")}


def _write(file: Path, about: dict, splits: dict[str, Split], size: int) -> None:
    shapes: Shapes = {f"{part}_labels": ("I64", (len(split),)) for part, split in splits.items()}
    shapes |= {f"{part}_images": ("U8", (len(split), 3, size, size)) for part, split in splits.items()}
    with writing(file, shapes, {"task": json.dumps(about)}) as arrays:
        for part, split in splits.items():
            arrays[f"{part}_labels"][:] = split.labels
            _decode(split, size, arrays[f"{part}_images"], f"{about['name']}, {part}")


def _decode(split: Split, size: int, rows: np.ndarray, label: str, chunk: int = 512) -> None:
    """Fills rows (N, 3, size, size); the result does not depend on which thread takes which picture."""

    def fill(i: int) -> None:
        rows[i] = fitted(split.picture(i), size).transpose(2, 0, 1)

    progress = Progress(label, len(split))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(split), chunk):
            list(pool.map(fill, range(first, min(first + chunk, len(split)))))
            progress.count(min(first + chunk, len(split)), "pictures")


@contextmanager
def writing(file: Path, shapes: Shapes, metadata: dict[str, str]) -> Iterator[dict[str, np.ndarray]]:
    """Arrays of zeros to be filled, which are a safetensors file afterwards; it has its name only when it is whole.

    Raises DiskError for a full or read-only disk.
    """
    begin, places = 0, {}
    for name, (kind, shape) in sorted(shapes.items(), key=lambda item: (-TYPES[item[1][0]].itemsize, item[0])):
        end = begin + TYPES[kind].itemsize * int(np.prod(shape))
        places[name], begin = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}, end
    header = json.dumps({"__metadata__": metadata} | places, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    offsets = {name: 8 + len(header) + place["data_offsets"][0] for name, place in places.items()}
    with whole(file) as partial:
        with partial.open("wb") as out:
            out.write(len(header).to_bytes(8, "little") + header)
            # all the room is taken now: writing to a mapped file when there is none ends the process
            os.posix_fallocate(out.fileno(), 0, 8 + len(header) + begin)
        maps = {n: np.memmap(partial, TYPES[kind], "r+", offsets[n], shape) for n, (kind, shape) in shapes.items()}
        yield dict(maps)
        for array in maps.values():
            array.flush()


def prepare(name: str, settings: TaskSettings, size: int, root: Path, file: Path) -> None:
    """Decodes a data set if it is not decoded yet, and gives the decoded file a second name: a copy would take 15 GB."""
    decoded = ensure(name, settings, size)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    os.link(decoded, file)


def reference(settings: ReferenceSettings, template: str, size: int, root: Path) -> tuple[np.ndarray, list[str]]:
    """Training pictures (N, H, W, 3) of a data set, drawn by the seed, and captions by its class names."""
    split, names = open_split(settings.name, root / settings.root, "train"), catalogue(settings.name).names
    chosen = draw(settings, len(split))
    captions = [template.format(names[split.labels[i]]) for i in chosen]
    return np.stack([fitted(split.picture(i), size) for i in chosen]), captions
