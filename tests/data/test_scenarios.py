"""Few shots, parts of a task, label spaces: pictures, labels and features of the same draw, and what is answered."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lib.data import frozen
from lib.data.frozen import Features
from lib.data.scenarios import LabelSpace, cut, shots
from lib.data.tasks import Pictures, Task, TaskError
from tests.data.test_frozen import answers
from tests.support import small_lessons, small_study
from tests.support.small_lessons import NAMES, named

PARTS = ("train", "image_train")  # the features of the training pictures


def both(*numbers: int) -> tuple[Task, Features]:
    """Some of the small tasks as one, its pictures shuffled, with three classes of each; and its features."""
    made = [small_study.task(number) for number in numbers]
    splits = []
    for split in ("train", "test"):
        each = [getattr(task, split) for task in made]
        labels = torch.cat([part.labels + 3 * i for i, part in enumerate(each)])
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        splits.append(Pictures(torch.cat([part.images for part in each])[order], labels[order]))
    names = [f"{task.name} {name}" for task in made for name in task.classes]
    task = Task("both", names, small_study.TEMPLATES, *splits)
    return task, frozen.compute(small_study.backbone(), task, "clip")


def rows(few: Tensor, whole: Tensor) -> list[int]:
    """The places of some rows, all different, in a whole."""
    same = (few.flatten(1)[:, None] == whole.flatten(1)).all(dim=2)
    assert (same.sum(dim=1) == 1).all()
    return same.nonzero()[:, 1].tolist()


def test_shots_are_as_many_pictures_of_each_class_with_their_labels_and_features() -> None:
    task, features = both(0, 1)
    few, drawn = shots(task, features, 3, seed=5)
    again, other = (shots(task, features, 3, seed)[0].train.images for seed in (5, 1))
    assert torch.equal(few.train.images, again)
    assert not torch.equal(few.train.images, other)
    assert few.train.labels.bincount().tolist() == [3] * 6
    places = rows(few.train.images, task.train.images)
    assert len(set(places)) == 18
    assert torch.equal(task.train.labels[places], few.train.labels)
    for part in PARTS:
        assert torch.equal(getattr(drawn, part), getattr(features, part)[places])
    assert (few.name, few.classes, few.templates, few.test) == (task.name, task.classes, task.templates, task.test)
    for part in ("zero_shot", "test", "image_test"):
        assert getattr(drawn, part) is getattr(features, part)


def test_0_shots_are_the_task_itself_and_too_many_are_refused() -> None:
    task, features = both(0, 1)
    assert shots(task, features, 0, seed=0) == (task, features)
    every, _ = shots(task, features, 6, seed=0)
    assert sorted(rows(every.train.images, task.train.images)) == list(range(36))
    kept = (task.train.labels != 4) | (torch.arange(36) == (task.train.labels == 4).nonzero()[0])
    task = replace(task, train=Pictures(task.train.images[kept], task.train.labels[kept]))
    with pytest.raises(ValueError, match="both.*green plain sheet has 1 .*2"):
        shots(task, features, 2, seed=0)


@pytest.mark.parametrize(
    ("parts", "sizes"), [(2, [3, 3]), (3, [2, 2, 2]), ([4, 1, 1], [4, 1, 1])], ids=["halves", "thirds", "sizes"]
)
def test_a_cut_parts_the_classes_and_loses_no_picture(parts: int | list[int], sizes: list[int]) -> None:
    task, features = both(0, 2)
    made = cut(small_study.backbone(), task, features, parts)
    assert [part.name for part, _ in made] == [f"both.{i + 1}" for i in range(len(sizes))]
    assert [len(part.classes) for part, _ in made] == sizes
    assert [name for part, _ in made for name in part.classes] == task.classes
    for split, names in (("train", PARTS), ("test", ("test", "image_test"))):
        whole, seen, first = getattr(task, split), [], 0
        for part, own in made:
            mine = getattr(part, split)
            places = rows(mine.images, whole.images)
            assert torch.equal(mine.labels + first, whole.labels[places])
            assert mine.labels.unique().tolist() == list(range(len(part.classes)))  # from 0 again
            for name in names:
                assert torch.equal(getattr(own, name), getattr(features, name)[places])
            seen += places
            first += len(part.classes)
        assert sorted(seen) == list(range(len(whole)))


def test_clip_answers_a_part_among_its_own_classes() -> None:
    backbone, (task, features) = small_study.backbone(), both(0, 1)
    changed = 0
    for number, (part, own) in enumerate(cut(backbone, task, features, 2)):
        assert torch.equal(own.zero_shot, answers(backbone, part))
        before = features.zero_shot[rows(part.test.images, task.test.images)] - 3 * number
        inside = (before >= 0) & (before < 3)
        assert torch.equal(own.zero_shot[inside], before[inside])  # the best of all classes is the best of some
        changed += int((~inside).sum())
    assert changed  # or this would test nothing


def test_one_part_is_the_task_itself_and_impossible_parts_are_refused() -> None:
    task, features = both(0, 1)
    [(part, own)] = cut(small_study.backbone(), task, features, 1)
    assert part is task
    assert own is features
    with pytest.raises(ValueError, match="both has 6 classes.*4 tasks"):
        cut(small_study.backbone(), task, features, 4)
    with pytest.raises(ValueError, match="tasks.cut.*5 classes.*both has 6"):
        cut(small_study.backbone(), task, features, [4, 1])


UNION = ["lined", "plain sheet", "upright", "tilted", "bare", "across", "lying", "sheer"]


@pytest.mark.parametrize("learned", [0, 2])
def test_union_has_all_classes_at_all_times_and_a_shared_name_once(learned: int) -> None:
    views, features = small_lessons.views("union", learned)["union_"]
    assert [task.classes for task in views] == [UNION] * 3
    for view, names, task in zip(views, NAMES, named(), strict=True):
        assert [UNION[place] for place in view.test.labels] == [names[label] for label in task.test.labels]
        assert {t: at.tolist() for t, at in view.places.items()} == {0: [0, 1, 2], 1: [3, 1, 4], 2: [5, 6, 7]}
        assert torch.equal(view.train.labels, task.train.labels)  # a task is learned among its own classes
    answers = frozen.zero_shot(small_study.backbone(), views[1], features[1].image_test)
    assert torch.equal(features[1].zero_shot, answers)


def test_seen_grows_with_the_tasks_and_tests_no_other() -> None:
    for learned in range(3):
        ((prefix, (views, features)),) = small_lessons.views("seen", learned).items()
        assert (prefix, len(views), len(features)) == ("", learned + 1, learned + 1)
        assert {len(task.classes) for task in views} == {[3, 5, 8][learned]}


@torch.no_grad()
def test_a_union_is_tested_beside_the_tasks_own_classes_and_knows_the_nearest_task() -> None:
    views, names = small_lessons.views(), [name for classes in NAMES for name in classes]
    assert list(views) == ["", "union_"]
    assert [task.classes for task in views[""][0]] == NAMES
    assert views[""][1] == small_study.sequence()[1]  # CLIP's answers are those that it has
    alone = small_lessons.views("own")
    assert list(alone) == [""]
    features = frozen.class_features(small_study.backbone(), replace(named()[0], classes=names))
    for number in range(3):
        nearest = (views[""][1][number].image_test @ features.T).argmax(dim=1) // 3
        for tasks, _ in (views[""], views["union_"], alone[""]):
            found: Any = tasks[number].nearest_task
            assert torch.equal(found, nearest)
            assert tasks[number].listed == (None if tasks is views["union_"][0] else number)


def test_tasks_with_different_templates_have_no_space_in_common() -> None:
    made = named()
    made[1] = replace(made[1], templates=["a drawing of {}."])
    with pytest.raises(TaskError, match="tasks.labels is seen.*green.*set tasks.templates"):
        LabelSpace("seen", small_study.backbone(), made, small_study.sequence()[1])


def test_a_class_incremental_run_tests_what_was_learned_among_all_classes_so_far(tmp_path: Path) -> None:
    small_study.prepare(tmp_path)
    opened = small_study.open_at(tmp_path, small_study.study({"tasks.labels": "seen"}))
    result = opened.learn("finetune--I--s0")
    rows = result["accuracy"]["sample"]
    assert [len(row) for row in rows] == [1, 2, 3]
    steps = [sum(row) / len(row) for row in rows]  # the tasks have equally many test pictures
    assert result["average"]["sample"] == pytest.approx(sum(steps) / 3, abs=1e-3)
    assert result["last"]["sample"] == pytest.approx(steps[-1], abs=1e-3)
    assert result["transfer"]["sample"] is None
