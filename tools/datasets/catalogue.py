"""The data sets of the paper (MTIL's 11 and Tiny ImageNet) and CoOp's splits of them: facts, splits, pictures.

The facts are committed (`data/catalogue/<name>.yaml`). The pictures lie below a root of the user's, in the form that
torchvision's classes read (tools/datasets/readers.py), and are decoded one by one; they are not turned as EXIF may say, since
torchvision and the released code do not either.
"""

import functools
import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from PIL import Image

from lib.settings import UniqueKeyLoader, build
from lib.study.paths import DATA
from tools.datasets.readers import READERS, SPLITS, Pictures, SplitName

CATALOGUE = DATA / "catalogue"
COOP_SPLITS = ("train", "val", "test")


class DataError(ValueError):
    """Data that is missing or is not what the catalogue says; the message names the file and what to do."""


@dataclass(frozen=True)
class File:
    """One download: the folder below the root where it is unpacked (gz: one file), or put as it is (plain).

    inner: an archive inside this one, of which only the content is wanted, in the same place.
    """

    url: str
    checksum: str
    to: str
    form: Literal["tar", "zip", "gz", "plain"]
    inner: str | None = None


@dataclass(frozen=True)
class Entry:
    """The facts of a data set.

    classes: the data set's own names in label order, each with the name that prompts use. templates: the one for
    training first. train, test: pictures in the protocol's splits. by_hand: what to put where if nothing is downloaded.
    """

    classes: dict[str, str]
    templates: list[str]
    train: int
    test: int
    source: str
    licence: str | None = None
    files: list[File] = field(default_factory=list)
    by_hand: str | None = None

    @property
    def names(self) -> list[str]:
        """The names for prompts, in label order."""
        return list(self.classes.values())

    def advice(self, root: Path) -> str:
        """How to get the data set below a root: for messages."""
        steps = [f"{'put' if file.form == 'plain' else 'unpack'} {file.url} in {root / file.to}" for file in self.files]
        return "; ".join(steps + ([f"by hand: {self.by_hand}"] if self.by_hand else []))


@dataclass(frozen=True)
class Split:
    """Pictures of one split: labels (N,) at hand, pictures decoded when asked for.

    classes: the names that the data set (or CoOp's file) itself gives, in label order.
    """

    name: str
    classes: list[str]
    labels: list[int]
    pictures: Pictures

    def __len__(self) -> int:
        return len(self.labels)

    def picture(self, i: int) -> Image.Image:
        """Picture i in RGB, at its own size. Raises DataError if it is missing or broken."""
        found = self.pictures[i]
        if isinstance(found, np.ndarray):
            return Image.fromarray(found).convert("RGB")
        try:
            with Image.open(found) as opened:
                return opened.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{found} is no readable picture ({error}); get {self.name} again") from error

    def where(self, i: int) -> str:
        """The file of picture i, or its number in a file of many: for messages."""
        found = self.pictures[i]
        return str(found) if isinstance(found, Path) else f"picture {i} of {self.name}"


@functools.cache  # parsing 400 names takes a while
def catalogue(name: str) -> Entry:
    """The facts of a data set. Raises DataError for an unknown name, ParamsError for a file that is not in order."""
    if name not in READERS:
        raise DataError(f"there is no data set {name!r}; there are: {', '.join(READERS)}")
    file = CATALOGUE / f"{name}.yaml"
    return build(Entry, yaml.load(file.read_text(), UniqueKeyLoader), f"data/catalogue/{file.name}")


def open_split(name: str, root: str | Path, split: SplitName) -> Split:
    """A split of a data set below `root`, in the protocol's order; no picture is decoded.

    Raises DataError if something is missing, cannot be read, or has other classes than the catalogue says.
    """
    entry, reader, root = catalogue(name), READERS[name], Path(root)
    _one_of(split, SPLITS)
    for need in reader.needs:
        if not (root / reader.folder / need).exists():
            raise DataError(
                f"{name}: {reader.folder}/{need} is missing below {root}; to have it there: {entry.advice(root)}"
            )
    try:
        found = reader.read(root, split)
    except Exception as error:  # torchvision, scipy and json raise whatever they met
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"{name} below {root} cannot be read ({what}); again: {entry.advice(root)}") from error
    _same_classes(f"{name} below {root}", found.classes, list(entry.classes))
    return _whole(Split(f"{name} {split}", *found))


