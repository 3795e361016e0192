"""Decoded data sets: files that safetensors would write, decoded once, mapped into memory, shared by studies."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lib.data import folders, tasks
from lib.data.tasks import TaskError
from lib.study.params import Study, Tasks
from tests.support import miniatures, small_study
from tools.datasets import catalogue as datasets
from tools.datasets import decoded
from tools.datasets.catalogue import DataError, catalogue


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own with three data sets in miniature."""
    miniatures.allow(monkeypatch)
    small_study.move(monkeypatch, tmp_path)
    monkeypatch.setattr(decoded, "DATA", tmp_path / "data")
    monkeypatch.setattr(decoded, "ROOT", tmp_path)
    monkeypatch.setattr("lib.clip.loading.load_clip", lambda model, pretrained: small_study.backbone())
    for name in ("dtd", "mnist"):
        miniatures.write(name, tmp_path / "raw")
    return tmp_path


def settings(**changes: object) -> Tasks:
    order = {"I": ["dtd", "mnist"]}
    given = {"source": "datasets", "root": "raw", "templates": [], "orders": order} | changes
    return replace(small_study.study().tasks, **given)


def study(name: str = "tiny", **changes: object) -> Study:
    return replace(small_study.study({"reference": None}), study=name, tasks=settings(**changes))


def test_a_file_that_is_filled_is_the_one_that_safetensors_writes(tmp_path: Path) -> None:
    images, labels = torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8), torch.tensor([2, 0, 1])
    metadata = {"task": json.dumps({"name": 'quo"te', "classes": ["é"]})}
    save_file({"train_images": images, "train_labels": labels}, tmp_path / "theirs", metadata)
    shapes: decoded.Shapes = {"train_images": ("U8", (3, 3, 4, 4)), "train_labels": ("I64", (3,))}
    with decoded.writing(tmp_path / "ours", shapes, metadata) as arrays:
        arrays["train_images"][:], arrays["train_labels"][:] = images.numpy(), labels.numpy()
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_file_that_was_not_filled_has_no_name(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), decoded.writing(tmp_path / "ours", {"a": ("U8", (2,))}, {}):
        _ = 1 / 0
    assert not (tmp_path / "ours").exists()


def test_a_data_set_becomes_a_task_in_which_every_picture_has_its_label(home: Path) -> None:
    task = tasks.make("dtd", settings(), 8)
    assert (task.name, task.classes) == ("dtd", catalogue("dtd").names)
    assert task.templates == catalogue("dtd").templates
    for split, per_class in ((task.train, 2), (task.test, 1)):
        assert split.images.shape == (47 * per_class, 3, 8, 8)
        shown = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in split.images]
        assert [miniatures.label_of(picture) for picture in shown] == split.labels.tolist()


def test_it_is_decoded_once_and_shared_by_studies(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tasks.prepare(study())
    monkeypatch.setattr(decoded, "open_split", lambda *_: pytest.fail("decoded again"))
    again = tasks.prepare(study("other"))
    assert [task.name for task in again] == ["dtd", "mnist"]
    assert torch.equal(first[0].train.images, again[0].train.images)
    files = [tasks.path(name, "mnist") for name in ("tiny", "other")]
    files += sorted((home / "data" / "decoded").glob("mnist--protocol--32*"))
    assert len(files) == 3
    assert len({file.stat().st_ino for file in files}) == 1  # one file, three names


def test_a_study_may_have_templates_and_an_order_of_classes_of_its_own(home: Path) -> None:
    order = [9, *range(9)]
    changes = {"orders": {"I": ["mnist"]}, "templates": ["a bad photo of a {}."], "class_order": order}
    (turned,), (plain,) = tasks.prepare(study(**changes)), tasks.prepare(study(orders={"I": ["mnist"]}))
    assert turned.templates == ["a bad photo of a {}."]
    assert turned.classes == [plain.classes[i] for i in order]
    assert [turned.classes[i] for i in turned.test.labels] == [plain.classes[i] for i in plain.test.labels]
    with pytest.raises(TaskError, match="tasks.class_order must have 0 to 9 once each, for mnist"):
        tasks.prepare(study(orders={"I": ["mnist"]}, class_order=[0, 1]))


def test_a_broken_picture_is_named_and_leaves_no_file(home: Path) -> None:
    file = next((home / "raw" / "dtd" / "dtd" / "images").rglob("*.jpg"))
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match=f"{file} is no readable picture"):
        tasks.make("dtd", settings(), 8)
    assert not list((home / "data" / "decoded").glob("*.safetensors"))


def test_coops_split_is_read_where_there_is_one(home: Path) -> None:
    images = home / "raw" / "dtd" / "dtd" / "images"
    files = sorted(str(file.relative_to(images)) for file in images.rglob("*.jpg"))[:4]
    rows = [[file, label, ["a_b", "c"][label]] for file, label in zip(files, (0, 1, 1, 0), strict=True)]
    published = home / "raw" / "coop_splits" / "split_zhou_DescribableTextures.json"
    published.parent.mkdir()
    published.write_text(json.dumps({"train": rows[:2], "val": [], "test": rows[2:]}))
    task = tasks.make("dtd", settings(splits="coop"), 8)
    assert task.classes == ["a b", "c"]
    assert (task.train.labels.tolist(), task.test.labels.tolist()) == ([0, 1], [1, 0])
    assert len(tasks.make("mnist", settings(splits="coop"), 8).classes) == 10  # CoOp has none: the protocol's


def test_a_missing_data_set_says_what_to_put_where(home: Path) -> None:
    with pytest.raises(DataError, match=f"eurosat/2750 is missing below {home}/raw; to have it there"):
        tasks.make("eurosat", settings(), 8)


def test_a_picture_is_fitted_as_a_folders_is(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 50, 3), dtype=np.uint8))
    noise.save(tmp_path / "wide.png")
    assert np.array_equal(folders.fitted(noise, 10), tasks.decode(tmp_path / "wide.png", 10))
    assert datasets.COOP_SPLITS[0] == "train"
