"""What methods have in common when they answer: label spaces share encodings, streams may be mixed, who decides."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lib.data.scenarios import Tested
from lib.data.tasks import Pictures
from lib.methods import METHODS
from lib.methods.base import Method, Predictions
from lib.methods.scoring import of_learned
from lib.selector import CLIP
from lib.study.train import Row, evaluate, zero_shot_row
from tests.support import small_lessons, small_study

SELECTING = ["expert_gate", "linear_probe", "analytic_head", "adapter_per_task", "moe_adapters"]


def answers(method: Method, tested: Tested, number: int) -> Predictions:
    return method.predict(tested[0][number], tested[1][number], number)


def evaluated(name: str, views: dict[str, Tested]) -> tuple[Row, dict[tuple[int, str], Tensor], int]:
    """An evaluation: its row, all answers by task and decision, and how many pictures it encoded."""
    method, given = small_study.method(name), {}
    method.restore(small_study.learned(name).state())
    method.answered, predict = {}, method.predict

    def noted(*asked: Any) -> Predictions:
        made = predict(*asked)
        space = "union_" if asked[0].places else ""
        given.update({(asked[2], space + decision): classes for decision, classes in made.classes.items()})
        return made

    method.predict = noted
    return evaluate(method, views, 1, None), given, method.asked


@pytest.mark.parametrize(
    "name", ["finetune", "lora", "icarl", "expert_gate", "adapter", "adapter_per_task", "moe_adapters"]
)
def test_label_spaces_that_share_encodings_are_answered_as_each_alone(name: str) -> None:
    views = small_lessons.views()
    both, given, asked = evaluated(name, views)
    (own, own_answers, alone), (union, union_answers, _) = (evaluated(name, {"": view}) for view in views.values())
    assert both.accuracy == own.accuracy | {f"union_{decision}": row for decision, row in union.accuracy.items()}
    assert both.routed == own.routed
    expected = own_answers | union_answers
    assert given.keys() == expected.keys()
    assert all(torch.equal(classes, expected[key]) for key, classes in given.items())
    exemplars = 18 * 3 if name == "icarl" else 0  # which each space encodes, for each task
    assert asked == alone + exemplars


@pytest.mark.parametrize("name", ["zero_shot", "rail_primal", "rail_dual"])
def test_what_is_settled_is_copied_as_it_would_be_computed(name: str) -> None:
    method, views = small_study.learned(name), small_lessons.views()
    assert evaluate(method, views, 1, zero_shot_row(views, method.decisions)) == evaluate(method, views, 1, None)


@pytest.mark.parametrize("name", METHODS)
def test_a_picture_in_a_stream_of_all_tasks_gets_what_it_gets_among_its_own_tasks_pictures(name: str) -> None:
    """`sample` is told nothing, so it does not matter with which other pictures one comes."""
    method, (tasks, features) = small_study.learned(name), small_lessons.views()["union_"]
    order = torch.randperm(36, generator=torch.Generator().manual_seed(0))

    def mixed(parts: list[Any]) -> Tensor:
        return torch.cat(parts)[order]

    test = Pictures(mixed([task.test.images for task in tasks]), mixed([task.test.labels for task in tasks]))
    stream = replace(tasks[0], name="stream", test=test, nearest_task=mixed([task.nearest_task for task in tasks]))
    parts = {part: mixed([getattr(f, part) for f in features]) for part in ("zero_shot", "test", "image_test")}
    together = method.predict(stream, replace(features[0], **parts), 2)
    alone = [answers(method, (tasks, features), number) for number in range(3)]
    assert torch.equal(together.classes["sample"], mixed([each.classes["sample"] for each in alone]))
    if name in SELECTING:
        assert torch.equal(together.routes["sample"], mixed([each.routes["sample"] for each in alone]))


@pytest.mark.parametrize("name", SELECTING)
def test_looking_up_the_classes_is_the_oracle_among_a_tasks_own_and_clip_among_all(name: str) -> None:
    method, views = small_study.learned(name), small_lessons.views()
    for number in range(3):
        own, union = (answers(method, view, number) for view in views.values())
        for found in (own.routes, own.classes):
            assert torch.equal(found["lookup"], found["oracle"])
        assert set(union.routes["lookup"].tolist()) == {CLIP}
        assert torch.equal(union.classes["lookup"], views["union_"][1][number].zero_shot)
        assert torch.equal(union.routes["sample"], own.routes["sample"])  # class names change no route


def test_a_class_is_learned_by_rails_rule_if_the_nearest_of_all_is_of_a_learned_task() -> None:
    task = replace(small_study.sequence()[0][0], nearest_task=torch.tensor([0, 1, 2, 2] * 3))
    for number, learned in ((0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 3)):
        found = of_learned(task, number, learned)
        assert found["sample"].tolist() == [learned > nearest for nearest in (0, 1, 2, 2)] * 3
        assert found["oracle"].tolist() == [number < learned] * 12
    outside = of_learned(replace(task, nearest_task=None), 1, 2)
    assert torch.equal(outside["sample"], outside["oracle"])
