"""Fine-tuning, single fine-tuning and joint training; and zero-shot, which they start from."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from lib.clip import backbone as clip
from lib.clip.towers import image_tower, text_tower
from lib.data.tasks import Pictures
from lib.methods.base import Lesson
from tests.support import small_lessons, small_study

FIRST = [0, 3, 5]  # the first class of each task in the union, for tasks of 3, 2 and 3 classes


def taught(name: str, *numbers: int, **settings: Any) -> Any:
    return small_study.teach(small_study.method(name, **settings), *numbers)


def test_zero_shot_answers_as_clip_and_never_changes() -> None:
    method, (made, features) = taught("zero_shot", 0), small_study.sequence()
    assert torch.equal(method.predict(made[2], features[2], 2).classes["sample"], features[2].zero_shot)
    assert method.settled(0, 0)
    assert method.size() == {"trainable_parameters": 0, "stored_bytes": 0}


def test_all_but_temperature_and_token_table_move() -> None:
    method = small_study.method("finetune")
    before = small_lessons.copied(method)
    small_study.teach(method, 0)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    still = {name for name in before if name.endswith(statistics)} | {"logit_scale", "token_embedding.weight"}
    assert small_lessons.moved(method, before) == set(before) - still


def test_the_answers_are_its_own_towers() -> None:
    method, backbone = small_study.learned("finetune"), small_study.backbone()
    made, features = small_study.sequence()
    images = clip.preprocess(made[0].test.images, backbone.mean, backbone.std)
    with torch.no_grad():
        names = clip.zero_shot_classifier(
            lambda t: text_tower(method.model, t), backbone.tokenizer, made[0].classes, made[0].templates
        )
        expected = (image_tower(method.model, images) @ names.T).argmax(dim=1)
    assert torch.equal(method.predict(made[0], features[0], 0).classes["sample"], expected)


def test_single_starts_every_task_from_clip() -> None:
    after_two, alone, going_on = (
        taught(name, *tasks)
        for name, tasks in (("finetune_single", [0, 1]), ("finetune_single", [1]), ("finetune", [0, 1]))
    )
    assert save(after_two.model.state_dict()) == save(alone.model.state_dict()) != save(going_on.model.state_dict())
    assert [alone.settled(task, 1) for task in range(3)] == [True, False, True]
    assert [going_on.settled(task, 1) for task in range(3)] == [False] * 3


def test_sizes_are_counted() -> None:
    whole = sum(p.numel() for p in small_study.backbone().model.parameters())
    table = small_study.backbone().model.state_dict()["token_embedding.weight"].numel()
    size = small_study.learned("finetune").size()
    assert size["trainable_parameters"] == whole - table - 1
    assert small_study.learned("finetune_single", 2).size() == {key: 2 * value for key, value in size.items()}
    assert small_study.learned("joint").size() == size


PROMPTS = 2 * 3 * small_study.CONFIG["context"] * 8  # bytes of two tasks, three classes each, int64
EXEMPLARS = 6 * 3 * (3 * 32 * 32 + 8)  # 20 // 6 of each class, with labels in int64
KEPT = {"lwf": PROMPTS, "icarl": PROMPTS + EXEMPLARS, "lwf_vr": 0, "zscl": 0, "wise_ft": 0, "mas": None}


@pytest.mark.parametrize(("name", "extra"), KEPT.items())
def test_methods_that_fine_tune_store_a_model_and_what_they_keep(name: str, extra: int | None) -> None:
    plain, size = small_study.learned("finetune").size(), small_study.learned(name).size()
    assert size["trainable_parameters"] == plain["trainable_parameters"]
    importances = 4 * plain["trainable_parameters"]
    assert size["stored_bytes"] == plain["stored_bytes"] + (importances if extra is None else extra)


@pytest.mark.parametrize(("name", "settings"), [("lwf", {}), ("icarl", {}), ("mas", {}), ("wise_ft", {"alpha": 1.0})])
def test_a_first_task_with_nothing_to_keep_is_finetune_bit_for_bit(name: str, settings: dict[str, Any]) -> None:
    assert save(taught(name, 0, **settings).model.state_dict()) == save(taught("finetune", 0).model.state_dict())


# --- joint training


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


def joint() -> Any:
    """The method, its lesson begun."""
    method = small_study.method("joint")
    method.begin_task(method.lesson(sequence(), 0))
    return method


def alone(number: int) -> Any:
    """Fine-tuning from CLIP on one of the tasks, begun."""
    method = small_study.method("finetune")
    method.begin_task(sequence()[number])
    return method


def batch(number: int, count: int) -> tuple[Tensor, Tensor]:
    """Some of a task's pictures, preprocessed, and their labels within the task."""
    train, half = sequence()[number].task.train, (0.5, 0.5, 0.5)
    picked = torch.randperm(len(train), generator=torch.Generator().manual_seed(number))[:count]
    return clip.preprocess(train.images[picked], half, half), train.labels[picked]


def test_joints_first_lesson_is_all_tasks_and_there_is_no_other() -> None:
    method, tasks = small_study.method("joint"), [lesson.task for lesson in sequence()]
    lesson = method.lesson(sequence(), 0)
    assert (lesson.number, lesson.seed, lesson.parts) == (0, [0, 0], 3)
    assert lesson.task.classes == [name for task in tasks for name in task.classes]
    assert torch.equal(lesson.task.train.images, torch.cat([task.train.images for task in tasks]))
    sizes = [len(task.train) for task in tasks]
    for task, first, labels in zip(tasks, FIRST, lesson.task.train.labels.split(sizes), strict=True):
        assert torch.equal(labels, task.train.labels + first)
    assert [method.lesson(sequence(), number) for number in (1, 2)] == [None, None]
    assert [method.settled(0, learned) for learned in range(3)] == [False, True, True]


@pytest.mark.parametrize("number", range(3))
def test_a_joint_batch_of_one_task_has_finetunes_loss_on_it(number: int) -> None:
    images, labels = batch(number, 8)
    joined, single = joint(), alone(number)
    one, two = joined.loss(images, labels + FIRST[number]), single.loss(images, labels)
    torch.testing.assert_close(one, two)
    one.backward()
    two.backward()
    for (name, ours), theirs in zip(joined.trained().items(), single.trained().values(), strict=True):
        close = 1e-6 * float(theirs.grad.abs().max()) + 2e-6
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=close, msg=name)


def test_a_mixed_joint_batch_is_the_mean_over_its_pictures() -> None:
    sizes = [8, 3, 1]
    parts = [batch(number, count) for number, count in enumerate(sizes)]
    images = torch.cat([part for part, _ in parts])
    labels = torch.cat([part + first for (_, part), first in zip(parts, FIRST, strict=True)])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    each = torch.stack([alone(number).loss(*part) for number, part in enumerate(parts)])
    assert len({round(loss.item(), 3) for loss in each}) == 3  # else the weights would not show
    torch.testing.assert_close(joint().loss(images[order], labels[order]), each @ torch.tensor(sizes).float() / 12)
