"""Decoded data sets: prepared tasks that safetensors could have written, decoded once, shared by studies."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lib.data import tasks
from lib.data.task_settings import TaskSettings
from lib.data.tasks import Task
from tests.support import miniatures, small_study
from tools.datasets import decode
from tools.datasets.catalogue import DataError, catalogue
from tools.datasets.splits import Split


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own with two data sets in miniature."""
    miniatures.allow(monkeypatch)
    for name in ("dtd", "mnist"):
        miniatures.write(name, tmp_path / "raw")
    return tmp_path


def settings(splits: str = "protocol") -> TaskSettings:
    given = {"source": "datasets", "root": "raw", "templates": [], "orders": {"I": ["dtd", "mnist"]}, "splits": splits}
    return replace(small_study.study().tasks, **given)


def prepared(name: str, home: Path, splits: str = "protocol", study: str = "tiny") -> Task:
    file = home / "data" / study / f"{name}.safetensors"
    decode.prepare(name, settings(splits), 8, home, file)
    return tasks.load(file)


def test_the_file_is_the_one_that_safetensors_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "CHUNK", 2)
    about, splits, tensors = {"name": 'quo"te', "classes": ["é", "b"]}, {}, {}
    for part, count in (("train", 5), ("test", 2)):
        drawn = np.random.default_rng(count).integers(0, 256, (count, 4, 4, 3), np.uint8)
        splits[part] = Split("made", ["é", "b"], [i % 2 for i in range(count)], drawn)
    decode.write(tmp_path / "ours", about, splits, 4)
    for part, split in splits.items():
        tensors[f"{part}_images"] = torch.from_numpy(np.asarray(split.pictures)).permute(0, 3, 1, 2).contiguous()
        tensors[f"{part}_labels"] = torch.tensor(split.labels)
    save_file(tensors, tmp_path / "theirs", {"task": json.dumps(about)})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_few_pictures_of_each_class_are_drawn_by_the_seed_and_shared_by_nobody_else(home: Path) -> None:
    whole, files = prepared("dtd", home), home / "data" / "decoded"
    drawn = []
    for seed in (0, 0, 1):
        file, few = home / "data" / f"few{len(drawn)}.safetensors", replace(settings(), train_per_class=1, seed=seed)
        decode.prepare("dtd", few, 8, home, file)
        drawn.append(tasks.load(file))
        assert sorted(drawn[-1].train.labels.tolist()) == list(range(47))
        assert torch.equal(drawn[-1].test.images, whole.test.images)
    assert len(list(files.iterdir())) == 3
    for image, label in zip(drawn[0].train.images, drawn[0].train.labels, strict=True):
        assert (whole.train.images[whole.train.labels == label] == image).flatten(1).all(dim=1).any()


def shown(split: Split) -> list[int]:
    """The numbers that grey pictures show."""
    return [int(np.asarray(split.picture(i))[0, 0, 0]) for i in range(len(split))]


def test_few_pictures_are_at_most_so_many_of_each_class() -> None:
    labels = [0, 1, 1, 0, 1, 2]
    split = Split("made", list("abc"), labels, np.arange(6, dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2))
    few, numbers = split.few(2, seed=3), {seed: shown(split.few(2, seed)) for seed in range(9)}
    assert [few.labels.count(label) for label in range(3)] == [2, 2, 1]
    assert [labels[number] for number in shown(few)] == few.labels  # each with its own label
    assert shown(few) == sorted(shown(few)) == numbers[3]
    assert len({tuple(each) for each in numbers.values()}) > 1
    assert split.few(0, 0) is split


def test_a_data_set_becomes_a_task_in_which_every_picture_has_its_label(home: Path) -> None:
    task = prepared("dtd", home)
    assert (task.name, task.classes) == ("dtd", catalogue("dtd").names)
    for split, count in ((task.train, 94), (task.test, 47)):
        shown = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in split.images]
        assert len(shown) == count
        assert [miniatures.label_of(picture) for picture in shown] == split.labels.tolist()


def test_it_is_decoded_once_and_shared_by_studies(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared("mnist", home)
    monkeypatch.setattr(decode, "open_split", lambda *_: pytest.fail("decoded again"))
    for _ in range(2):  # also over a file of an earlier call
        prepared("mnist", home, study="other")
    files = [home / "data" / place for place in ("tiny/mnist", "other/mnist", "decoded/mnist--protocol--8")]
    assert len({file.with_suffix(".safetensors").stat().st_ino for file in files}) == 1  # one file, three names


def test_a_broken_picture_is_named_and_leaves_no_file(home: Path) -> None:
    file = next((home / "raw" / "dtd" / "dtd" / "images").rglob("*.jpg"))
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match=f"{file} is no readable picture"):
        prepared("dtd", home)
    assert not list((home / "data" / "decoded").glob("*.safetensors"))


def test_coops_split_is_read_where_there_is_one(home: Path) -> None:
    images = home / "raw" / "dtd" / "dtd" / "images"
    files = sorted(str(file.relative_to(images)) for file in images.rglob("*.jpg"))[:4]
    rows = [[file, label, ["a_b", "c"][label]] for file, label in zip(files, (0, 1, 1, 0), strict=True)]
    published = home / "raw" / "coop_splits" / "split_zhou_DescribableTextures.json"
    published.parent.mkdir()
    published.write_text(json.dumps({"train": rows[:2], "val": [], "test": rows[2:]}))
    task = prepared("dtd", home, "coop")
    assert task.classes == ["a b", "c"]
    assert (task.train.labels.tolist(), task.test.labels.tolist()) == ([0, 1], [1, 0])
    assert len(prepared("mnist", home, "coop").classes) == 10  # CoOp has none: the protocol's
