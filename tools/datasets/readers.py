"""The paper's data sets as they lie on disk: classes, labels and pictures of a split, without decoding a picture.

torchvision's own classes do the reading; nothing is downloaded. Two data sets have readers of their own: Tiny ImageNet,
which torchvision does not know, and CIFAR-100, whose files torchvision would unpickle. The splits are those of MTIL
(Zheng et al., ZSCL, ICCV 2023): official where there are any, else 80/20 by torch seed 42.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, random_split
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

SPLITS = ("train", "test")
SplitName = Literal["train", "test"]
Pictures = list[Path] | np.ndarray  # files, or (N, H, W) or (N, H, W, 3) uint8


class Read(NamedTuple):
    """A split: the data set's own class names in label order, labels, and as many pictures."""

    classes: list[str]
    labels: list[int]
    pictures: Pictures


@dataclass(frozen=True)
class Reader:
    """How a data set is read, its folder below the root, and what must be in that before a reader is asked."""

    read: Callable[[Path, SplitName], Read]
    folder: str
    needs: list[str]


def _aircraft(root: Path, split: SplitName) -> Read:
    found = datasets.FGVCAircraft(root, split)
    return Read(found.classes, found._labels, [Path(f) for f in found._image_files])


def _caltech101(root: Path, split: SplitName) -> Read:
    found = datasets.Caltech101(root)
    folder = Path(found.root, "101_ObjectCategories")
    files = [
        folder / found.categories[label] / f"image_{number:04d}.jpg"
        for label, number in zip(found.y, found.index, strict=True)
    ]
    return _part(found, split, Read(found.categories, found.y, files))


def _dtd(root: Path, split: SplitName) -> Read:
    found = datasets.DTD(root, split)
    return Read(found.classes, found._labels, found._image_files)


def _eurosat(root: Path, split: SplitName) -> Read:
    found = datasets.EuroSAT(root)
    return _part(found, split, Read(found.classes, found.targets, [Path(file) for file, _ in found.samples]))


def _flowers(root: Path, split: SplitName) -> Read:
    found = datasets.Flowers102(root, split)
    return Read(found.classes, found._labels, found._image_files)


def _food(root: Path, split: SplitName) -> Read:
    found = datasets.Food101(root, split)
    return Read(found.classes, found._labels, found._image_files)


def _mnist(root: Path, split: SplitName) -> Read:
    """By torchvision's functions; its class would first look for files that old versions of it have pickled."""
    file = str(root / "MNIST" / "raw" / ("train" if split == "train" else "t10k"))
    labels = read_label_file(f"{file}-labels-idx1-ubyte").tolist()
    return Read(datasets.MNIST.classes, labels, read_image_file(f"{file}-images-idx3-ubyte").numpy())


def _pets(root: Path, split: SplitName) -> Read:
    found = datasets.OxfordIIITPet(root, "trainval" if split == "train" else "test")
    return Read(found.classes, found._labels, found._images)


def _cars(root: Path, split: SplitName) -> Read:
    found = datasets.StanfordCars(root, split)
    return Read(found.classes, [int(c) for _, c in found._samples], [Path(f) for f, _ in found._samples])


def _sun397(root: Path, split: SplitName) -> Read:
    """Sorted by path: torchvision lists the files as the file system does, so its 80/20 differs between machines."""
    found = datasets.SUN397(root)
    pairs = sorted(zip(found._image_files, found._labels, strict=True))
    return _part(found, split, Read(found.classes, [label for _, label in pairs], [file for file, _ in pairs]))


def _part(found: Dataset, split: SplitName, whole: Read) -> Read:
    """The protocol's part of a data set without an official split: the first 80 % after a shuffle, or the rest."""
    first = int(0.8 * len(whole.labels))
    seeded = torch.Generator().manual_seed(42)
    parts = random_split(found, [first, len(whole.labels) - first], seeded)
    kept = parts[SPLITS.index(split)].indices
    return Read(whole.classes, [whole.labels[i] for i in kept], [whole.pictures[i] for i in kept])


