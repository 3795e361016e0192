"""Less of a task: the same draw for pictures and features, and smaller tasks that CLIP answers as such."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lib.clip import preprocess
from lib.data import frozen as features
from lib.data import subsets
from lib.data.frozen import Features
from lib.data.tasks import Pictures, Task
from tests.support import small_study

PARTS = ("train", "image_train")  # of the features: those of the training pictures


def both(*numbers: int) -> tuple[Task, Features]:
    """Some of the small tasks, mixed, as one with three classes of each, and what CLIP says of it."""
    made = [small_study.task(number) for number in numbers]
    splits = []
    for split in ("train", "test"):
        each = [getattr(task, split) for task in made]
        labels = torch.cat([part.labels + 3 * i for i, part in enumerate(each)])
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        splits.append(Pictures(torch.cat([part.images for part in each])[order], labels[order]))
    names = [f"{task.name} {name}" for task in made for name in task.classes]
    task = Task("both", names, small_study.TEMPLATES, *splits)
    return task, features.compute(small_study.backbone(), task, small_study.study().selector)


def rows(few: Tensor, whole: Tensor) -> list[int]:
    """Where each of some different rows stands among all."""
    same = (few.flatten(1)[:, None] == whole.flatten(1)).all(dim=2)
    assert (same.sum(dim=1) == 1).all()
    return same.nonzero()[:, 1].tolist()


def test_shots_are_so_many_of_each_class_and_the_test_pictures_stay() -> None:
    task, known = both(0, 1)
    few, told = subsets.shots(task, known, 2, seed=0)
    assert few.train.labels.bincount().tolist() == [2] * 6
    assert (few.name, few.classes, few.templates) == (task.name, task.classes, task.templates)
    assert few.test is task.test
    for part in ("zero_shot", "test", "image_test"):
        assert getattr(told, part) is getattr(known, part)


def test_pictures_labels_and_features_are_of_the_same_draw() -> None:
    task, known = both(0, 1)
    few, told = subsets.shots(task, known, 3, seed=5)
    drawn = rows(few.train.images, task.train.images)
    assert len(set(drawn)) == 18
    assert torch.equal(task.train.labels[drawn], few.train.labels)
    for part in PARTS:
        assert torch.equal(getattr(told, part), getattr(known, part)[drawn])


def test_a_draw_is_the_seeds_and_another_seed_draws_others() -> None:
    task, known = both(0, 1)
    first, again, other = (subsets.shots(task, known, 2, seed) for seed in (0, 0, 1))
    assert torch.equal(first[0].train.images, again[0].train.images)
    assert torch.equal(first[1].train, again[1].train)
    assert not torch.equal(first[0].train.images, other[0].train.images)


def test_all_shots_are_the_task_itself_or_in_the_order_of_classes() -> None:
    task, known = both(0, 1)
    assert subsets.shots(task, known, 0, seed=0) == (task, known)
    every, _ = subsets.shots(task, known, 6, seed=0)
    assert sorted(rows(every.train.images, task.train.images)) == list(range(36))


def test_too_few_pictures_for_the_shots_are_an_error_that_names_the_class() -> None:
    task, known = both(0, 1)
    kept = (task.train.labels != 4) | (torch.arange(36) == (task.train.labels == 4).nonzero()[0])
    task = replace(task, train=Pictures(task.train.images[kept], task.train.labels[kept]))
    with pytest.raises(ValueError, match="task both: class green plain sheet has 1 training pictures, fewer than 2"):
        subsets.shots(task, known, 2, seed=0)


@pytest.mark.parametrize(("parts", "sizes"), [(2, [3, 3]), (3, [2, 2, 2])])
def test_a_cut_parts_the_classes_and_loses_no_picture(parts: int, sizes: list[int]) -> None:
    task, known = both(0, 2)
    made = subsets.cut(small_study.backbone(), task, known, parts)
    assert [part.name for part, _ in made] == [f"both.{i + 1}" for i in range(parts)]
    assert [len(part.classes) for part, _ in made] == sizes
    assert [name for part, _ in made for name in part.classes] == task.classes
    for split, told_of in (("train", PARTS), ("test", ("test", "image_test"))):
        whole, seen, first = getattr(task, split), [], 0
        for part, told in made:
            mine = getattr(part, split)
            places = rows(mine.images, whole.images)
            assert torch.equal(mine.labels + first, whole.labels[places])
            assert mine.labels.unique().tolist() == list(range(len(part.classes)))  # from 0 again
            for name in told_of:
                assert torch.equal(getattr(told, name), getattr(known, name)[places])
            seen += places
            first += len(part.classes)
        assert sorted(seen) == list(range(len(whole)))


def test_parts_have_the_sizes_that_are_named() -> None:
    task, known = both(0, 1)
    made = subsets.cut(small_study.backbone(), task, known, [4, 1, 1])
    assert [part.classes for part, _ in made] == [task.classes[:4], task.classes[4:5], task.classes[5:]]
    with pytest.raises(ValueError, match="tasks.cut adds up to 5 classes; task both has 6"):
        subsets.cut(small_study.backbone(), task, known, [4, 1])


def test_parts_are_as_even_as_can_be() -> None:
    task, known = both(0, 1, 2)
    sizes = [len(part.classes) for part, _ in subsets.cut(small_study.backbone(), task, known, 4)]
    assert sum(sizes) == 9
    assert max(sizes) - min(sizes) == 1


@torch.no_grad()
def test_clip_answers_a_part_as_if_it_were_asked_with_its_classes_alone() -> None:
    backbone, (task, known) = small_study.backbone(), both(0, 1)
    changed = 0
    for number, (part, told) in enumerate(subsets.cut(backbone, task, known, 2)):
        names = torch.zeros(3, small_study.CONFIG["embed"])
        for template in task.templates:
            tokens = backbone.tokenizer([template.format(name) for name in part.classes])
            names += backbone.model.encode_text(tokens, normalize=True)
        pictures = preprocess(part.test.images, backbone.mean, backbone.std)
        images = backbone.model.encode_image(pictures, normalize=True)
        expected = (images @ names.T / names.norm(dim=1)).argmax(dim=1)
        assert torch.equal(told.zero_shot, expected)
        before = known.zero_shot[rows(part.test.images, task.test.images)] - 3 * number
        inside = (before >= 0) & (before < 3)
        assert torch.equal(told.zero_shot[inside], before[inside])  # the best of all is the best of some
        changed += int((~inside).sum())
    assert changed  # else the smaller question would not show


def test_one_part_is_the_task_itself_and_more_than_half_the_classes_are_an_error() -> None:
    task, known = both(0, 1)
    [(part, told)] = subsets.cut(small_study.backbone(), task, known, 1)
    assert part is task
    assert told is known
    with pytest.raises(ValueError, match="task both has 6 classes: too few to cut it into 4 tasks"):
        subsets.cut(small_study.backbone(), task, known, 4)
