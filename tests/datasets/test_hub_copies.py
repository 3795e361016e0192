"""Copies of data sets on the hub: what is written from them is what was published, or the fault is named."""

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from lib.study.studies import ROOT
from tests.support import miniatures
from tests.support.hub_server import hub
from tools.datasets import hub_copies
from tools.datasets.catalogue import DataError, catalogue
from tools.datasets.hub_copies import fetch_copy
from tools.datasets.splits import SPLITS, open_split

REPOS = {"cars": "me/cars", "sun397": "me/sun"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def features(label: str, names: list[str]) -> dict[str, str]:
    """What the library `datasets` notes in a parquet file."""
    return {"huggingface": json.dumps({"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}})}


def write(file: Path, rows: list[dict[str, Any]], notes: dict[str, str] | None = None) -> None:
    """Rows as a parquet file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(notes), file)


def sun397(published: Path, repo: Path, named: bool = True) -> None:
    """SUN397 as 1aurent/SUN397 has it: one split, classes with a slash and a letter before them; all in any order."""
    classes = list(catalogue("sun397").classes)[::-1]
    rows = [
        {"image": {"bytes": file.read_bytes(), "path": file.name if named else None}, "label": label}
        for label, name in enumerate(classes)
        for file in sorted((published / "SUN397" / name[0] / name).glob("sun_*.jpg"))
    ]
    random.Random(0).shuffle(rows)
    notes = features("label", [f"/{name[0]}/{name}" for name in classes])
    for part in range(2):
        write(repo / "data" / f"train-{part:05d}-of-00002.parquet", rows[part::2], notes)


def cars(published: Path, repo: Path) -> None:
    """Stanford Cars as the hub converts clip-benchmark/wds_cars: two files of a split with keys, pictures, labels."""
    for split in SPLITS:
        held = open_split("cars", published, split)
        rows = [
            {"__key__": f"s{i:07d}", "jpg": {"bytes": Path(file).read_bytes(), "path": None}, "cls": label}
            for i, (file, label) in enumerate(zip(held.pictures, held.labels, strict=True))
        ]
        for part, half in enumerate((rows[:100], rows[100:])):
            write(repo / "default" / split / f"{part:04d}.parquet", half)


MAKERS = {"cars": cars, "sun397": sun397}


@pytest.fixture(params=MAKERS)
def name(request: pytest.FixtureRequest) -> str:
    """A data set whose own address is gone."""
    return request.param


@pytest.fixture
def published(name: str, tmp_path: Path) -> Path:
    """Its miniature in the published form, and its copy beside it; the copy stands for what was fetched."""
    miniatures.write(name, tmp_path / "published")
    MAKERS[name](tmp_path / "published", tmp_path / "repo")
    return tmp_path / "published"


def fetched(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root that a copy was written below."""
    monkeypatch.setattr(hub_copies, "snapshot", lambda *_: None)
    copy = catalogue(name).copy
    assert copy is not None
    fetch_copy(name, copy, home / "raw", home / "repo")
    return home / "raw"


def contents(name: str, root: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Label and bytes of every picture of both splits, in order."""
    splits = {part: open_split(name, root, part) for part in SPLITS}
    return {
        part: [(label, Path(file).read_bytes()) for label, file in zip(split.labels, split.pictures, strict=True)]
        for part, split in splits.items()
    }


def test_splits_labels_and_bytes_are_those_that_were_published(
    name: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fetched(name, tmp_path, monkeypatch)
    assert contents(name, root) == contents(name, published)
    if name == "sun397":  # the miniature of cars numbers its two splits as one
        places = [{str(file.relative_to(home)) for file in home.rglob("*.*")} for home in (root, published)]
        assert places[0] == places[1]


def test_a_writing_that_was_cut_goes_on(
    name: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fetched(name, tmp_path, monkeypatch)
    whole = contents(name, root)
    pictures = sorted(root.rglob("*.jpg"))
    pictures[0].unlink()
    pictures[1].write_bytes(b"cut")
    kept = pictures[2].stat().st_mtime_ns
    assert contents(name, fetched(name, tmp_path, monkeypatch)) == whole
    assert pictures[2].stat().st_mtime_ns == kept


def test_pictures_without_file_names_are_numbered_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    miniatures.write("sun397", tmp_path / "published")
    sun397(tmp_path / "published", tmp_path / "repo", named=False)
    split = open_split("sun397", fetched("sun397", tmp_path, monkeypatch), "train")
    assert (
        "1191 pictures have no file name in the copy; its 80/20 split is not the protocol's" in capsys.readouterr().out
    )
    for label, file in zip(split.labels[:50], split.pictures, strict=False):
        assert Path(file).read_bytes() == miniatures._jpeg(label)


BAD = {
    "another class": ("sun397", {"notes": features("label", ["/a/abbey", "/x/other"])}, "not the catalogue's: "),
    "no classes": ("sun397", {}, "not the catalogue's: "),
    "no picture": ("cars", {"jpg": "x"}, "row 0: column 'jpg' holds no picture"),
    "no such column": ("cars", {"cls": ...}, "no column 'cls'; it has: __key__, jpg"),
    "no such class": ("cars", {"cls": 196}, "row 0: cls is 196, not 0 to 195"),
    "a name that leaves the folder": ("cars", {"__key__": "../../x"}, "invalid literal"),
}


@pytest.mark.parametrize(("name", "changes", "message"), BAD.values(), ids=BAD)
def test_a_copy_that_cannot_be_used_is_named(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = {"bytes": b"x", "path": "../../out.jpg"}
    row = {"__key__": "s0000000", "jpg": picture, "cls": 0} if name == "cars" else {"image": picture, "label": 0}
    notes = changes.pop("notes", None) if "notes" in changes else None
    row = {key: value for key, value in (row | changes).items() if value is not ...}
    place = "default/train/0000.parquet" if name == "cars" else "data/train-00000-of-00001.parquet"
    write(tmp_path / "repo" / place, [row], notes)
    with pytest.raises(DataError, match=f"(?s){name}: .*{message}.*; or by hand: "):
        fetched(name, tmp_path, monkeypatch)
    assert not list(tmp_path.rglob("out.jpg"))


def test_a_copy_comes_from_the_hub_and_a_cut_download_is_mended(tmp_path: Path) -> None:
    miniatures.write("cars", tmp_path / "published")
    cars(tmp_path / "published", tmp_path / "repo")
    copy = replace(catalogue("cars").copy, repo=REPOS["cars"], revision=COMMIT)  # type: ignore[type-var]
    code = (
        "from pathlib import Path; from tools.datasets.catalogue import Copy; from tools.datasets import hub_copies; "
        f"hub_copies.fetch_copy('cars', {copy!r}, Path('{tmp_path}/raw'), Path('{tmp_path}/down'))"
    )

    def fetch(endpoint: str) -> str:
        env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache"), "PATH": os.environ["PATH"]}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False).stderr

    with hub({("datasets", REPOS["cars"], COMMIT): tmp_path / "repo"}) as (address, handler):
        handler.cut = {"0001.parquet": 50}
        stderr = fetch(address)
        assert contents("cars", tmp_path / "raw") == contents("cars", tmp_path / "published"), stderr
    shutil.rmtree(tmp_path / "down")
    assert "could not be fetched" in fetch("http://127.0.0.1:9")
