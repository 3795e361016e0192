"""CoOp's splits: a made one with pictures, what is refused, and the published ones where they are there."""

import gzip
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.support import miniatures
from tools.datasets.catalogue import DataError
from tools.datasets.splits import read_coop

ROWS = {
    "train": [["red/1.png", 0, "bright red"], ["blue/1.png", 1, "blue"], ["red/2.png", 0, "bright red"]],
    "val": [["deep/er/1.png", 2, "deep_green"]],
    "test": [["blue/2.png", 1, "blue"], ["red/..3.png", 0, "bright red"]],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of pictures that show each label by their colour."""
    for path, label, _ in (row for rows in ROWS.values() for row in rows):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), miniatures.colour(label)).save(tmp_path / path)
    return tmp_path


def written(root: Path, content: object) -> Path:
    file = root / "split_zhou_Made.json"
    file.write_text(json.dumps(content))
    return file


def test_the_splits_are_as_the_file_says_packed_or_not(root: Path) -> None:
    plain = written(root, ROWS)
    splits = read_coop(plain, root)
    assert {part: split.labels for part, split in splits.items()} == {"train": [0, 1, 0], "val": [2], "test": [1, 0]}
    assert splits["train"].classes == ["bright red", "blue", "deep_green"]  # the same in all parts
    for split in splits.values():
        assert [miniatures.label_of(split.picture(i)) for i in range(len(split))] == split.labels
    packed = root / "split_zhou_Made.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert [split.pictures for split in read_coop(packed, root).values()] == [s.pictures for s in splits.values()]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (["../red/1.png", 0, "bright red"], "'../red/1.png' leaves"),
        (["red/../../1.png", 0, "bright red"], "leaves"),
        (["/etc/hostname", 0, "bright red"], "leaves"),
        (["red/1.png", "0", "red"], r"test\.0"),
        (["red/1.png", 0], r"test\.0"),
        ([1, 0, "red"], r"test\.0"),
        ("red", r"test\.0"),
        (["blue/2.png", 1, "azure"], "'blue'.*'azure'"),
        (["blue/2.png", 9, "azure"], "0 to 3"),
    ],
)
def test_a_row_that_cannot_be_right_is_named(root: Path, row: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_coop(written(root, ROWS | {"test": [row]}), root)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("b.json.gz", b"{}"),
        ("c.json", b"[1]"),
        ("d.json", b'{"train": [], "test": []}'),
        ("e.json.gz", gzip.compress(json.dumps(ROWS).encode())[:-20]),
    ],
)
def test_what_is_no_split_is_named(root: Path, name: str, content: bytes) -> None:
    (root / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{root}/{name} .*get it again"):
        read_coop(root / name, root)


def test_what_is_missing_is_named(root: Path) -> None:
    with pytest.raises(DataError, match=f"{root}/none.json is missing"):
        read_coop(root / "none.json", root)
    with pytest.raises(DataError, match=f"{root}/none is missing"):
        read_coop(written(root, ROWS), root / "none")
    (root / "red" / "2.png").unlink()
    with pytest.raises(DataError, match=f"{root}/red/2.png"):
        read_coop(written(root, ROWS), root)["train"].picture(2)
