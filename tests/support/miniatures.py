"""The paper's data sets in miniature: all classes, tiny pictures, in the very form that they are published in.

A class has two pictures for training and one for the test (where the protocol cuts by chance: three). Each picture
is of one colour, which says its label.
"""

import functools
import io
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import Flowers102

from tools.datasets.catalogue import NAMES, catalogue

PER_CLASS = {"train": 2, "test": 1}


def colour(label: int) -> tuple[int, int, int]:
    """A colour for each of 512 labels, far enough apart for JPEG."""
    red, green, blue = label // 64, label // 8 % 8, label % 8
    return 16 + 32 * red, 16 + 32 * green, 16 + 32 * blue


def label_of(picture: Image.Image) -> int:
    """The label that a colour says."""
    red, green, blue = (int(level) // 32 for level in np.asarray(picture)[3, 3])
    return 64 * red + 8 * green + blue


def grey(label: int) -> int:
    """A grey for each of MNIST's labels."""
    return 20 * label + 10


def grey_label_of(picture: Image.Image) -> int:
    """The label that a grey says; the picture has it in all three channels."""
    (level,) = set(np.asarray(picture).flat)
    return int(level) // 20


def allow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets miniatures through torchvision's checksums of Flowers' two lists."""
    unchecked = {part: (file, None) for part, (file, _) in Flowers102._file_dict.items()}
    monkeypatch.setattr(Flowers102, "_file_dict", unchecked)


def write(name: str, root: Path) -> None:
    """Writes the miniature of a data set below a root."""
    WRITERS[name](root, list(catalogue(name).classes))


@functools.cache
def _jpeg(label: int) -> bytes:
    packed = io.BytesIO()
    Image.new("RGB", (8, 8), colour(label)).save(packed, "JPEG", quality=95)
    return packed.getvalue()


def _new(file: Path) -> Path:
    """The file, in a folder that is there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _picture(file: Path, label: int) -> None:
    _new(file).write_bytes(_jpeg(label))


def _numbered(classes: list[str], split: str) -> Iterator[tuple[int, int, str]]:
    """For each picture of a split: its number (different in the other split), its label, its class."""
    start = 1 if split == "train" else 1 + PER_CLASS["train"] * len(classes)
    for i in range(PER_CLASS[split] * len(classes)):
        yield start + i, i % len(classes), classes[i % len(classes)]


def _aircraft(root: Path, classes: list[str]) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    _new(data / "variants.txt").write_text("".join(f"{name}\n" for name in classes))
    for split in PER_CLASS:
        rows = list(_numbered(classes, split))
        _new(data / f"images_variant_{split}.txt").write_text("".join(f"{i:07d} {name}\n" for i, _, name in rows))
        for i, label, _ in rows:
            _picture(data / "images" / f"{i:07d}.jpg", label)


def _caltech101(root: Path, classes: list[str]) -> None:
    folder = root / "caltech101" / "101_ObjectCategories"
    for label, name in enumerate(["BACKGROUND_Google", *classes], -1):
        for i in range(3):
            _picture(folder / name / f"image_{i + 1:04d}.jpg", max(0, label))


def _cifar100(root: Path, classes: list[str]) -> None:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for split in PER_CLASS:
        labels = [label for _, label, _ in _numbered(classes, split)]
        planes = np.array([[colour(label)] * 1024 for label in labels], np.uint8)
        data = planes.transpose(0, 2, 1).reshape(len(labels), 3072)  # red, green, blue, each 32 x 32
        names = [f"picture_{i}.png" for i in range(len(labels))]
        content = {"filenames": names, "fine_labels": labels, "coarse_labels": [0] * len(labels), "data": data}
        (folder / split).write_bytes(b"\x80\x02" + python2(content) + b".")
    meta = {"fine_label_names": classes, "coarse_label_names": ["all"]}
    (folder / "meta").write_bytes(b"\x80\x02" + python2(meta) + b".")


def python2(value: object) -> bytes:
    """A value as Python 2 pickled it (protocol 2), the form that CIFAR-100 is published in; no header, no stop."""
    match value:
        case int():
            return b"J" + struct.pack("<i", value)
        case str() | bytes():
            raw = value.encode() if isinstance(value, str) else value
            return b"T" + struct.pack("<i", len(raw)) + raw
        case list():
            return b"](" + b"".join(python2(v) for v in value) + b"e"
        case dict():
            return b"}(" + b"".join(python2(k) + python2(v) for k, v in value.items()) + b"u"
        case np.ndarray():
            new = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            shape = b"".join(python2(int(side)) for side in value.shape) + b"\x86"
            return new + b"(K\x01" + shape + kind + b"\x89" + python2(value.tobytes()) + b"tb"
    raise TypeError(type(value))


def _dtd(root: Path, classes: list[str]) -> None:
    folder = root / "dtd" / "dtd"
    for split in PER_CLASS:
        rows = [(f"{name}/{name}_{i:04d}.jpg", label) for i, label, name in _numbered(classes, split)]
        _new(folder / "labels" / f"{split}1.txt").write_text("".join(f"{file}\n" for file, _ in rows))
        for file, label in rows:
            _picture(folder / "images" / file, label)


def _eurosat(root: Path, classes: list[str]) -> None:
    for label, name in enumerate(classes):
        for i in range(3):
            _picture(root / "eurosat" / "2750" / name / f"{name}_{i + 1}.jpg", label)


def _flowers(root: Path, classes: list[str]) -> None:
    folder = root / "flowers-102"
    rows = {split: list(_numbered(classes, split)) for split in PER_CLASS}
    ids = {split: [i for i, _, _ in rows[split]] for split in PER_CLASS}
    savemat(_new(folder / "setid.mat"), {"trnid": ids["train"], "valid": [1], "tstid": ids["test"]})
    labels = [label + 1 for split in PER_CLASS for _, label, _ in rows[split]]  # picture 1 first
    savemat(folder / "imagelabels.mat", {"labels": np.array(labels, np.uint8)})
    for i, label, _ in rows["train"] + rows["test"]:
        _picture(folder / "jpg" / f"image_{i:05d}.jpg", label)


def _food(root: Path, classes: list[str]) -> None:
    folder = root / "food-101"
    for split in PER_CLASS:
        listed: dict[str, list[str]] = {name: [] for name in reversed(classes)}  # in no order
        for i, label, name in _numbered(classes, split):
            listed[name].append(f"{name}/{i}")
            _picture(folder / "images" / name / f"{i}.jpg", label)
        _new(folder / "meta" / f"{split}.json").write_text(json.dumps(listed))


def _mnist(root: Path, classes: list[str]) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, part in (("train", "train"), ("test", "t10k")):
        labels = [label for _, label, _ in _numbered(classes, split)]
        head = struct.pack(">4i", 0x803, len(labels), 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + b"".join(bytes([grey(c)]) * 784 for c in labels))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, len(labels)) + bytes(labels))


