"""The tasks: the same by seed; train and test share no picture, no sample of handwriting, no pixel of a photograph."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.data import tasks
from lib.data.tasks import TaskError
from lib.study import studies
from lib.study.params import load
from tests.support import small_study
from tools.miniworld import mini_tasks, photographs, world
from tools.miniworld.drawing import SIZE
from tools.miniworld.photographs import CELL, PHOTOS, cells

TASKS = load().tasks.orders["I"]


@cache
def drawn(task: str, split: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return mini_tasks.draw(task, split, 2, seed)


@pytest.mark.parametrize("task", TASKS)
def test_pictures_follow_from_the_seed_and_none_is_empty_or_given_twice(task: str) -> None:
    pictures, labels = drawn(task, "train")
    classes = len(mini_tasks.recipe(task).classes)
    assert pictures.shape == (2 * classes, SIZE, SIZE, 3)
    assert labels.tolist() == [label for label in range(classes) for _ in range(2)]
    assert pictures.reshape(len(pictures), -1).std(axis=1).min() > 1
    assert len({picture.tobytes() for picture in [*pictures, *drawn(task, "test")[0]]}) == 4 * classes
    assert np.array_equal(mini_tasks.draw(task, "train", 2, 0)[0], pictures)
    assert not np.array_equal(drawn(task, "train", seed=1)[0], pictures)


def test_the_long_sequence_is_drawn_from_all_tasks() -> None:
    order = load(studies.file_of("hundred")).tasks.orders["H"]
    names = sorted(mini_tasks.NAMES)
    assert order == [names[place] for place in np.random.default_rng(0).permutation(len(names))[:100]]


def test_there_are_a_hundred_tasks_and_no_two_classes_of_the_study_have_one_name() -> None:
    assert len(mini_tasks.NAMES) == len(set(mini_tasks.NAMES)) >= 100
    assert [mini_tasks.NAMES.index(name) for name in ("nature_chalk", "home_chalk", "digits")] == [0, 8, 96]
    assert set(TASKS) <= set(mini_tasks.NAMES)
    names = [name for task in TASKS for name in mini_tasks.recipe(task).classes]
    assert len(names) == len(set(names))


def test_every_class_was_read_in_pre_training() -> None:
    assert {name for task in mini_tasks.NAMES for name in mini_tasks.recipe(task).classes} <= set(world.names())


def test_the_splits_of_the_digits_draw_from_other_samples() -> None:
    images, target, for_test = mini_tasks._handwriting()
    assert len(images) == len(target) == len(for_test) == 1797
    assert np.bincount(target[for_test], minlength=10).min() > 46  # as many as a class has in the test split
    train, test = (mini_tasks.draw("digits", split, 20, 0)[0] for split in ("train", "test"))
    assert len({picture.tobytes() for picture in [*train, *test]}) == 400


def test_a_prepared_task_has_the_drawn_pictures(tmp_path: Path) -> None:
    settings = replace(small_study.study().tasks, source="mini", train_per_class=2, test_per_class=2)
    mini_tasks.prepare("home_chalk", settings, SIZE, tmp_path, tmp_path / "made.safetensors")
    made = tasks.load(tmp_path / "made.safetensors")
    assert (made.classes, made.templates) == (mini_tasks.recipe("home_chalk").classes, mini_tasks.TEMPLATES)
    for split in tasks.SPLITS:
        assert np.array_equal(getattr(made, split).images.permute(0, 2, 3, 1), drawn("home_chalk", split)[0])
    for name, size, error in (("home_chalc", SIZE, "'home_chalc'.*home_chalk"), ("digits", 48, "32 pixels.*wants 48")):
        with pytest.raises(TaskError, match=error):
            mini_tasks.prepare(name, settings, size, tmp_path, tmp_path / "other")


@pytest.mark.parametrize("name", PHOTOS)
def test_the_cells_of_a_photograph_share_no_pixel_and_both_splits_have_some(name: str) -> None:
    picture = photographs.photograph(name)
    covered = np.zeros((picture.height, picture.width), dtype=int)
    for split in ("train", "test"):
        corners = cells(picture.height, picture.width, split)
        assert len(corners) >= 8
        for top, left in corners:
            cell = covered[top : top + CELL, left : left + CELL]
            assert cell.shape == (CELL, CELL)
            cell += 1
    assert covered.max() == 1


def test_crops_stay_in_the_cells_of_their_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """A photograph whose cells are dark for train and light for test gives dark and light crops."""
    marked = np.zeros((CELL * 4, CELL * 5), dtype=np.uint8)
    stripes = (np.arange(CELL) // 8 % 2 * 40).astype(np.uint8)
    for split, base in (("train", 60), ("test", 180)):
        for top, left in cells(*marked.shape, split):
            marked[top : top + CELL, left : left + CELL] = base + stripes
    monkeypatch.setattr(photographs, "photograph", lambda name: Image.fromarray(marked))
    for split, low, high in (("train", 35, 130), ("test", 135, 255)):
        rng = np.random.default_rng(0)
        crops = np.stack([photographs.crop("any", split, rng) for _ in range(40)])
        assert low <= crops.min() <= crops.max() <= high
