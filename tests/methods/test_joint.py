"""Joint training: all tasks in one lesson, every picture judged among its own task's classes."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from lib.clip import preprocess
from lib.data.tasks import Pictures
from lib.methods.base import Lesson
from lib.methods.finetune import Joint
from tests.support import small_study

FIRST = [0, 3, 5]  # of each task in the union: tasks of 3, 2 and 3 classes


def sequence() -> list[Lesson]:
    """The small tasks with class names of their own, the second without its last class."""
    lessons = []
    for lesson, count in zip(small_study.lessons(), (3, 2, 3), strict=True):
        names = [f"{lesson.task.name} {name}" for name in lesson.task.classes[:count]]
        train = lesson.task.train
        kept = train.labels < count
        own = replace(lesson.task, classes=names, train=Pictures(train.images[kept], train.labels[kept]))
        lessons.append(replace(lesson, task=own))
    return lessons


def joint() -> Joint:
    """The method, its lesson begun."""
    method = small_study.method("joint")
    method.begin_task(method.lesson(sequence(), 0))
    return method


def alone(number: int) -> Joint:
    """Fine-tuning from CLIP on one of the tasks, begun."""
    method = small_study.method("finetune")
    method.begin_task(sequence()[number])
    return method


def batch(number: int, count: int) -> tuple[Tensor, Tensor]:
    """Some of a task's pictures, normalised, and their labels within the task."""
    train, half = sequence()[number].task.train, (0.5, 0.5, 0.5)
    picked = torch.randperm(len(train), generator=torch.Generator().manual_seed(number))[:count]
    return preprocess(train.images[picked], half, half), train.labels[picked]


def test_the_first_lesson_is_all_tasks_pictures_and_there_is_no_other() -> None:
    method, tasks = small_study.method("joint"), [lesson.task for lesson in sequence()]
    lesson = method.lesson(sequence(), 0)
    assert (lesson.number, lesson.seed, lesson.parts) == (0, [0, 0], 3)
    assert lesson.task.classes == [name for task in tasks for name in task.classes]
    assert len(set(lesson.task.classes)) == 8
    assert torch.equal(lesson.task.train.images, torch.cat([task.train.images for task in tasks]))
    sizes = [len(task.train) for task in tasks]
    for task, first, labels in zip(tasks, FIRST, lesson.task.train.labels.split(sizes), strict=True):
        assert torch.equal(labels, task.train.labels + first)
    assert [method.lesson(sequence(), number) for number in (1, 2)] == [None, None]
    assert [method.settled(0, learned) for learned in range(3)] == [False, True, True]


@pytest.mark.parametrize("number", range(3))
def test_a_batch_of_one_task_has_finetunes_loss_on_it(number: int) -> None:
    images, labels = batch(number, 8)
    together, single = joint(), alone(number)
    one, two = together.loss(images, labels + FIRST[number]), single.loss(images, labels)
    torch.testing.assert_close(one, two)
    one.backward()
    two.backward()
    for (name, mine), theirs in zip(together.trained().items(), single.trained().values(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        close = 1e-6 * float(theirs.grad.abs().max()) + 2e-6
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=close, msg=name)


def test_a_mixed_batch_is_the_mean_over_its_pictures() -> None:
    sizes = [8, 3, 1]
    parts = [batch(number, count) for number, count in enumerate(sizes)]
    images = torch.cat([part for part, _ in parts])
    labels = torch.cat([part + first for (_, part), first in zip(parts, FIRST, strict=True)])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    found = joint().loss(images[order], labels[order])
    each = [alone(number).loss(*part) for number, part in enumerate(parts)]
    assert len({round(loss.item(), 3) for loss in each}) == 3  # else the weights would not show
    torch.testing.assert_close(found, torch.stack(each) @ torch.tensor(sizes).float() / 12)


def test_later_turns_change_nothing() -> None:
    once = small_study.teach(small_study.method("joint"), 0)
    thrice = small_study.teach(small_study.method("joint"), 0, 1, 2)
    assert save(once.state()) == save(thrice.state())


def test_it_trains_what_finetune_trains() -> None:
    assert list(joint().trained()) == list(alone(0).trained())
    assert small_study.learned("joint").size() == small_study.learned("finetune").size()
