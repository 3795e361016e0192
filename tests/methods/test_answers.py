"""Answers that can no longer change: they are not computed again, and are the same as if they were."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support import small_study


def answers(method: Any) -> list[Tensor]:
    """Of every learned router on every task's pictures."""
    routes = [torch.full((12,), router) for router in range(method.model.num_tasks)]
    return [a for task, seen in zip(*small_study.sequence(), strict=True) for a in method.answer(task, seen, routes)]


@pytest.mark.parametrize("freeze", [0, 1, 2, 4])
def test_what_cannot_change_is_not_asked_again(freeze: int) -> None:
    patient, hasty = (small_study.method("moe_adapters", freeze=freeze, selector="gaussian") for _ in range(2))
    for number in (0, 1, 2):
        for method in (patient, hasty):
            small_study.teach(method, number)
        patient.answered, patient.names = {}, {}
        assert all(torch.equal(*pair) for pair in zip(answers(patient), answers(hasty), strict=True))
    everything = 36 * (1 + 2 + 3)
    assert patient.asked == everything
    assert hasty.asked == {0: everything, 4: 36 * 3}.get(freeze, hasty.asked)
    assert hasty.asked <= everything


def test_final_answers_are_kept_in_the_checkpoint_and_not_counted_as_its_size() -> None:
    method = small_study.teach(small_study.method("moe_adapters", freeze=4), 0)
    before = method.size()["stored_bytes"]
    expected = answers(method)
    assert method.size()["stored_bytes"] == before
    again = small_study.method("moe_adapters", freeze=4)
    again.restore(method.state())
    assert all(torch.equal(*pair) for pair in zip(answers(again), expected, strict=True))
    assert again.asked == 0


@pytest.mark.parametrize("settings", [{"router": "shared"}, {"noise": "always", "selector": "none"}])
def test_where_routers_go_on_changing_no_answer_is_final(settings: dict[str, Any]) -> None:
    method = small_study.teach(small_study.method("moe_adapters", freeze=4, **settings), 0)
    answers(method)
    answers(method)
    assert method.asked == 2 * 36
