"""Splits of the data sets, the protocol's and CoOp's: labels at hand, pictures decoded when they are asked for.

Pictures are not turned as EXIF may say: neither torchvision nor the released code turns them.
"""

import gzip
import zlib
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from tools.datasets.catalogue import DataError, catalogue
from tools.datasets.formats import READERS, SPLITS, Pictures, SplitName


@dataclass(frozen=True)
class Split:
    """The pictures of one split.

    classes: the names in the data set (or in CoOp's file), in label order. labels: N numbers. pictures: N files, or
    one array (N, H, W) or (N, H, W, 3) uint8.
    """

    name: str
    classes: list[str]
    labels: list[int]
    pictures: Pictures

    def __post_init__(self) -> None:
        sizes = f"{len(self.pictures)} pictures of {len(self.classes)} classes"
        if len(self.labels) != len(self.pictures) or not set(self.labels) <= set(range(len(self.classes))):
            raise DataError(f"{self.name} has {sizes}, but {len(self.labels)} labels, {sorted(set(self.labels))}")

    def __len__(self) -> int:
        return len(self.labels)

    def few(self, most: int, seed: int) -> "Split":
        """At most so many pictures of each class, drawn by the seed, in the split's order; 0 = all."""
        if not most:
            return self
        rng, labels = np.random.default_rng(seed), np.asarray(self.labels)
        drawn = [rng.permutation(np.flatnonzero(labels == label))[:most] for label in range(len(self.classes))]
        kept = np.sort(np.concatenate(drawn)).tolist()
        pictures = self.pictures[kept] if isinstance(self.pictures, np.ndarray) else [self.pictures[i] for i in kept]
        return Split(self.name, self.classes, [self.labels[i] for i in kept], pictures)

    def picture(self, i: int) -> Image.Image:
        """Picture i in RGB, at its own size. Raises DataError if its file is missing or broken."""
        picture = self.pictures[i]
        if isinstance(picture, np.ndarray):
            return Image.fromarray(picture).convert("RGB")
        try:
            with Image.open(picture) as opened:
                return opened.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{picture} is no readable picture ({error}); get {self.name} again") from error


def open_split(name: str, root: str | Path, split: SplitName) -> Split:
    """A split of a data set below `root`, in the protocol's order; no picture is decoded.

    Raises DataError if something is missing or unreadable, or if the classes are not those of the catalogue.
    """
    entry, root = catalogue(name), Path(root)
    for need in entry.needs:
        if not (root / entry.folder / need).exists():
            raise DataError(f"{name}: {entry.folder}/{need} is missing below {root}; get it: {entry.advice(root)}")
    try:
        listing = READERS[name](root, split)
    except Exception as error:  # torchvision, scipy and json can raise anything
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"{name} below {root} cannot be read ({what}); get it again: {entry.advice(root)}") from error
    for i, (own, expected) in enumerate(zip_longest(listing.classes, entry.classes)):
        if own != expected:
            raise DataError(f"{name} below {root}: class {i} is {own!r}, but {expected!r} in the catalogue")
    return Split(f"{name} {split}", *listing)


def check(name: str, root: Path) -> None:
    """Compares what lies below `root` with the catalogue: counts, and files that are missing.

    Raises DataError that names all that differs; no picture is decoded.
    """
    entry, faults = catalogue(name), []
    for part, count in zip(SPLITS, (entry.train, entry.test), strict=True):
        split = open_split(name, root, part)
        if len(split) != count:
            faults.append(f"{part} has {len(split)} pictures, the catalogue says {count}")
        missing = [file for file in split.pictures if isinstance(file, Path) and not file.is_file()]
        if missing:
            faults.append(f"{part} lacks {len(missing)} files, such as {missing[0]}")
    if faults:
        raise DataError(f"{name} below {root}: {'; '.join(faults)}; get it again: {entry.advice(root)}")


class _Coop(NamedTuple):
    """A file of CoOp's splits (Zhou et al., IJCV 2022), which X-TAIL uses: rows of path, label and class name."""

    train: list[tuple[str, int, str]]
    val: list[tuple[str, int, str]]
    test: list[tuple[str, int, str]]


def open_coop(name: str, root: Path) -> dict[str, Split]:
    """CoOp's splits of a data set below `root`; the files lie in `coop_splits`, packed (.gz) or not."""
    published, folder = catalogue(name).coop or ("", "")
    files = [root / "coop_splits" / f"split_zhou_{published}.json{end}" for end in ("", ".gz")]
    return read_coop(next((file for file in files if file.exists()), files[0]), root / folder)


def read_coop(file: Path, folder: Path) -> dict[str, Split]:
    """The splits train, val and test of a file. Labels and class names are the file's own, not the catalogue's.

    folder: where the paths in the file start. Raises DataError if either is missing, or a row cannot be right.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is missing: the folder of pictures that the paths in {file} start from")
    parts, names = _read_coop_file(file)._asdict(), {}
    for path, label, name in (row for rows in parts.values() for row in rows):
        if path.startswith("/") or ".." in path.split("/"):
            raise DataError(f"{file}: {path!r} leaves the folder of pictures; get the file again")
        if names.setdefault(label, name) != name:
            raise DataError(f"{file}: label {label} is {names[label]!r}, but {name!r} for {path}; get the file again")
    if sorted(names) != list(range(len(names))):
        raise DataError(f"{file}: the labels of its {len(names)} classes are not 0 to {len(names) - 1}")
    classes = [names[label] for label in range(len(names))]
    return {
        part: Split(f"{file.name} {part}", classes, [row[1] for row in rows], [folder / row[0] for row in rows])
        for part, rows in parts.items()
    }


def _read_coop_file(file: Path) -> _Coop:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            return TypeAdapter(_Coop).validate_json(opened.read(), strict=True)
    except FileNotFoundError:
        raise DataError(f"{file} is missing; CoOp publishes it: https://github.com/KaiyangZhou/CoOp") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{file} is no file of CoOp's splits: {place}: {first['msg']}; get it again") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({error}); get it again") from error
