"""Answers by route: no image is asked about twice."""

import torch
from torch import Tensor

from lib.methods.scoring import answers_by_route


def test_an_image_is_asked_about_once_for_each_router_that_a_decision_sends_it_to() -> None:
    asked: list[tuple[int, list[int]]] = []

    def ask(number: int, places: Tensor) -> Tensor:
        asked.append((number, places.tolist()))
        return 10 * number + places

    zero_shot, sample, batch = (torch.tensor(r) for r in ([7, 7, 7], [0, 1, -1], [0, 0, -1]))
    answers = answers_by_route(zero_shot, [sample, batch], ask)
    assert [a.tolist() for a in answers] == [[0, 11, 7], [0, 1, 7]]
    assert sorted(asked) == [(0, [0, 1]), (1, [1])]
