"""The mini study's tasks: the same by seed, honest splits, and enough of them."""

from functools import cache

import numpy as np
import pytest

from tools.miniworld import mini_tasks as mini
from tools.miniworld.drawing import SIZE


@cache
def drawn(task: str, split: str, seed: int = 0, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    return mini.draw(task, split, count, seed)


def test_there_are_enough_tasks_and_classes() -> None:
    assert 6 <= len(mini.RECIPES) <= 8
    names = [name for recipe in mini.RECIPES.values() for name in recipe.classes]
    assert len(names) >= 80
    assert all(len(set(recipe.classes)) == len(recipe.classes) for recipe in mini.RECIPES.values())
    assert all("{}" in template for recipe in mini.RECIPES.values() for template in recipe.templates)


@pytest.mark.parametrize("task", mini.RECIPES)
def test_pictures_and_labels(task: str) -> None:
    pictures, labels = drawn(task, "train")
    classes = len(mini.RECIPES[task].classes)
    assert pictures.shape == (2 * classes, SIZE, SIZE, 3)
    assert pictures.dtype == np.uint8
    assert labels.tolist() == [label for label in range(classes) for _ in range(2)]
    assert pictures.reshape(len(pictures), -1).std(axis=1).min() > 1  # none is empty


@pytest.mark.parametrize("task", mini.RECIPES)
def test_same_seed_same_bytes_and_another_seed_others(task: str) -> None:
    pictures, labels = drawn(task, "train")
    again, same = mini.draw(task, "train", 2, 0)
    assert again.tobytes() == pictures.tobytes()
    assert same.tobytes() == labels.tobytes()
    assert drawn(task, "train", seed=1)[0].tobytes() != pictures.tobytes()


@pytest.mark.parametrize("task", mini.RECIPES)
def test_no_picture_is_given_twice(task: str) -> None:
    train, test = (drawn(task, split)[0] for split in ("train", "test"))
    every = [picture.tobytes() for picture in [*train, *test]]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("name", mini.DIGITS)
def test_the_splits_of_the_digits_draw_from_other_samples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that carry their own number, seen through the drawing: the two splits never meet."""
    images, target = mini._handwriting()
    numbers = np.arange(len(target)) / len(target) * 16
    flat = np.broadcast_to(numbers[:, None, None], images.shape)
    monkeypatch.setattr(mini, "_handwriting", lambda: (flat, target))
    seen = {}
    for split in ("train", "test"):
        rng = np.random.default_rng(0)
        seen[split] = [int(mini._digits(name, split, rng)[0, 0, 0]) for _ in range(300)]
    assert min(seen["train"]) >= max(seen["test"])  # brightness falls with the number: train comes first


def test_real_digits_are_never_in_both_splits() -> None:
    images, target = mini._handwriting()
    for label in range(10):
        mine = np.flatnonzero(target == label)
        cut = len(mine) * 2 // 3
        train, test = ({images[i].tobytes() for i in part} for part in (mine[:cut], mine[cut:]))
        assert not train & test


def test_more_than_there_is_cannot_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    blank = np.zeros((SIZE, SIZE, 3), np.uint8)
    monkeypatch.setitem(mini.RECIPES, "blanks", mini.Recipe(["blank"], ["{}"], lambda name, split, rng: blank))
    with pytest.raises(ValueError, match="class blank: 2 train pictures wanted, only 1"):
        mini.draw("blanks", "train", 2, 0)


@pytest.mark.parametrize("name", mini.FLAGS)
def test_flags_differ(name: str) -> None:
    others = [mini.flag(other) for other in mini.FLAGS if other != name]
    assert not any(np.array_equal(mini.flag(name), other) for other in others)
