"""What a selector would be worth: which answers it picks, and what shared decisions do."""

import pytest
import torch
from torch import Tensor

from lib.selector import CLIP, DDAS
from lib.study import selector_ablations
from tests.support import small_study


class Echo(DDAS):
    """A selector whose errors are its features."""

    def __init__(self, tasks: int, threshold: float) -> None:
        super().__init__(tasks, small_study.study().selector)
        self.thresholds = torch.full((tasks,), threshold)
        self.tasks = torch.nn.ModuleList(torch.nn.Identity() for _ in range(tasks))

    def errors(self, features: Tensor, chunk: int = 256) -> Tensor:
        return features


def test_last_takes_each_pictures_answer_from_the_router_it_was_sent_to() -> None:
    right = [torch.tensor([[True, False, False], [False, True, False]]), torch.tensor([[False, False, True]])]
    assert selector_ablations.last_of([torch.tensor([0, 1]), torch.tensor([CLIP])], right) == 100
    assert selector_ablations.last_of([torch.tensor([0, 0]), torch.tensor([0])], right) == 25  # mean of 50 and 0


def test_all_answers_are_those_of_each_router_and_of_clip() -> None:
    method, lessons = small_study.learned("moe_adapters", 3), small_study.lessons()
    for lesson, table in zip(lessons, selector_ablations.answers_of_all(method, lessons), strict=True):
        predicted = method.predict(lesson.task, lesson.features, lesson.number)
        labels = lesson.task.test.labels
        assert table.shape == (len(labels), 4)
        assert torch.equal(table[:, lesson.number], predicted.classes["oracle"] == labels)
        assert torch.equal(table[:, -1], lesson.features.zero_shot == labels)
        picked = table.gather(1, predicted.routes["sample"].remainder(4)[:, None])[:, 0]
        assert torch.equal(picked, predicted.classes["sample"] == labels)


def test_a_group_shares_the_decision_of_its_mean_error() -> None:
    errors = [torch.tensor([[0.1, 0.4], [0.5, 0.2], [0.9, 0.8]]), torch.tensor([[0.6, 0.1]])]
    alone = selector_ablations.grouped(errors, Echo(2, 0.7), 1, mixed=False)
    assert [part.tolist() for part in alone] == [[0, 1, CLIP], [1]]
    pairs = selector_ablations.grouped(errors, Echo(2, 0.7), 2, mixed=False)
    assert [part.tolist() for part in pairs] == [[0, 0, CLIP], [1]]  # means 0.3, 0.3: the first of equals


def test_groups_of_one_are_the_same_mixed_or_not_and_larger_ones_join_tasks() -> None:
    errors = [torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    selector = Echo(3, 2.0)
    for mixed, pure in zip(*(selector_ablations.grouped(errors, selector, 1, m) for m in (True, False)), strict=True):
        assert torch.equal(mixed, pure)
    together = torch.cat(selector_ablations.grouped(errors, selector, 10, mixed=True))
    assert together.unique().numel() == 1


def test_a_task_not_learned_is_judged_by_the_others_alone() -> None:
    features = [torch.tensor([[0.1, 0.9], [0.1, 0.2]]), torch.tensor([[0.9, 0.1]])]
    # task 0's pictures meet coder 1 alone: 0.9 goes to CLIP, 0.2 is claimed; task 1's meet coder 0: 0.9 goes
    assert selector_ablations.to_clip_when_unlearned(Echo(2, 0.5), features) == pytest.approx((50 + 100) / 2)
