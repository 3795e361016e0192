"""Splits of the data sets: the protocol's and CoOp's, with labels at hand and pictures decoded when asked for.

Pictures are not turned as EXIF may say: neither torchvision nor the released code turns them.
"""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from tools.datasets.catalogue import DataError, catalogue
from tools.datasets.formats import FORMATS, SPLITS, Pictures, SplitName


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

    def __len__(self) -> int:
        return len(self.labels)

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
    form = FORMATS[name]
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r}; there are: {', '.join(SPLITS)}")
    for need in form.needs:
        if not (root / form.folder / need).exists():
            raise DataError(f"{name}: {form.folder}/{need} is missing below {root}; get it: {entry.advice(root)}")
    try:
        listing = form.read(root, split)
    except Exception as error:  # torchvision, scipy and json can raise anything
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"{name} below {root} cannot be read ({what}); get it again: {entry.advice(root)}") from error
    _check_classes(f"{name} below {root}", listing.classes, list(entry.classes))
    return _check_labels(Split(f"{name} {split}", *listing))


def _check_classes(where: str, classes: list[str], expected: list[str]) -> None:
    for i, (name, wanted) in enumerate(zip(classes, expected, strict=False)):
        if name != wanted:
            raise DataError(f"{where}: class {i} is {name!r}, but {wanted!r} in the catalogue")
    if len(classes) != len(expected):
        raise DataError(f"{where}: there are {len(classes)} classes, but {len(expected)} in the catalogue")


def _check_labels(split: Split) -> Split:
    if len(split.labels) != len(split.pictures):
        raise DataError(f"{split.name} has {len(split.labels)} labels for {len(split.pictures)} pictures")
    strange = set(split.labels) - set(range(len(split.classes)))
    if strange:
        raise DataError(f"{split.name} has label {min(strange)}, but its {len(split.classes)} classes start at 0")
    return split


def check(name: str, root: Path) -> None:
    """Compares what lies below `root` with the catalogue: counts, a picture of each class, files that are missing.

    Raises DataError that names all that differs; no picture is decoded.
    """
    entry, faults = catalogue(name), []
    for part, count in zip(SPLITS, (entry.train, entry.test), strict=True):
        split = open_split(name, root, part)
        if len(split) != count:
            faults.append(f"{part} has {len(split)} pictures, the catalogue says {count}")
        empty = [split.classes[i] for i in sorted(set(range(len(split.classes))) - set(split.labels))]
        if empty:
            faults.append(f"{part} has no picture of {len(empty)} classes, such as {empty[0]!r}")
        missing = [file for file in split.pictures if isinstance(file, Path) and not file.is_file()]
        if missing:
            faults.append(f"{part} lacks {len(missing)} files, such as {missing[0]}")
    if faults:
        raise DataError(f"{name} below {root}: {'; '.join(faults)}; get it again: {entry.advice(root)}")


@checked(frozen=True)
class CoopSplits:
    """A file of CoOp's: for each picture its path, its label and the name of its class."""

    train: list[tuple[str, int, str]]
    val: list[tuple[str, int, str]]
    test: list[tuple[str, int, str]]


def coop_split(file: Path, root: Path, part: Literal["train", "val", "test"]) -> Split:
    """A split as CoOp publishes it (Zhou et al., IJCV 2022), in a JSON file that may be gzipped.

    root: the folder that the paths in the file start from. Labels and class names are the file's, not the catalogue's.
    Raises DataError if the file or the folder is missing, a row is invalid, or a path leaves the folder.
    """
    if not root.is_dir():
        raise DataError(f"{root} is missing: the folder of pictures that the paths in {file} start from")
    splits = _coop_file(file)
    names: dict[int, str] = {}
    for path, label, name in [*splits.train, *splits.val, *splits.test]:
        if path.startswith("/") or ".." in path.split("/"):
            raise DataError(f"{file}: {path!r} leaves the folder of pictures; get the file again")
        if names.setdefault(label, name) != name:
            raise DataError(f"{file}: label {label} is {names[label]!r}, but {name!r} for {path}")
    if sorted(names) != list(range(len(names))):
        raise DataError(f"{file}: the labels of its {len(names)} classes are not 0 to {len(names) - 1}")
    rows = getattr(splits, part)
    classes = [names[label] for label in range(len(names))]
    return Split(f"{file.name} {part}", classes, [label for _, label, _ in rows], [root / path for path, _, _ in rows])


def _coop_file(file: Path) -> CoopSplits:
    try:
        raw = file.read_bytes()
        text = gzip.decompress(raw) if file.suffix == ".gz" else raw
        return TypeAdapter(CoopSplits).validate_json(text, strict=True)
    except FileNotFoundError:
        raise DataError(f"{file} is missing; CoOp publishes it: https://github.com/KaiyangZhou/CoOp") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{file} is not one of CoOp's splits: {place}: {first['msg']}; get it again") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({error}); get it again") from error
