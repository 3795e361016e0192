"""Tasks: prepared files, orders of tasks and classes, prompts that a backbone can read, random crops by the seed."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lib.data import frozen, tasks
from lib.data.tasks import TaskError, random_crop
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


def test_another_data_seed_gives_other_pictures_of_the_same_classes_and_the_same_bytes_twice(tmp_path: Path) -> None:
    given = {"source": "mini", "orders": {"I": ["digits"]}, "train_per_class": 2, "test_per_class": 2, "templates": []}
    study = small_study.study({f"tasks.{key}": value for key, value in given.items()} | {"reference": None})
    run = replace(study.runs["finetune"], set={"data_seed": 7})
    other = replace(study, runs=study.runs | {"finetune+others": run})
    opened = small_study.open_at(tmp_path, other)
    plain, drawn, again = (opened.lessons_of("I", 0, data_seed=seed)[0] for seed in (0, 7, 7))
    assert opened.curriculum("finetune+others", "I", 0).lessons[0].task.train.images.equal(drawn.task.train.images)
    assert drawn.task.classes == plain.task.classes
    assert torch.equal(drawn.task.test.labels, plain.task.test.labels)
    seen = [{image.numpy().tobytes() for image in lesson.task.train.images} for lesson in (plain, drawn)]
    assert len(seen[0] | seen[1]) > len(seen[0])
    for split in tasks.SPLITS:
        assert torch.equal(getattr(drawn.task, split).images, getattr(again.task, split).images)
    expected = frozen.compute(small_study.backbone(), drawn.task, "clip")
    assert torch.equal(drawn.features.zero_shot, expected.zero_shot)


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


class Still:
    """Draws the middle of every range: no crop, no change of sides, no shift."""

    def uniform(self, low: float, high: float, size: object) -> np.ndarray:
        return np.full(size, (low + high) / 2)  # type: ignore[arg-type]


def test_a_crop_of_all_the_picture_is_the_picture(images: Tensor) -> None:
    same = random_crop(images, 1.0, Still())  # type: ignore[arg-type]
    torch.testing.assert_close(same, images, atol=1e-4, rtol=0)


def test_a_crop_shows_a_part_of_at_least_the_share_asked_for() -> None:
    # brightness tells the place: what is seen spans side * 64 columns, so the crop's area is (wide * high)
    ramp = torch.arange(64.0).expand(200, 1, 64, 64)
    places = torch.cat([ramp, ramp.mT, ramp], dim=1)
    seen = random_crop(places, 0.5, np.random.default_rng(0))[:, :, 8:-8, 8:-8]  # the rim may be reflected
    wide = (seen[:, 0, 0, -1] - seen[:, 0, 0, 0]) / 47
    high = (seen[:, 1, -1, 0] - seen[:, 1, 0, 0]) / 47
    area = wide * high
    assert 0.43 < area.min() < 0.55  # a side longer than the picture is cut: a little below the share
    assert 0.95 < area.max() < 1.001
    assert (wide / high).min() > 0.74
    assert (wide / high).max() < 1.34
    assert (seen[:, 0, 0, 0] < seen[:, 0, 0, -1]).all()  # no flip
