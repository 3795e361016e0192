"""Splits of the data sets: labels at hand, pictures decoded when they are asked for.

Pictures are not turned as EXIF may say: neither torchvision nor the released code turns them.
"""

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

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

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.pictures):
            raise DataError(f"{self.name} has {len(self.labels)} labels for {len(self.pictures)} pictures")
        strange = set(self.labels) - set(range(len(self.classes)))
        if strange:
            raise DataError(f"{self.name} has label {min(strange)}, but {len(self.classes)} classes")

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
    for need in form.needs.split():
        if not (root / form.folder / need).exists():
            raise DataError(f"{name}: {form.folder}/{need} is missing below {root}; get it: {entry.advice(root)}")
    try:
        listing = form.read(root, split)
    except Exception as error:  # torchvision, scipy and json can raise anything
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"{name} below {root} cannot be read ({what}); get it again: {entry.advice(root)}") from error
    for i, (own, expected) in enumerate(zip_longest(listing.classes, entry.classes)):
        if own != expected:
            raise DataError(f"{name} below {root}: class {i} is {own!r}, but {expected!r} in the catalogue")
    return Split(f"{name} {split}", *listing)


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
