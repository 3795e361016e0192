"""The mini study's tasks: the same by seed, and train and test share no picture and no part of a photograph."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.data import tasks
from lib.data.tasks import TaskError
from tests.support import small_study
from tools.miniworld import mini_tasks, photographs
from tools.miniworld.drawing import SIZE
from tools.miniworld.mini_tasks import DIGITS, RECIPES
from tools.miniworld.photographs import CELL, PHOTOS, cells


@cache
def drawn(task: str, split: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return mini_tasks.draw(task, split, 2, seed)


@pytest.mark.parametrize("task", RECIPES)
def test_pictures_follow_from_the_seed_and_none_is_empty_or_given_twice(task: str) -> None:
    pictures, labels = drawn(task, "train")
    classes = len(RECIPES[task].classes)
    assert pictures.shape == (2 * classes, SIZE, SIZE, 3)
    assert pictures.dtype == np.uint8
    assert labels.tolist() == [label for label in range(classes) for _ in range(2)]
    assert pictures.reshape(len(pictures), -1).std(axis=1).min() > 1
    assert len({picture.tobytes() for picture in [*pictures, *drawn(task, "test")[0]]}) == 4 * classes
    assert np.array_equal(mini_tasks.draw(task, "train", 2, 0)[0], pictures)
    assert not np.array_equal(drawn(task, "train", seed=1)[0], pictures)


@pytest.mark.parametrize("name", DIGITS)
def test_the_splits_of_the_digits_draw_from_other_samples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sample's brightness stands for its place in the data set."""
    images, target = mini_tasks._handwriting()
    places = np.arange(len(target)) / len(target) * 16
    flat = np.broadcast_to(places[:, None, None], images.shape)
    monkeypatch.setattr(mini_tasks, "_handwriting", lambda: (flat, target))
    seen = {}
    for split in ("train", "test"):
        rng = np.random.default_rng(0)
        seen[split] = [int(mini_tasks._digits(name, split, rng)[0, 0, 0]) for _ in range(300)]
    assert min(seen["train"]) >= max(seen["test"])  # later samples are darker, and train comes first


def test_a_prepared_task_has_the_drawn_pictures(tmp_path: Path) -> None:
    settings = replace(small_study.study().tasks, source="mini", train_per_class=2, test_per_class=2)
    mini_tasks.prepare("plots", settings, SIZE, tmp_path, tmp_path / "plots.safetensors")
    made = tasks.load(tmp_path / "plots.safetensors")
    assert (made.classes, made.templates) == (RECIPES["plots"].classes, RECIPES["plots"].templates)
    for split in tasks.SPLITS:
        assert np.array_equal(getattr(made, split).images.permute(0, 2, 3, 1), drawn("plots", split)[0])
    for name, size, error in (("digitz", SIZE, "'digitz'.*digits, outlines"), ("digits", 32, "48 pixels.*wants 32")):
        with pytest.raises(TaskError, match=error):
            mini_tasks.prepare(name, settings, size, tmp_path, tmp_path / "other")


@pytest.mark.parametrize("name", PHOTOS)
def test_the_cells_of_a_photograph_share_no_pixel(name: str) -> None:
    picture = photographs.photograph(name)
    assert picture.height == PHOTOS[name][1]
    covered = np.zeros((picture.height, picture.width), dtype=int)
    for split in ("train", "test"):
        corners = cells(picture.height, picture.width, split)
        assert corners
        for top, left in corners:
            cell = covered[top : top + CELL, left : left + CELL]
            assert cell.shape == (CELL, CELL)
            cell += 1
    assert covered.max() == 1


def test_crops_stay_in_the_cells_of_their_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """A photograph whose cells are dark for train and light for test gives dark and light crops."""
    marked = np.zeros((CELL * 3, CELL * 4), dtype=np.uint8)
    stripes = (np.arange(CELL) // 8 % 2 * 40).astype(np.uint8)
    for split, base in (("train", 60), ("test", 180)):
        for top, left in cells(*marked.shape, split):
            marked[top : top + CELL, left : left + CELL] = base + stripes
    monkeypatch.setattr(photographs, "photograph", lambda name: Image.fromarray(marked))
    for split, low, high in (("train", 35, 130), ("test", 135, 255)):
        rng = np.random.default_rng(0)
        crops = np.stack([photographs.crop("any", split, rng) for _ in range(40)])
        assert low <= crops.min() <= crops.max() <= high