def _tinyimagenet(root: Path, split: SplitName) -> Read:
    """Labels by the order of wnids.txt; `test` is the validation split, as the test pictures have no labels."""
    folder = root / "tiny-imagenet-200"
    classes = (folder / "wnids.txt").read_text().split()
    if split == "train":
        files = [f for wnid in classes for f in sorted((folder / "train" / wnid / "images").glob("*.JPEG"))]
        return Read(classes, [classes.index(f.parent.parent.name) for f in files], files)
    rows = [line.split("\t") for line in (folder / "val" / "val_annotations.txt").read_text().splitlines()]
    files = [folder / "val" / "images" / row[0] for row in rows]
    return Read(classes, [classes.index(row[1]) for row in rows], files)


def _cifar100(root: Path, split: SplitName) -> Read:
    folder = root / "cifar-100-python"
    found, meta = _without_code(folder / split), _without_code(folder / "meta")
    pictures = found["data"].pixels().reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Read(list(meta["fine_label_names"]), [int(c) for c in found["fine_labels"]], pictures)


class _Noted:
    """Stands for a numpy object in a pickle: notes what the file says of it, and runs nothing of numpy."""

    def __init__(self, *given: Any) -> None:
        self.given = given

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def pixels(self) -> np.ndarray:
        """The array that was noted, if it is one of bytes."""
        _, shape, kind, fortran, raw = self.state
        if kind.given[0] != "u1":
            raise ValueError(f"its pictures are of type {kind.given[0]!r}, not bytes (u1)")
        return np.frombuffer(raw.encode("latin1"), np.uint8).reshape(shape, order="F" if fortran else "C")


class _Unpickler(pickle.Unpickler):
    """Reads lists, dicts, text and numbers. Of all that a pickle may call, what makes a numpy array is noted."""

    ALLOWED = (("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"))

    def find_class(self, module: str, name: str) -> type[_Noted]:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}: not the published file")
        return _Noted


def _without_code(file: Path) -> dict[str, Any]:
    """A pickle of CIFAR-100 (written by Python 2: its bytes are text here), read without running anything in it."""
    with file.open("rb") as opened:
        try:
            return _Unpickler(opened, encoding="latin1").load()
        except Exception as error:  # a damaged pickle raises whatever it met
            raise ValueError(f"{file} cannot be read: {error}") from error


READERS: dict[str, Reader] = {
    "aircraft": Reader(
        _aircraft,
        "fgvc-aircraft-2013b/data",
        ["variants.txt", "images_variant_train.txt", "images_variant_test.txt", "images"],
    ),
    "caltech101": Reader(_caltech101, "caltech101/101_ObjectCategories", ["BACKGROUND_Google"]),
    "cifar100": Reader(_cifar100, "cifar-100-python", ["meta", "train", "test"]),
    "dtd": Reader(_dtd, "dtd/dtd", ["labels/train1.txt", "labels/test1.txt", "images"]),
    "eurosat": Reader(_eurosat, "eurosat", ["2750"]),
    "flowers": Reader(_flowers, "flowers-102", ["setid.mat", "imagelabels.mat", "jpg"]),
    "food": Reader(_food, "food-101", ["meta/train.json", "meta/test.json", "images"]),
    "mnist": Reader(
        _mnist,
        "MNIST/raw",
        [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")],
    ),
    "pets": Reader(_pets, "oxford-iiit-pet", ["annotations/trainval.txt", "annotations/test.txt", "images"]),
    "cars": Reader(
        _cars,
        "stanford_cars",
        [
            "devkit/cars_meta.mat",
            "devkit/cars_train_annos.mat",
            "cars_test_annos_withlabels.mat",
            "cars_train",
            "cars_test",
        ],
    ),
    "sun397": Reader(_sun397, "SUN397", ["ClassName.txt"]),
    "tinyimagenet": Reader(
        _tinyimagenet, "tiny-imagenet-200", ["wnids.txt", "train", "val/images", "val/val_annotations.txt"]
    ),
}
