"""CoOp's splits: a made one with pictures, what is refused, and the published ones where they are there."""

import gzip
import json
from pathlib import Path

import pytest
from PIL import Image

from lib.study.paths import ROOT
from tests.support import miniatures
from tools.datasets.catalogue import DataError, catalogue, coop_split

PUBLISHED = ROOT.parent / "shared" / "coop_splits"
ROWS = {
    "train": [["red/1.png", 0, "bright red"], ["blue/1.png", 1, "blue"], ["red/2.png", 0, "bright red"]],
    "val": [["deep/er/1.png", 2, "deep_green"]],
    "test": [["blue/2.png", 1, "blue"], ["red/..3.png", 0, "bright red"]],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of pictures that says each label by its colour."""
    for path, label, _ in (row for rows in ROWS.values() for row in rows):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), miniatures.colour(label)).save(tmp_path / path)
    return tmp_path


def written(root: Path, content: object) -> Path:
    file = root / "split_zhou_Made.json"
    file.write_text(json.dumps(content))
    return file


def test_a_split_is_as_the_file_says(root: Path) -> None:
    split = coop_split(written(root, ROWS), root, "train")
    assert split.labels == [0, 1, 0]
    assert split.classes == [
        "bright red",
        "blue",
        "deep_green",
    ]  # of all three parts, so that labels mean the same
    assert [miniatures.label_of(split.picture(i)) for i in range(3)] == [0, 1, 0]
    assert split.where(2) == str(root / "red" / "2.png")
    assert coop_split(written(root, ROWS), root, "val").labels == [2]
    test = coop_split(written(root, ROWS), root, "test")
    assert [miniatures.label_of(test.picture(i)) for i in range(2)] == test.labels == [1, 0]


def test_a_gzipped_file_is_the_same(root: Path) -> None:
    plain = written(root, ROWS)
    packed = root / "split_zhou_Made.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for part in ("train", "val", "test"):
        one, other = coop_split(plain, root, part), coop_split(packed, root, part)
        assert (one.classes, one.labels, one.pictures) == (other.classes, other.labels, other.pictures)


@pytest.mark.parametrize("path", ["../red/1.png", "red/../../1.png", "/etc/hostname", "red/.."])
@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_paths_that_leave_the_folder_are_refused(root: Path, path: str, part: str) -> None:
    rows = ROWS | {part: [[path, 0, "bright red"], *ROWS[part]]}
    with pytest.raises(DataError, match=f"{part}\\[0\\] leaves the folder of pictures: '{path}'"):
        coop_split(written(root, rows), root, "train")


@pytest.mark.parametrize("row", [["red/1.png", "0", "red"], ["red/1.png", 0], {"path": 1}, [1, 0, "red"], "red"])
def test_a_row_of_another_kind_is_shown(root: Path, row: object) -> None:
    with pytest.raises(DataError, match=r"test\[0\] is .*; expected \[path, label, class name\]"):
        coop_split(written(root, ROWS | {"test": [row]}), root, "train")


def test_labels_are_whole_and_have_one_name_each(root: Path) -> None:
    with pytest.raises(DataError, match="label 1 is 'blue', and 'azure' for blue/2.png"):
        coop_split(written(root, ROWS | {"test": [["blue/2.png", 1, "azure"]]}), root, "train")
    with pytest.raises(DataError, match="the labels of its 4 classes are not 0 to 3"):
        coop_split(written(root, ROWS | {"test": [["blue/2.png", 9, "azure"]]}), root, "train")


def test_what_is_missing_or_no_split_is_named(root: Path) -> None:
    with pytest.raises(DataError, match=f"{root}/none.json is missing; CoOp publishes it"):
        coop_split(root / "none.json", root, "train")
    with pytest.raises(DataError, match=f"{root}/none is missing: the folder of pictures that the paths in"):
        coop_split(written(root, ROWS), root / "none", "train")
    with pytest.raises(DataError, match="there is no split 'valid'; there are: train, val, test"):
        coop_split(written(root, ROWS), root, "valid")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="is no split of CoOp's, with train, val, test .*'val'"):
        coop_split(written(root, {"train": [], "test": []}), root, "train")
    for name, content in (
        ("a.json", b"{"),
        ("b.json.gz", b"{}"),
        ("c.json", b"[1]"),
        ("d.json", b'{"train": 1}'),
    ):
        (root / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{root}/{name} is no split of CoOp's"):
            coop_split(root / name, root, "train")
    torn = gzip.compress(json.dumps(ROWS).encode())[:-20]
    (root / "e.json.gz").write_bytes(torn)
    with pytest.raises(DataError, match=f"{root}/e.json.gz is no split of CoOp's"):
        coop_split(root / "e.json.gz", root, "train")


def test_a_picture_that_is_not_there_is_named(root: Path) -> None:
    (root / "red" / "2.png").unlink()
    split = coop_split(written(root, ROWS), root, "train")
    with pytest.raises(DataError, match=f"{root}/red/2.png is no readable picture"):
        split.picture(2)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no published splits beside the project (../shared/coop_splits)")
@pytest.mark.parametrize(
    ("file", "name", "train", "test", "missing"),
    [
        ("Caltech101", "caltech101", 4128, 2465, {"Faces_easy"}),
        ("DescribableTextures", "dtd", 2820, 1692, set()),
        ("EuroSAT", "eurosat", 13500, 8100, set()),
        ("OxfordFlowers", "flowers", 4093, 2463, set()),
        ("OxfordPets", "pets", 2944, 3669, set()),
        ("StanfordCars", "cars", 6509, 8041, set()),
    ],
)
def test_the_published_splits(tmp_path: Path, file: str, name: str, train: int, test: int, missing: set[str]) -> None:
    """Labels are in the catalogue's order, but for the classes that CoOp leaves out; names are CoOp's own."""
    packed = PUBLISHED / f"split_zhou_{file}.json.gz"
    found = {part: coop_split(packed, tmp_path, part) for part in ("train", "val", "test")}
    assert (len(found["train"]), len(found["test"])) == (train, test)
    own = [c for c in catalogue(name).classes if c not in missing]
    split = found["test"]
    assert len(split.classes) == len(own)
    assert set(split.labels) == set(range(len(own)))
    places = [f.where(i) for f in found.values() for i in range(len(f))]
    assert len(set(places)) == len(places)
    if name in ("caltech101", "dtd", "eurosat"):  # the folder says the class
        folders = [Path(split.where(i)).parent.name for i in range(len(split))]
        assert folders == [own[label] for label in split.labels]
    if name == "pets":
        assert [c.replace("_", " ").title() for c in split.classes] == own
    if name == "cars":
        assert [" ".join([*c.split()[1:], c.split()[0]]) for c in split.classes] == own
    if name == "flowers":
        assert [c.rstrip("?") for c in own] == split.classes
