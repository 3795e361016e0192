"""Data sets whose own address is gone, from a copy on the Hugging Face hub, written in the form they were published in.

A copy is parquet at a commit. Its rows are checked against the catalogue, and the bytes of its pictures are not
changed. A cut download and a cut writing go on with the next call.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from lib.clip.hub import snapshot
from lib.data.tasks import TaskError
from tools.datasets.catalogue import Copy, DataError, catalogue
from tools.datasets.hub_sets import class_names, parquet, rows

PICTURES = ("image", "jpg", "png", "webp")  # how copies name the column of pictures


def fetch_copy(name: str, copy: Copy, root: Path, downloads: Path) -> None:
    """Fetches a copy into `downloads` and writes the data set below `root`. Raises DataError if that fails."""
    try:
        snapshot(copy.repo, copy.revision, copy.files, "dataset", downloads)
        files = sorted(file for pattern in copy.files for file in downloads.glob(pattern))
        if not files:
            raise DataError(f"{name}: {copy.repo} has no files {', '.join(copy.files)} at commit {copy.revision}")
        WRITERS[name](name, files, root / catalogue(name).folder)
    except (TaskError, ValueError, ConnectionError) as error:
        raise DataError(f"{name}: {error}; or {catalogue(name).advice(root)}") from error


def _pictures(file: Path, classes: int, label: str, *others: str) -> Iterator[tuple[Any, ...]]:
    """Each row of a file: the picture's bytes, the name of its file ("" if the copy has none), label, other columns.

    Raises DataError for a row without a picture, and for a label of no class.
    """
    columns = parquet(file).schema_arrow.names
    image = next((column for column in PICTURES if column in columns), PICTURES[0])
    values = (rows([file], column, file.name) for column in (image, label, *others))
    for number, (picture, own, *rest) in enumerate(zip(*values, strict=True)):
        if not isinstance(picture, dict) or not isinstance(picture.get("bytes"), bytes):
            raise DataError(f"{file.name}, row {number}: column {image!r} holds no picture")
        if own not in range(classes):
            raise DataError(f"{file.name}, row {number}: {label} is {own!r}, not 0 to {classes - 1}")
        yield picture["bytes"], Path(picture.get("path") or "").name, own, *rest


def _write(file: Path, content: bytes) -> None:
    if not file.exists() or file.stat().st_size != len(content):  # whole from an earlier call
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _sun397(name: str, files: list[Path], folder: Path) -> None:
    """SUN397/<letter>/<class>/sun_*.jpg; the list of classes comes last, as the sign that all is there.

    The 80/20 split follows the order of the file names. A copy without them is numbered row by row, and says so.
    """
    listed = [f"/{own[0]}/{own}" for own in catalogue(name).classes]
    named = class_names(files[0], "label") or []  # in an order of the copy's own
    if odd := sorted(set(listed) ^ set(named)):
        raise DataError(f"the classes of {files[0].name} are not the catalogue's: {', '.join(odd[:3])}")
    number = unnamed = 0
    for file in files:
        for content, own, label in _pictures(file, len(named), "label"):
            number, unnamed = number + 1, unnamed + (not own)
            _write(folder / named[label][1:] / (own or f"sun_{number:06d}.jpg"), content)
    if unnamed:
        print(f"{name}: {unnamed} pictures have no file name in the copy; its 80/20 split is not the protocol's")
    (folder / "ClassName.txt").write_text("".join(f"{line}\n" for line in listed))


def _cars(name: str, files: list[Path], folder: Path) -> None:
    """cars_<split>/00001.jpg, numbered as the keys say, and the two lists of labels that torchvision reads."""
    classes = list(catalogue(name).classes)
    lists = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    (folder / "devkit").mkdir(parents=True, exist_ok=True)
    for split, listed in lists.items():
        labels: dict[str, int] = {}
        for file in (file for file in files if file.parent.name == split):
            for content, _, label, key in _pictures(file, len(classes), "cls", "__key__"):
                own = f"{int(key.rpartition('s')[2]) + 1:05d}.jpg"  # s0000000 is the first
                labels[own] = label + 1
                _write(folder / f"cars_{split}" / own, content)
        kind = [("class", "O"), ("fname", "O")]
        table = np.array([[(np.uint8(labels[own]), own) for own in sorted(labels)]], kind)
        savemat(folder / listed, {"annotations": table})
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array([classes], object)})


WRITERS = {"cars": _cars, "sun397": _sun397}