def _pets(root: Path, classes: list[str]) -> None:
    """Cats' files begin with a capital, dogs' do not; CLIP's names kept that."""
    folder, names = root / "oxford-iiit-pet", catalogue("pets").names
    for split, file in (("train", "trainval.txt"), ("test", "test.txt")):
        lines = []
        for i, label, _ in _numbered(classes, split):
            picture = f"{names[label].replace(' ', '_')}_{i}"
            lines.append(f"{picture} {label + 1} {1 if picture[0].isupper() else 2} 1\n")
            _picture(folder / "images" / f"{picture}.jpg", label)
        _new(folder / "annotations" / file).write_text("".join(lines))


def _cars(root: Path, classes: list[str]) -> None:
    folder = root / "stanford_cars"
    savemat(_new(folder / "devkit" / "cars_meta.mat"), {"class_names": np.array([classes], object)})
    for split, mat in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        kind = [("bbox_x1", "O"), ("class", "O"), ("fname", "O")]
        rows = [(1, np.uint8(label + 1), f"{i:05d}.jpg") for i, label, _ in _numbered(classes, split)]
        savemat(folder / mat, {"annotations": np.array([rows], kind)})
        for _, number, file in rows:
            _picture(folder / f"cars_{split}" / file, int(number) - 1)


def _sun397(root: Path, classes: list[str]) -> None:
    _new(root / "SUN397" / "ClassName.txt").write_text("".join(f"/{name[0]}/{name}\n" for name in classes))
    for label, name in enumerate(classes):
        for letter in "cab":
            _picture(root / "SUN397" / name[0] / name / f"sun_{letter}{label:03d}.jpg", label)


def _tinyimagenet(root: Path, classes: list[str]) -> None:
    folder, rows = root / "tiny-imagenet-200", list(_numbered(classes, "test"))
    for i, label, name in _numbered(classes, "train"):
        _picture(folder / "train" / name / "images" / f"{name}_{i}.JPEG", label)
        (folder / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_{i}.JPEG\t0\t0\t7\t7\n")
    for i, label, _ in rows:
        _picture(folder / "val" / "images" / f"val_{i}.JPEG", label)
    lines = [f"val_{i}.JPEG\t{name}\t0\t0\t7\t7\n" for i, _, name in rows]
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(classes))


WRITERS: dict[str, Callable[[Path, list[str]], None]] = {name: globals()[f"_{name}"] for name in NAMES}
