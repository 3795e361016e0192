"""Data sets of the hub, served on the loopback: every picture has its label, and what cannot be used is named."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from lib.data import tasks
from lib.data.folders import source
from lib.data.task_settings import HubSet, TaskSettings
from lib.data.tasks import TaskError
from lib.settings import ParamsError, build
from lib.study.studies import ROOT
from tests.support import small_study
from tests.support.hub_server import hub
from tools.datasets import hub_sets

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMES = ["a_cat", "dog", "emu"]
SET = HubSet("me/pets", COMMIT, test="validation", label="what")


def picture(label: int, number: int) -> bytes:
    """A PNG whose red says the label and whose green says the number."""
    packed = io.BytesIO()
    Image.new("RGB", (10, 8), (50 * label, 10 * number, 7)).save(packed, "PNG")
    return packed.getvalue()


def write(file: Path, labels: list[int], first: int = 0, named: bool = True, **columns: Any) -> None:
    """Rows as the hub has them: pictures as bytes in a struct, labels as numbers whose names are metadata."""
    images = [{"bytes": picture(label, first + i), "path": f"{i}.png"} for i, label in enumerate(labels)]
    features = {"image": {"_type": "Image"}, "what": {"_type": "ClassLabel", "names": NAMES}}
    table = pa.table({"image": images, "what": pa.array(labels, pa.int64()), "note": ["-"] * len(labels)} | columns)
    if named:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, file)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of two training files and one for validation, which stands for what was fetched."""
    folder = tmp_path / "repo"
    write(folder / "data" / "train-00000-of-00002.parquet", [0, 1, 2, 0])
    write(folder / "data" / "train-00001-of-00002.parquet", [1, 1, 2], first=4)
    write(folder / "data" / "validation-00000-of-00001.parquet", [2, 0, 1], first=7)
    monkeypatch.setattr(hub_sets, "snapshot", lambda *_: folder)
    return folder


def settings(about: HubSet = SET, **changes: Any) -> TaskSettings:
    given = {"source": "hub", "sets": {"pets": about}, "orders": {"I": ["pets"]}, "templates": ["a photo of a {}."]}
    most = {"train_per_class": 0, "test_per_class": 0}
    return replace(small_study.study().tasks, **(given | most | changes))


def prepared(folder: Path, **given: Any) -> tasks.Task:
    source("hub").prepare("pets", settings(**given), 8, folder, folder / "pets.safetensors")
    return tasks.load(folder / "pets.safetensors")


def numbers(split: tasks.Pictures) -> list[tuple[int, int]]:
    """What the pictures themselves say: label and number."""
    return [(int(image[0, 4, 4]) // 50, int(image[1, 4, 4]) // 10) for image in split.images]


def test_a_set_becomes_a_task_in_which_every_picture_has_its_label(repo: Path, tmp_path: Path) -> None:
    task = prepared(tmp_path)
    assert task.classes == ["a cat", "dog", "emu"]
    assert numbers(task.train) == [(0, 0), (1, 1), (2, 2), (0, 3), (1, 4), (1, 5), (2, 6)]
    for split in (task.train, task.test):
        assert [label for label, _ in numbers(split)] == split.labels.tolist()


def test_a_few_pictures_of_each_class_are_drawn_by_the_seed(repo: Path, tmp_path: Path) -> None:
    drawn = [prepared(tmp_path, train_per_class=1, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert all(sorted(task.train.labels.tolist()) == [0, 1, 2] for task in drawn)
    assert all([label for label, _ in numbers(task.train)] == task.train.labels.tolist() for task in drawn)
    assert torch.equal(drawn[0].train.images, drawn[1].train.images)
    assert len({tuple(numbers(task.train)) for task in drawn}) > 1
    assert len(drawn[0].test) == 3


def test_labels_may_be_words_and_pictures_plain_bytes(repo: Path, tmp_path: Path) -> None:
    for file in repo.rglob("*.parquet"):
        labels = parquet.read_table(file)["what"].to_pylist()
        images = [each["bytes"] for each in parquet.read_table(file)["image"].to_pylist()]
        write(file, labels, named=False, image=images, what=[NAMES[label] for label in labels])
    assert prepared(tmp_path).classes == ["a cat", "dog", "emu"]


ROWS = {"train": "train-00000-of-00002.parquet", "test": "validation-00000-of-00001.parquet"}
BAD: dict[str, tuple[dict[str, Any], Any, str]] = {
    "no such split": ({"about": replace(SET, test="test")}, None, "no parquet files of a split 'test'"),
    "no such column": ({"about": replace(SET, label="breed")}, None, "no column 'breed'; it has: image, what, note"),
    "numbers alone": ({}, lambda d: [write(f, [0, 1, 2], named=False) for f in d.iterdir()], "numbers without names"),
    "another class": ({}, lambda d: write(d / ROWS["test"], [0, 1]), "only one of its two splits has pictures of emu"),
    "no label": ({}, lambda d: write(d / ROWS["train"], [0, 1], what=[0, None]), "rows without a label"),
    "no picture": ({}, lambda d: write(d / ROWS["train"], [0, 1], image=["x", "y"]), "column 'image' holds no picture"),
    "a bad picture": ({}, lambda d: write(d / ROWS["train"], [0], image=[b"x"]), "me/pets, row 0 is no readable"),
    "a cut file": ({}, lambda d: (d / ROWS["train"]).write_bytes(b"PAR1"), "no whole parquet file"),
    "no templates": ({"templates": []}, None, "templates is empty"),
}


@pytest.mark.parametrize(("given", "damage", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_is_named(
    repo: Path, tmp_path: Path, given: dict[str, Any], damage: Any, message: str
) -> None:
    if damage:
        damage(repo / "data")
    with pytest.raises(TaskError, match=message):
        prepared(tmp_path, **given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"repo": "pets"}, "owner/name"), ({"revision": "main"}, "a commit, 40 hex digits")],
)
def test_a_set_needs_an_owner_and_a_commit(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        build(HubSet, {"repo": "me/pets", "revision": COMMIT} | changes, "here")


def fetched(endpoint: str, home: Path, repo: str = "me/pets") -> subprocess.CompletedProcess[str]:
    """What a process says that fetches the training split, with its cache in `home`."""
    code = (
        "from lib.data.task_settings import HubSet; from tools.datasets.hub_sets import fetch; "
        f"print([file.name for file in fetch(HubSet('{repo}', '{COMMIT}'), 'train')])"
    )
    env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False)


def test_the_files_of_a_split_come_from_the_hub_once(tmp_path: Path) -> None:
    write(tmp_path / "repo" / "data" / "train-00000-of-00001.parquet", [0, 1])
    write(tmp_path / "repo" / "data" / "extra-00000-of-00001.parquet", [0, 1])
    with hub({("datasets", "me/pets", COMMIT): tmp_path / "repo"}) as (address, handler):
        first = fetched(address, tmp_path / "cache")
        assert first.stdout.strip() == "['train-00000-of-00001.parquet']", first.stderr
        assert not any("extra" in line for line in handler.asked)
        assert "the hub has no data set me/other" in fetched(address, tmp_path / "cache", "me/other").stderr
    assert fetched(address, tmp_path / "cache").stdout == first.stdout  # from the cache
    assert "could not be fetched" in fetched(address, tmp_path / "empty").stderr
