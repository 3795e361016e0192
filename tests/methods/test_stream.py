"""The stream as evidence: the sum over all histories, no effect on one picture, help in blocks, no harm if shuffled."""

from itertools import pairwise, product

import numpy as np
import torch
from torch import Tensor

from lib.methods.stream import CHANGES, in_blocks, in_stream

OWNERS = torch.tensor([2, 2, 7, -1])  # answers of task 2, of task 7 and of none


def pictures(count: int, seed: int = 0) -> Tensor:
    """Chances (N, 4) of four answers."""
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(4), count))


def test_it_is_the_sum_over_all_histories_of_tasks_and_all_rates_of_change() -> None:
    chances = pictures(4)
    task_of = [1, 1, 2, 0]  # the answers' tasks, in ascending order: none, 2, 7
    likelihood = np.zeros((4, 3))
    for answer, task in enumerate(task_of):
        likelihood[:, task] += chances[:, answer].numpy()
    joint = np.zeros(3)  # of the last picture's task and of all that came before it
    for s in CHANGES:
        for history in product(range(3), repeat=4):
            chance = 1 / len(CHANGES) / 3
            for before, after in pairwise(history):
                chance *= s / 3 + (1 - s) * (before == after)
            for n, task in enumerate(history[:-1]):
                chance *= likelihood[n, task]
            joint[history[-1]] += chance
    expected = chances[-1].numpy() * joint[task_of]
    np.testing.assert_allclose(in_stream(chances, OWNERS)[-1], expected / expected.sum(), rtol=1e-10)


def test_a_picture_alone_and_answers_of_one_task_stay_as_they_are() -> None:
    chances = pictures(6)
    torch.testing.assert_close(in_stream(chances[:1], OWNERS), chances[:1])
    torch.testing.assert_close(in_stream(chances, torch.zeros(4)), chances)


def test_later_pictures_have_no_say() -> None:
    chances = pictures(9)
    torch.testing.assert_close(in_stream(chances, OWNERS)[:5], in_stream(chances[:5], OWNERS))


def right(order: np.ndarray, stream: bool) -> float:
    """How often the task is right, of 600 pictures of three tasks whose chances tell it two times in three."""
    rng, tasks = np.random.default_rng(1), np.repeat(range(3), 200)
    said = np.where(rng.random(600) < 2 / 3, tasks, rng.integers(3, size=600))
    chances = torch.from_numpy(np.where(said[:, None] == np.arange(3), 0.6, 0.2))[torch.from_numpy(order)]
    found = in_stream(chances, torch.arange(3)) if stream else chances
    return float(np.mean((found.argmax(dim=1).numpy() == tasks[order])[100:]))  # by then it knows the stream


def test_it_helps_in_blocks_and_does_no_harm_in_a_shuffled_stream() -> None:
    blocks, mixed = np.arange(600), np.random.default_rng(0).permutation(600)
    assert right(blocks, stream=True) > right(blocks, stream=False) + 0.1
    assert right(mixed, stream=True) > right(mixed, stream=False) - 0.01


def test_many_pictures_of_one_task_leave_room_for_the_next() -> None:
    sure = torch.tensor([[0.98, 0.01, 0.01]]).double()
    chances = torch.cat([sure.repeat(5000, 1), sure.flip(1).repeat(3, 1)])
    found = in_stream(chances, torch.arange(3))
    assert torch.isfinite(found).all()
    assert found[-1].argmax() == 2


def test_blocks_hold_every_picture_once_and_so_many_of_a_task_in_a_row() -> None:
    tasks = torch.arange(3).repeat_interleave(torch.tensor([40, 50, 60]))
    order = in_blocks([40, 50, 60], 8)
    assert order.sort().values.tolist() == list(range(150))
    changes = (tasks[order].diff() != 0).nonzero().flatten()
    assert torch.cat([changes, torch.tensor([149])]).diff().min() >= 8
    assert (tasks[in_blocks([40, 50, 60], 1)].diff() != 0).double().mean() > 0.5
