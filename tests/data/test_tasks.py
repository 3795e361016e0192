"""Tasks: pictures of folders as they are read, and what is said of folders that cannot be a task."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lib.data import tasks
from lib.data.tasks import TaskError
from lib.study.params import Tasks
from tests.support import small_study


@pytest.fixture
def root(tmp_path: Path) -> Path:
    small_study.write_pictures(tmp_path / "pictures")
    return tmp_path / "pictures"


def settings(root: Path, **changes: object) -> Tasks:
    return replace(small_study.study().tasks, root=str(root), **changes)


def test_a_folder_is_a_task(root: Path) -> None:
    made = tasks.make("green", settings(root), 32)
    assert made.name == "green"
    assert made.classes == ["across", "plain sheet", "upright"]  # underscores are blanks in prompts
    assert made.prompts("a {}!") == ["a across!", "a plain sheet!", "a upright!"]
    assert made.templates == small_study.TEMPLATES
    assert made.train.images.shape == (18, 3, 32, 32)
    assert made.train.images.dtype == torch.uint8
    assert made.train.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert made.test.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    file = root / "green" / "test" / "plain_sheet" / "2.png"
    assert np.array_equal(made.test.images[4 + 2].permute(1, 2, 0), np.asarray(Image.open(file)))


def test_a_root_is_taken_from_the_projects(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "ROOT", root.parent)
    near = tasks.make("red", settings(Path("pictures")), 32)
    assert torch.equal(near.train.images, tasks.make("red", settings(root), 32).train.images)


def test_a_wide_picture_is_scaled_then_cut_in_the_middle(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "wide.png")
    # the shorter side 20 becomes 10, 50 becomes 25; of 25 columns 10 are kept, from (25 - 10) // 2 = 7
    scaled = np.asarray(Image.fromarray(noise).resize((25, 10), Image.Resampling.BICUBIC))
    assert np.array_equal(tasks.decode(tmp_path / "wide.png", 10), scaled[:, 7:17])


def test_a_tall_grey_jpeg_becomes_three_channels(tmp_path: Path) -> None:
    Image.fromarray(np.tile(np.arange(40, dtype=np.uint8)[:, None], (1, 16))).save(tmp_path / "tall.JPG")
    found = tasks.decode(tmp_path / "tall.JPG", 16)
    assert found.shape == (16, 16, 3)
    assert np.array_equal(found[..., 0], found[..., 2])
    assert abs(int(found[0, 0, 0]) - 12) <= 2  # the first of rows 12 to 27


def test_a_jpeg_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    stored, exif = Image.fromarray(noise), Image.Exif()
    exif[0x0112] = 6  # the first row as stored is the right side as seen: turn it clockwise
    stored.save(tmp_path / "plain.jpg")
    stored.save(tmp_path / "turned.jpg", exif=exif)
    plain, turned = (tasks.decode(tmp_path / f"{name}.jpg", 32) for name in ("plain", "turned"))
    assert np.array_equal(turned[:, -1], plain[0])
    assert np.array_equal(turned, np.rot90(plain, -1))


def test_a_limit_draws_by_the_seed(root: Path) -> None:
    whole = tasks.make("red", settings(root), 32).train
    first, again, other = (
        tasks.make("red", settings(root, train_per_class=3, seed=seed), 32).train for seed in (0, 0, 1)
    )
    assert first.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    known = {picture.numpy().tobytes() for picture in whole.images}
    assert len({picture.numpy().tobytes() for picture in first.images} & known) == 9
    more = tasks.make("red", settings(root, train_per_class=100), 32).train
    assert torch.equal(more.images, whole.images)


def test_a_broken_picture_is_named(root: Path) -> None:
    file = root / "red" / "test" / "upright" / "3.png"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(TaskError, match=f"{file} is no readable picture .*; replace or remove it"):
        tasks.make("red", settings(root), 32)
    file.write_text("hello")
    with pytest.raises(TaskError, match=f"{file} is no readable picture"):
        tasks.make("red", settings(root), 32)


def test_an_empty_class_folder_is_named(root: Path) -> None:
    folder = root / "red" / "train" / "upright"
    for file in folder.iterdir():
        file.rename(file.with_suffix(".gif"))
    with pytest.raises(TaskError, match=rf"{folder} has no picture \(.png, .jpg, .jpeg\); add some or remove"):
        tasks.make("red", settings(root), 32)


def test_classes_that_differ_between_the_splits_are_named(root: Path) -> None:
    (root / "red" / "test" / "upright").rename(root / "red" / "test" / "downright")
    with pytest.raises(TaskError, match="must have the same classes; only in one of them: downright, upright"):
        tasks.make("red", settings(root), 32)


def test_a_missing_split_or_task_shows_the_form_that_is_expected(root: Path) -> None:
    shutil.rmtree(root / "red" / "test")
    with pytest.raises(TaskError, match=f"{root}/red/test is missing; a task is a folder <task>/{{train,test}}/"):
        tasks.make("red", settings(root), 32)
    with pytest.raises(TaskError, match=f"{root}/rde/train is missing"):
        tasks.make("rde", settings(root), 32)


def test_one_class_is_no_task(root: Path) -> None:
    for name in ("across", "upright"):
        shutil.rmtree(root / "red" / "train" / name)
    with pytest.raises(TaskError, match="train has 1 class folders; at least 2 are needed"):
        tasks.make("red", settings(root), 32)


def test_a_folder_study_needs_templates(root: Path) -> None:
    with pytest.raises(TaskError, match='tasks.templates is empty; .* "a photo of a {}."'):
        tasks.make("red", settings(root, templates=[]), 32)


def test_an_unknown_mini_task_and_a_wrong_size_are_said(root: Path) -> None:
    with pytest.raises(TaskError, match="no task 'digitz'; it has: digits, outlines,"):
        tasks.make("digitz", settings(root, source="mini"), 48)
    with pytest.raises(TaskError, match="have 48 pixels a side, the backbone wants 32"):
        tasks.make("digits", settings(root, source="mini"), 32)


def test_round_trip(tmp_path: Path) -> None:
    made = small_study.task(1)
    tasks.save(made, tmp_path / "deep" / "green.safetensors")
    again = tasks.load(tmp_path / "deep" / "green.safetensors")
    assert (again.name, again.classes, again.templates) == (made.name, made.classes, made.templates)
    for split in tasks.SPLITS:
        for part in ("images", "labels"):
            assert torch.equal(getattr(getattr(again, split), part), getattr(getattr(made, split), part))


def test_a_damaged_foreign_or_missing_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "green.safetensors"
    message = f"{file} is no prepared task .*; the stage `tasks` makes it again"
    with pytest.raises(TaskError, match=message):
        tasks.load(file)
    tasks.save(small_study.task(1), file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(TaskError, match=message):
        tasks.load(file)
    save_file({"weights": torch.zeros(2)}, file)
    with pytest.raises(TaskError, match=message):
        tasks.load(file)


def test_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_study.move(monkeypatch, tmp_path)
    small_study.prepare(tmp_path)
    study = small_study.study({"tasks.orders": {"I": ["red", "green", "blue"], "II": ["blue", "red", "green"]}})
    assert tasks.names(study) == ["red", "green", "blue"]
    assert [task.name for task in tasks.sequence(study, "II")] == ["blue", "red", "green"]
    with pytest.raises(TaskError, match="study tiny has no order 'III'; it has: I, II"):
        tasks.sequence(study, "III")
    fewer = small_study.study({"tasks.orders": {"I": ["red", "green", "blue"], "A": ["blue", "red"]}})
    assert tasks.names(fewer) == ["red", "green", "blue"]
    other = small_study.study({"tasks.orders": {"I": ["red", "green"], "II": ["red", "blue"]}})
    with pytest.raises(TaskError, match="order II of study tiny has blue; it can have the tasks of I: red, green"):
        tasks.names(other)


def test_tasks_that_are_not_there_are_made_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_study.move(monkeypatch, root.parent)
    monkeypatch.setattr("lib.clip.loading.load_clip", lambda model, pretrained: small_study.backbone())
    study = small_study.study({"reference": None})
    made = tasks.ensure(study)
    assert [task.name for task in made] == small_study.NAMES
    shutil.rmtree(root)
    again = tasks.ensure(study)
    assert torch.equal(again[2].train.images, made[2].train.images)
