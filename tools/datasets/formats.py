"""The form in which each data set is published, and the split of the protocol: class names, labels and pictures.

torchvision's classes read the lists (but would unpickle CIFAR-100 and MNIST); no picture is decoded and nothing is
downloaded. The splits are MTIL's (Zheng et al., ZSCL, ICCV 2023): the official split where there is one, else 80/20 by
torch's seed 42.
"""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

SPLITS = ("train", "test")
SplitName = Literal["train", "test"]
Pictures = list[Path] | np.ndarray  # files, or (N, H, W) or (N, H, W, 3) uint8


class Listing(NamedTuple):
    """A split: the data set's own class names in label order, the labels, and as many pictures."""

    classes: list[str]
    labels: list[int]
    pictures: Pictures


Reader = Callable[[Path, SplitName], Listing]


def _official(dataset_class: Any, train: str = "train", files: str = "_image_files") -> Reader:
    """Reads a data set of torchvision with an official split; `train` is the name of its training part."""

    def read(root: Path, split: SplitName) -> Listing:
        dataset = dataset_class(root, train if split == "train" else "test")
        return Listing(dataset.classes, dataset._labels, [Path(file) for file in getattr(dataset, files)])

    return read


def _drawn(split: SplitName, classes: list[str], labels: list[int], files: list[Path]) -> Listing:
    """The part of a data set without an official split: the first 80 % after a shuffle, or the rest."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(42)).tolist()
    first = int(0.8 * len(labels))
    chosen = order[:first] if split == "train" else order[first:]
    return Listing(classes, [labels[i] for i in chosen], [files[i] for i in chosen])


def _caltech101(root: Path, split: SplitName) -> Listing:
    dataset = datasets.Caltech101(root)
    folder, classes = Path(dataset.root, "101_ObjectCategories"), dataset.categories
    numbered = zip(dataset.y, dataset.index, strict=True)
    files = [folder / classes[label] / f"image_{number:04d}.jpg" for label, number in numbered]
    return _drawn(split, classes, dataset.y, files)


def _eurosat(root: Path, split: SplitName) -> Listing:
    dataset = datasets.EuroSAT(root)
    return _drawn(split, dataset.classes, dataset.targets, [Path(file) for file, _ in dataset.samples])


def _sun397(root: Path, split: SplitName) -> Listing:
    """Sorted by path: torchvision lists the files in the file system's order, which differs between machines."""
    dataset = datasets.SUN397(root)
    pairs = sorted(zip(dataset._image_files, dataset._labels, strict=True))
    return _drawn(split, dataset.classes, [label for _, label in pairs], [file for file, _ in pairs])


def _cars(root: Path, split: SplitName) -> Listing:
    dataset = datasets.StanfordCars(root, split)
    files, labels = zip(*dataset._samples, strict=True)
    return Listing(dataset.classes, [int(label) for label in labels], [Path(file) for file in files])


def _mnist(root: Path, split: SplitName) -> Listing:
    """With torchvision's functions: its class would first look for the pickles of its older versions."""
    part = root / "MNIST" / "raw" / ("train" if split == "train" else "t10k")
    labels = read_label_file(f"{part}-labels-idx1-ubyte").tolist()
    return Listing(datasets.MNIST.classes, labels, read_image_file(f"{part}-images-idx3-ubyte").numpy())


class _Recorded:
    """Stands in for a numpy object of the pickle: records its arguments and its state, and runs no numpy code."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Refuses every name in a pickle except the three that make a numpy array, and records these."""

    def find_class(self, module: str, name: str) -> type[_Recorded]:
        if f"{module}.{name}" not in ("numpy.core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype"):
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}: not the published file")
        return _Recorded


def _load(file: Path) -> dict[str, Any]:
    try:
        return _Unpickler(io.BytesIO(file.read_bytes()), encoding="latin1").load()  # Python 2 wrote it: bytes are text
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"{file} cannot be read: {error}") from error


def _cifar100(root: Path, split: SplitName) -> Listing:
    """Without unpickling: reads lists, dicts, text, numbers, and the one array from what numpy would be called with."""
    content, meta = _load(root / "cifar-100-python" / split), _load(root / "cifar-100-python" / "meta")
    _, shape, dtype, fortran, raw = content["data"].state
    if fortran or dtype.arguments[0] != "u1":
        raise ValueError(f"the pictures of {split} are of type {dtype.arguments[0]!r}, not rows of bytes (u1)")
    pixels = np.frombuffer(raw.encode("latin1"), np.uint8).reshape(shape).reshape(-1, 3, 32, 32)
    labels = [int(label) for label in content["fine_labels"]]
    return Listing(meta["fine_label_names"], labels, pixels.transpose(0, 2, 3, 1))


def _tinyimagenet(root: Path, split: SplitName) -> Listing:
    """Labels in the order of wnids.txt; `test` is the validation split, as the test pictures have no labels."""
    folder = root / "tiny-imagenet-200"
    classes = (folder / "wnids.txt").read_text().split()
    if split == "train":
        files = [file for wnid in classes for file in sorted((folder / "train" / wnid / "images").glob("*.JPEG"))]
        return Listing(classes, [classes.index(file.parent.parent.name) for file in files], files)
    rows = [line.split("\t") for line in (folder / "val" / "val_annotations.txt").read_text().splitlines()]
    files = [folder / "val" / "images" / row[0] for row in rows]
    return Listing(classes, [classes.index(row[1]) for row in rows], files)


READERS: dict[str, Reader] = {
    "aircraft": _official(datasets.FGVCAircraft),
    "caltech101": _caltech101,
    "cars": _cars,
    "cifar100": _cifar100,
    "dtd": _official(datasets.DTD),
    "eurosat": _eurosat,
    "flowers": _official(datasets.Flowers102),
    "food": _official(datasets.Food101),
    "mnist": _mnist,
    "pets": _official(datasets.OxfordIIITPet, train="trainval", files="_images"),
    "sun397": _sun397,
    "tinyimagenet": _tinyimagenet,
}
