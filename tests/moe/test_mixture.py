"""One block's mixture: what it counts and freezes; and the config's errors."""

import pytest
import torch

from lib.moe import FreezeRule, Mixture, MoEConfig, Routing

WIDTH = 12
RULES = [
    ("most_used", 2, [[1, 3], [1, 4], [0, 1]]),
    ("most_weighted", 2, [[4, 0], [2, 3], [0, 1]]),
    ("all_used", 2, [[0, 1, 2, 3, 4], [1, 4], [0]]),
    # sums of counts: 1 7 3 7 7, then 1 16 3 7 9, then 10 16 3 7 9; the two chosen least often so far stay free
    ("all_but_fresh", 2, [[1, 3, 4], [1, 4, 3], [1, 0, 4]]),
    ("all_but_fresh", 4, [[1], [1], [1]]),
    ("most_used", 0, [[], [], []]),
    ("all_used", 0, [[], [], []]),  # 0 means none, by any rule
]


@pytest.mark.parametrize(("rule", "number", "expected"), RULES)
def test_what_a_rule_freezes_by_hand(rule: FreezeRule, number: int, expected: list[list[int]]) -> None:
    mixture, frozen = Mixture(WIDTH, MoEConfig(experts=5, freeze_rule=rule, freeze=number)), set()
    counts = [[1, 7, 3, 7, 7], [0, 9, 0, 0, 2], [9, 0, 0, 0, 0]]  # at a tie the lower number; 1 is chosen again
    mass = [[3.0, 2.5, 2.0, 1.0, 4.0], [0.0, 0.5, 5.0, 2.0, 1.0], [4.5, 0.0, 0.0, 0.0, 0.0]]
    for task, chosen in enumerate(expected):
        mixture.add_task()
        mixture.counts[task], mixture.mass[task] = torch.tensor(counts[task]), torch.tensor(mass[task])
        assert mixture.to_freeze(task) == chosen
        mixture.freeze(task)
        frozen |= set(chosen)
        assert set(mixture.frozen.nonzero().flatten().tolist()) == frozen  # for good
    assert [mixture.to_freeze(task) for task in range(3)] == expected  # later tasks change no earlier choice


def test_a_routing_is_counted_once_for_each_sample_and_by_its_gates() -> None:
    mixture = Mixture(WIDTH, MoEConfig(experts=3))
    mixture.add_task()
    mixture.add_task()
    gates = torch.tensor([[0.75, 0.25, 0.0], [0.5, 0.0, 0.5]])
    routing = Routing(gates, torch.tensor([[0, 1], [2, 0]]), torch.ones(3))
    for _ in range(2):
        mixture.add_counts(1, routing)
    assert mixture.counts.tolist() == [[0, 0, 0], [4, 2, 2]]
    assert mixture.mass.tolist() == [[0, 0, 0], [2.5, 0.5, 1.0]]


def test_freezing_by_counts_that_were_never_made_is_an_error() -> None:
    mixture = Mixture(WIDTH, MoEConfig(experts=5))
    mixture.add_task()
    with pytest.raises(ValueError, match=r"task 0 .* add_counts"):
        mixture.freeze(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": 23}, "top_k is 23; choose 1 to 22"),
        ({"bottleneck": 0}, "bottleneck is 0"),
        ({"dropout": 1.0}, r"dropout is 1\.0"),
        ({"text_router_token": "middle"}, "text_router_token is 'middle'; choose start or end"),
        ({"router": "both"}, "router is 'both'; choose task or shared"),
        ({"freeze_rule": "some"}, "freeze_rule is 'some'; choose most_used or .* all_but_fresh"),
        ({"freeze": 23}, "freeze is 23; choose 0 to 22"),
        ({"image_blocks": "some"}, "image_blocks is 'some'; choose all"),
        ({"image_blocks": "none", "text_blocks": []}, "both none"),
    ],
)
def test_a_bad_config_is_an_error_that_names_the_value(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoEConfig(**changes)
