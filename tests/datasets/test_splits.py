"""The data sets: miniatures in the published form, read as the protocol splits them; what is odd is named."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support import miniatures
from tools.datasets import splits as splits_module
from tools.datasets.catalogue import NAMES, DataError, Entry, catalogue
from tools.datasets.formats import SPLITS
from tools.datasets.splits import check, open_split

DRAWN = ["caltech101", "eurosat", "sun397"]  # no official split


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
    """The number of pictures for training and test in a miniature."""
    classes = len(catalogue(name).classes)
    first = int(0.8 * 3 * classes) if name in DRAWN else 2 * classes
    return first, 3 * classes - first


@pytest.fixture
def _counts_of_miniatures(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(name: str) -> Entry:
        return replace(catalogue(name), train=sizes(name)[0], test=sizes(name)[1])

    monkeypatch.setattr(splits_module, "catalogue", small)


@pytest.mark.parametrize("name", NAMES)
def test_each_picture_has_its_label_and_each_class_its_pictures(root: Path, name: str) -> None:
    train, test = (open_split(name, root, split) for split in SPLITS)
    label_of = miniatures.grey_label_of if name == "mnist" else miniatures.label_of
    for split in (train, test):
        assert split.classes == list(catalogue(name).classes)
        pictures = [split.picture(i) for i in range(len(split))]
        assert {picture.mode for picture in pictures} == {"RGB"}
        assert [label_of(picture) for picture in pictures] == split.labels
        assert all(type(label) is int for label in split.labels)
    assert (len(train), len(test)) == sizes(name)
    assert Counter(train.labels + test.labels) == dict.fromkeys(range(len(train.classes)), 3)
    if isinstance(train.pictures, list):
        assert len({*train.pictures, *test.pictures}) == len(train) + len(test)


@pytest.mark.parametrize("name", DRAWN)
def test_without_an_official_split_80_percent_are_drawn_by_seed_42(root: Path, name: str) -> None:
    files = sorted(f for f in (root / catalogue(name).folder).rglob("*.jpg") if "BACKGROUND_Google" not in f.parts)
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(42)).tolist()
    first = int(0.8 * len(files))
    for split, drawn in zip(SPLITS, (order[:first], order[first:]), strict=True):
        assert open_split(name, root, split).pictures == [files[i] for i in drawn]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_or_not_as_published_is_named(tmp_path: Path, name: str) -> None:
    entry = catalogue(name)
    for need in entry.needs:
        place = tmp_path / entry.folder / need
        with pytest.raises(DataError, match=f"{entry.folder}/{need} is missing below {tmp_path}.*(http|by hand)"):
            open_split(name, tmp_path, "train")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"not what it should be") if "." in need else place.mkdir()  # and on to the next
    with pytest.raises(DataError, match=f"{name} below {tmp_path}"):
        open_split(name, tmp_path, "train")


def test_counts_that_differ_are_named(root: Path) -> None:
    with pytest.raises(DataError, match="train has 74 pictures.* 3680.*test has 37 .* 3669"):
        check("pets", root)


@pytest.mark.usefixtures("_counts_of_miniatures")
@pytest.mark.parametrize("name", NAMES)
def test_what_is_as_the_catalogue_says_passes(root: Path, name: str) -> None:
    check(name, root)
    assert tuple(len(open_split(name, root, part)) for part in SPLITS) == tuple(sizes(name))


@pytest.mark.usefixtures("_counts_of_miniatures")
def test_files_that_are_listed_and_missing_are_named(tmp_path: Path) -> None:
    miniatures.write("dtd", tmp_path)
    file = tmp_path / "dtd" / "dtd" / "images" / "banded" / "banded_0001.jpg"
    file.unlink()
    with pytest.raises(DataError, match=f"train lacks 1 files, such as {file}"):
        check("dtd", tmp_path)
    with pytest.raises(DataError, match=f"{file} is no readable picture"):
        open_split("dtd", tmp_path, "train").picture(0)


def test_the_first_class_that_differs_is_named(tmp_path: Path) -> None:
    for name in ("aircraft", "eurosat"):
        miniatures.write(name, tmp_path)
    file = tmp_path / "fgvc-aircraft-2013b" / "data" / "variants.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:3], lines[4], lines[3], *lines[5:]]))
    with pytest.raises(DataError, match="class 3 is '737-400', but '737-300'"):
        open_split("aircraft", tmp_path, "train")
    shutil.rmtree(tmp_path / "eurosat" / "2750" / "SeaLake")  # one too few
    with pytest.raises(DataError, match="class 9 .*'SeaLake'"):
        open_split("eurosat", tmp_path, "train")
