"""The form in which each data set is published, and the split of the protocol: class names, labels and pictures.

torchvision's classes read the lists; no picture is decoded and nothing is downloaded. Tiny ImageNet has no class in
torchvision, and torchvision would unpickle CIFAR-100 and MNIST. The splits are MTIL's (Zheng et al., ZSCL, ICCV 2023):
the official split where there is one, else 80/20 by torch's seed 42.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

from tools.datasets import cifar100

SPLITS = ("train", "test")
SplitName = Literal["train", "test"]
Pictures = list[Path] | np.ndarray  # files, or (N, H, W) or (N, H, W, 3) uint8


class Listing(NamedTuple):
    """A split: the data set's own class names in label order, the labels, and as many pictures."""

    classes: list[str]
    labels: list[int]
    pictures: Pictures


Reader = Callable[[Path, SplitName], Listing]


@dataclass(frozen=True)
class Format:
    """How to read a data set, and its folder below the root. needs: what must be in that folder, between blanks."""

    read: Reader
    folder: str
    needs: str


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


def _cifar100(root: Path, split: SplitName) -> Listing:
    return Listing(*cifar100.read(root / "cifar-100-python", split))


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


FORMATS = {
    "aircraft": Format(
        _official(datasets.FGVCAircraft),
        "fgvc-aircraft-2013b/data",
        "variants.txt images_variant_train.txt images_variant_test.txt images",
    ),
    "caltech101": Format(_caltech101, "caltech101/101_ObjectCategories", "BACKGROUND_Google"),
    "cars": Format(
        _cars,
        "stanford_cars",
        "devkit/cars_meta.mat devkit/cars_train_annos.mat cars_test_annos_withlabels.mat cars_train cars_test",
    ),
    "cifar100": Format(_cifar100, "cifar-100-python", "meta train test"),
    "dtd": Format(_official(datasets.DTD), "dtd/dtd", "labels/train1.txt labels/test1.txt images"),
    "eurosat": Format(_eurosat, "eurosat", "2750"),
    "flowers": Format(_official(datasets.Flowers102), "flowers-102", "setid.mat imagelabels.mat jpg"),
    "food": Format(_official(datasets.Food101), "food-101", "meta/train.json meta/test.json images"),
    "mnist": Format(
        _mnist,
        "MNIST/raw",
        "train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte",
    ),
    "pets": Format(
        _official(datasets.OxfordIIITPet, train="trainval", files="_images"),
        "oxford-iiit-pet",
        "annotations/trainval.txt annotations/test.txt images",
    ),
    "sun397": Format(_sun397, "SUN397", "ClassName.txt"),
    "tinyimagenet": Format(_tinyimagenet, "tiny-imagenet-200", "wnids.txt train val/images val/val_annotations.txt"),
}
