"""The data sets: miniatures in the published form, read as the protocol splits them; what is odd is named."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import miniatures
from tools.datasets import catalogue as datasets
from tools.datasets.catalogue import DataError, Split, catalogue, check, open_split
from tools.datasets.readers import READERS, SPLITS

NAMES = list(READERS)
CUT = ["caltech101", "eurosat", "sun397"]  # no official split


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All twelve; for reading only."""
    folder = tmp_path_factory.mktemp("data")
    for name in NAMES:
        miniatures.write(name, folder)
    return folder


@pytest.fixture(autouse=True)
def _no_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    miniatures.allow(monkeypatch)


def sizes(name: str) -> tuple[int, int]:
    """Pictures for training and test in a miniature."""
    classes = len(catalogue(name).classes)
    first = int(0.8 * 3 * classes) if name in CUT else 2 * classes
    return first, 3 * classes - first


def counts_of_miniatures(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(name: str) -> datasets.Entry:
        train, test = sizes(name)
        return replace(catalogue(name), train=train, test=test)

    monkeypatch.setattr(datasets, "catalogue", small)


@pytest.mark.parametrize("name", NAMES)
def test_each_picture_has_its_label_and_each_class_its_pictures(root: Path, name: str) -> None:
    found = [open_split(name, root, split) for split in SPLITS]
    read = miniatures.grey_label_of if name == "mnist" else miniatures.label_of
    for split in found:
        assert split.classes == list(catalogue(name).classes)
        pictures = [split.picture(i) for i in range(len(split))]
        assert {picture.mode for picture in pictures} == {"RGB"}
        assert [read(picture) for picture in pictures] == split.labels
        assert all(type(label) is int for label in split.labels)
    assert tuple(len(split) for split in found) == sizes(name)
    together = Counter(found[0].labels + found[1].labels)
    assert together == dict.fromkeys(range(len(found[0].classes)), 3)
    if name not in CUT:
        assert set(Counter(found[1].labels).values()) == {1}


@pytest.mark.parametrize("name", NAMES)
def test_train_and_test_share_no_picture(root: Path, name: str) -> None:
    train, test = (open_split(name, root, split) for split in SPLITS)
    places = [split.where(i) for split in (train, test) for i in range(len(split))]
    assert len(set(places)) == len(train) + len(test)


@pytest.mark.parametrize("name", CUT)
def test_without_an_official_split_80_percent_are_drawn_by_seed_42(root: Path, name: str) -> None:
    files = sorted(f for f in (root / READERS[name].folder).rglob("*.jpg") if "BACKGROUND_Google" not in f.parts)
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(42)).tolist()
    first = int(0.8 * len(files))
    for split, drawn in zip(SPLITS, (order[:first], order[first:]), strict=True):
        found = open_split(name, root, split)
        assert [found.where(i) for i in range(len(found))] == [str(files[i]) for i in drawn]


def test_the_order_of_the_file_system_does_not_move_the_split(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, whole = open_split("sun397", root, "test"), Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: sorted(whole(self, pattern))[::-1])
    assert open_split("sun397", root, "test") == before


def test_pets_train_on_trainval_and_cifar_keeps_its_channels(root: Path) -> None:
    assert open_split("pets", root, "train").where(0).endswith("images/Abyssinian_1.jpg")
    picture = open_split("cifar100", root, "test").picture(99)
    assert picture.size == (32, 32)
    assert set(map(tuple, np.asarray(picture).reshape(-1, 3))) == {miniatures.colour(99)}


@pytest.mark.parametrize("name", NAMES)
def test_each_missing_file_or_folder_is_named(tmp_path: Path, name: str) -> None:
    reader = READERS[name]
    for need in reader.needs:
        place = f"{reader.folder}/{need}"
        message = f"{name}: {place} is missing below {tmp_path}; to have it there: "
        with pytest.raises(DataError, match=re.escape(message)) as error:
            open_split(name, tmp_path, "train")
        assert "unpack http" in str(error.value) or "by hand: " in str(error.value)
        (tmp_path / place).mkdir(parents=True)  # and on to the next


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_as_published_is_said_and_how_to_get_it_again(tmp_path: Path, name: str) -> None:
    reader = READERS[name]
    for need in reader.needs:
        file = tmp_path / reader.folder / need
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"not what it should be") if "." in need else file.mkdir()
    with pytest.raises(DataError, match=f"{name} below {tmp_path}.*(again: |in the catalogue)"):
        open_split(name, tmp_path, "train")