def _one_of(split: str, known: Sequence[str]) -> None:
    if split not in known:
        raise DataError(f"there is no split {split!r}; there are: {', '.join(known)}")


def _same_classes(where: str, found: list[str], expected: list[str]) -> None:
    for i, (mine, theirs) in enumerate(zip(found, expected, strict=False)):
        if mine != theirs:
            raise DataError(f"{where}: class {i} is {mine!r}, in the catalogue it is {theirs!r}")
    if len(found) != len(expected):
        raise DataError(f"{where}: there are {len(found)} classes, in the catalogue {len(expected)}")


def _whole(split: Split) -> Split:
    """The split, if there is a picture for each label and a class for each."""
    if len(split.labels) != len(split.pictures):
        raise DataError(f"{split.name} has {len(split.labels)} labels for {len(split.pictures)} pictures")
    strange = set(split.labels) - set(range(len(split.classes)))
    if strange:
        raise DataError(f"{split.name} has label {min(strange)}; it has {len(split.classes)} classes, from 0")
    return split


def check(name: str, root: str | Path) -> None:
    """Compares what is below `root` with the catalogue: counts, a picture of each class, files that are not there.

    Raises DataError that names all that differs; no picture is decoded.
    """
    entry, root, faults = catalogue(name), Path(root), []
    for part, count in zip(SPLITS, (entry.train, entry.test), strict=True):
        split = open_split(name, root, part)
        if len(split) != count:
            faults.append(f"{part} has {len(split)} pictures, the catalogue says {count}")
        empty = [split.classes[i] for i in sorted(set(range(len(split.classes))) - set(split.labels))]
        if empty:
            faults.append(f"{part} has no picture of {len(empty)} classes, such as {empty[0]!r}")
        gone = [file for file in split.pictures if isinstance(file, Path) and not file.is_file()]
        if gone:
            faults.append(f"{part} lacks {len(gone)} files, such as {gone[0]}")
    if faults:
        raise DataError(f"{name} below {root}: {'; '.join(faults)}; to have all: {entry.advice(root)}")


def coop_split(file: str | Path, root: str | Path, split: Literal["train", "val", "test"]) -> Split:
    """A split as CoOp publishes it (Zhou et al., IJCV 2022): a JSON file, plain or gzipped, of path, label, class name.

    root: the folder of pictures that the paths start from. Labels and names are the file's own (not the catalogue's).
    Raises DataError if the file or the folder is missing, a row is not as it should be, or a path leaves the root.
    """
    file, root = Path(file), Path(root)
    _one_of(split, COOP_SPLITS)
    if not root.is_dir():
        raise DataError(f"{root} is missing: the folder of pictures that the paths in {file} start from")
    rows = {part: [_row(row, f"{file}: {part}[{i}]") for i, row in enumerate(found)] for part, found in _json(file)}
    names: dict[int, str] = {}
    for path, label, name in (row for part in COOP_SPLITS for row in rows[part]):
        if names.setdefault(label, name) != name:
            raise DataError(f"{file}: label {label} is {names[label]!r}, and {name!r} for {path}")
    if sorted(names) != list(range(len(names))):
        raise DataError(f"{file}: the labels of its {len(names)} classes are not 0 to {len(names) - 1}")
    paths, labels = [root / path for path, _, _ in rows[split]], [label for _, label, _ in rows[split]]
    return Split(f"{file.name} {split}", [names[i] for i in range(len(names))], labels, paths)


def _json(file: Path) -> list[tuple[str, list[Any]]]:
    """The three lists of a file of CoOp's."""
    try:
        packed = file.read_bytes()
        raw = json.loads(gzip.decompress(packed) if file.suffix == ".gz" else packed)
        return [(part, list(raw[part])) for part in COOP_SPLITS]
    except FileNotFoundError:
        raise DataError(f"{file} is missing; CoOp publishes it: https://github.com/KaiyangZhou/CoOp") from None
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{file} is no split of CoOp's, with {', '.join(COOP_SPLITS)} ({error!r})") from error


def _row(row: Any, where: str) -> tuple[str, int, str]:
    match row:
        case [str(path), int(label), str(name)]:
            if path.startswith("/") or ".." in path.split("/"):
                raise DataError(f"{where} leaves the folder of pictures: {path!r}")
            return path, label, name
    raise DataError(f"{where} is {row!r}; expected [path, label, class name]")
