"""Tasks: prepared files, orders of tasks and classes, prompts that a backbone can read."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lib.data import tasks
from lib.data.tasks import TaskError
from tests.support import small_study


def test_round_trip(tmp_path: Path) -> None:
    made = small_study.task(1)
    tasks.save(made, tmp_path / "deep" / "green.safetensors")
    again = tasks.load(tmp_path / "deep" / "green.safetensors")
    assert (again.name, again.classes, again.templates) == (made.name, made.classes, made.templates)
    for split in tasks.SPLITS:
        for part in ("images", "labels"):
            assert torch.equal(getattr(getattr(again, split), part), getattr(getattr(made, split), part))


def test_a_missing_damaged_or_foreign_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "green.safetensors"

    def refused() -> None:
        with pytest.raises(TaskError, match=f"{file}.*stage `tasks`"):
            tasks.load(file)

    refused()
    tasks.save(small_study.task(1), file)
    file.write_bytes(file.read_bytes()[:-1])
    refused()
    save_file({"weights": torch.zeros(2)}, file)
    refused()


def test_a_study_arranges_classes_and_templates() -> None:
    made, settings = small_study.task(0), small_study.study({"tasks.templates": []}).tasks
    assert tasks.arranged(made, settings).templates == made.templates
    turned = tasks.arranged(made, replace(settings, templates=["a {}!"], class_order=[2, 0, 1]))
    assert turned.prompts(turned.templates[0]) == ["a upright!", "a across!", "a plain sheet!"]
    for split in tasks.SPLITS:
        before, after = getattr(made, split), getattr(turned, split)
        assert torch.equal(after.images, before.images)
        assert [turned.classes[i] for i in after.labels] == [made.classes[i] for i in before.labels]
    with pytest.raises(TaskError, match="class_order.*0 to 2.*red"):
        tasks.arranged(made, replace(settings, class_order=[0, 1]))


def test_orders(tmp_path: Path) -> None:
    small_study.prepare(tmp_path)
    orders = {"I": ["red", "green", "blue"], "II": ["blue", "red", "green"], "A": ["blue", "red"]}
    opened = small_study.open_at(tmp_path, small_study.study({"tasks.orders": orders}))
    assert tasks.names(opened.params.tasks) == ["red", "green", "blue"]
    for order, names in orders.items():
        assert [task.name for task in opened.sequence(order)] == names
    with pytest.raises(TaskError, match="III.*I, II, A"):
        opened.sequence("III")
    other = small_study.study({"tasks.orders": {"I": ["red", "green"], "II": ["red", "blue"]}})
    with pytest.raises(TaskError, match="orders.II has blue.*red, green"):
        tasks.names(other.tasks)


def test_missing_tasks_are_prepared_once(tmp_path: Path) -> None:
    small_study.write_pictures(tmp_path / "pictures")
    alone = small_study.study({"reference": None})
    made = small_study.open_at(tmp_path, alone).tasks
    assert [task.name for task in made] == small_study.NAMES
    shutil.rmtree(tmp_path / "pictures")
    again = small_study.open_at(tmp_path, alone).tasks
    assert torch.equal(again[2].train.images, made[2].train.images)


@pytest.mark.parametrize(
    ("classes", "error"),
    [
        (["cat", "dog"], None),
        (["\u732b", "\u72ac", "\u043a\u043e\u0442"], None),  # cat, dog; and cat again, in Russian
        (["cat", "dog " * 20], "'dog dog.*16 tokens.*shorter"),
        (["cat dog", "cat  dog"], "'cat dog' and 'cat  dog' as the same"),
    ],
)
def test_prompts_must_be_short_and_differ(classes: list[str], error: str | None) -> None:
    task, tokenizer = replace(small_study.task(0), classes=classes), small_study.backbone().tokenizer
    if error is None:
        tasks.check_prompts(task, tokenizer)
        return
    with pytest.raises(TaskError, match=error):
        tasks.check_prompts(task, tokenizer)