def test_counts_that_differ_are_named(root: Path) -> None:
    message = "pets below .*: train has 74 pictures, the catalogue says 3680; test has 37 pictures, .* 3669; to have"
    with pytest.raises(DataError, match=message):
        check("pets", root)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_as_the_catalogue_says_passes(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts_of_miniatures(monkeypatch)
    if name in CUT:  # so few pictures that chance leaves classes without one
        with pytest.raises(DataError, match=r": (train|test) has no picture of \d+ classes, such as '") as error:
            check(name, root)
        assert "the catalogue says" not in str(error.value)
    else:
        check(name, root)
    assert sum(len(open_split(name, root, split)) for split in SPLITS) == sum(sizes(name))


def test_files_that_are_listed_and_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts_of_miniatures(monkeypatch)
    miniatures.write("dtd", tmp_path)
    file = tmp_path / "dtd" / "dtd" / "images" / "banded" / "banded_0001.jpg"
    file.unlink()
    with pytest.raises(DataError, match=f"dtd below {tmp_path}: train lacks 1 files, such as {file}; to have all: "):
        check("dtd", tmp_path)
    with pytest.raises(DataError, match=f"{file} is no readable picture .*; get dtd train again"):
        open_split("dtd", tmp_path, "train").picture(0)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    miniatures.write("eurosat", tmp_path)
    split = open_split("eurosat", tmp_path, "test")
    Path(split.where(2)).write_bytes(Path(split.where(2)).read_bytes()[:300])
    with pytest.raises(DataError, match=f"{split.where(2)} is no readable picture .*; get eurosat test again"):
        split.picture(2)
    assert split.picture(1).mode == "RGB"


def test_the_first_class_out_of_order_is_named(tmp_path: Path) -> None:
    miniatures.write("aircraft", tmp_path)
    file = tmp_path / "fgvc-aircraft-2013b" / "data" / "variants.txt"
    lines = file.read_text().splitlines()
    lines[3], lines[4] = lines[4], lines[3]
    file.write_text("\n".join(lines))
    with pytest.raises(DataError, match="class 3 is '737-400', in the catalogue it is '737-300'"):
        open_split("aircraft", tmp_path, "train")


def test_a_class_too_few_is_said(tmp_path: Path) -> None:
    miniatures.write("eurosat", tmp_path)
    shutil.rmtree(tmp_path / "eurosat" / "2750" / "SeaLake")
    with pytest.raises(DataError, match="there are 9 classes, in the catalogue 10"):
        open_split("eurosat", tmp_path, "train")


def test_labels_and_pictures_that_do_not_fit_are_said(tmp_path: Path) -> None:
    miniatures.write("mnist", tmp_path)
    file = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + b"\x0b")
    with pytest.raises(DataError, match="mnist test has label 11; it has 10 classes, from 0"):
        open_split("mnist", tmp_path, "test")
    file.write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x09" + bytes(9))
    with pytest.raises(DataError, match="mnist test has 9 labels for 10 pictures"):
        open_split("mnist", tmp_path, "test")


def test_unknown_names_and_splits_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match="there is no data set 'minst'; there are: aircraft, caltech101, cifar100,"):
        open_split("minst", root, "train")
    with pytest.raises(DataError, match="there is no split 'val'; there are: train, test"):
        open_split("dtd", root, "val")  # type: ignore[arg-type]


def test_a_picture_in_a_file_of_many_is_said_by_its_number() -> None:
    split = Split("mnist test", ["0", "1"], [1], np.zeros((1, 4, 4), np.uint8))
    assert split.where(0) == "picture 0 of mnist test"
    assert split.picture(0).mode == "RGB"


def test_food_follows_its_lists_whatever_their_order(root: Path) -> None:
    listed = json.loads((root / "food-101" / "meta" / "test.json").read_text())
    split = open_split("food", root, "test")
    for i in range(len(split)):
        name = split.classes[split.labels[i]]
        assert split.where(i).endswith(f"images/{listed[name][0]}.jpg")
