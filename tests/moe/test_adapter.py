"""Sparse experts against a dense masked sum, one block's adapter, and the config's errors."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.moe import Experts, FreezeRule, Mixture, MoEConfig, RouterOf, Routing

WIDTH, BOTTLENECK = 12, 8


def stirred(experts: int, dropout: float = 0.0) -> Experts:
    torch.manual_seed(0)
    module = Experts(experts, WIDTH, BOTTLENECK, dropout=dropout)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def random_logits(samples: int, experts: int) -> Tensor:
    return torch.randn(samples, experts, generator=torch.Generator().manual_seed(1))


def route_by(logits: Tensor, top_k: int) -> Routing:
    top, chosen = logits.topk(top_k, dim=1)
    gates = torch.zeros_like(logits).scatter(1, chosen, top.softmax(dim=1))
    return Routing(gates, chosen, (gates > 0).sum(dim=0).float())


def route(samples: int, experts: int, top_k: int) -> Routing:
    return route_by(random_logits(samples, experts), top_k)


def dense(module: Experts, x: Tensor, gates: Tensor) -> Tensor:
    """Every expert on every sample, weighted by gates that are mostly zero: the reference."""
    hidden = F.relu(torch.einsum("bld,edr->eblr", x, module.down) + module.down_bias[:, None, None])
    outputs = torch.einsum("eblr,erd->ebld", hidden, module.up) + module.up_bias[:, None, None]
    return torch.einsum("be,ebld->bld", gates, outputs) * module.scale


@pytest.mark.parametrize("length", [4, 9], ids=["short", "long"])  # than the bottleneck: two ways to one sum
@pytest.mark.parametrize(
    ("samples", "experts", "top_k"),
    [(7, 6, 2), (7, 6, 1), (7, 6, 6), (7, 1, 1), (1, 6, 2), (1, 1, 1), (3, 22, 2)],
    ids=["usual", "K=1", "K=E", "E=1", "batch of 1", "one of each", "most experts unused"],
)
def test_sparse_equals_dense_in_outputs_and_gradients(samples: int, experts: int, top_k: int, length: int) -> None:
    module, logits = stirred(experts), random_logits(samples, experts).requires_grad_()
    routing, x = route_by(logits, top_k), torch.randn(samples, length, WIDTH, requires_grad=True)
    weights = [x, logits, *module.parameters()]
    sparse, reference = module(x, routing), dense(module, x, routing.gates)
    torch.testing.assert_close(sparse, reference)
    cotangent = torch.randn_like(sparse)
    mine = torch.autograd.grad((sparse * cotangent).sum(), weights, retain_graph=True)
    theirs = torch.autograd.grad((reference * cotangent).sum(), weights)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_experts_that_nobody_chose_get_a_zero_gradient() -> None:
    module, routing = stirred(22), route(3, 22, 2)
    module(torch.randn(3, 4, WIDTH), routing).sum().backward()
    unused = routing.counts == 0
    assert unused.sum() >= 16
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        assert not parameter.grad[unused].any(), name
        assert parameter.grad[~unused].flatten(1).abs().amax(dim=1).min() > 0, name


def test_one_route_for_all_equals_the_same_route_for_each() -> None:
    module, routing = stirred(6), route(1, 6, 2)
    x = torch.randn(5, 4, WIDTH)
    torch.testing.assert_close(module(x, routing), module(x, routing.expand(5)))


def test_a_sample_is_not_touched_by_its_batch_mates() -> None:
    module, routing = stirred(6), route(5, 6, 2)
    x = torch.randn(5, 4, WIDTH)
    whole = module(x, routing)
    order = torch.tensor([0, 3, 4, 1, 2])
    shuffled = Routing(routing.gates[order], routing.experts[order], routing.load)
    torch.testing.assert_close(module(x[order], shuffled)[0], whole[0], rtol=0, atol=1e-6)
    alone = Routing(routing.gates[:1], routing.experts[:1], routing.load)
    torch.testing.assert_close(module(x[:1], alone)[0], whole[0], rtol=0, atol=1e-6)


def test_a_new_expert_gives_exactly_zero_whatever_it_reads() -> None:
    output = Experts(6, WIDTH, BOTTLENECK)(100 * torch.randn(7, 4, WIDTH), route(7, 6, 2))
    assert output.abs().max() == 0


def test_down_projections_start_like_those_of_linear_layers() -> None:
    torch.manual_seed(0)
    mine = Experts(50, 64, 32).down
    layers = torch.stack([nn.Linear(64, 32).weight for _ in range(50)])
    assert mine.abs().max() <= 64**-0.5
    assert mine.abs().max() > 0.99 * 64**-0.5
    torch.testing.assert_close(mine.std(), layers.std(), rtol=0.02, atol=0)


def test_dropout_acts_on_hidden_units_in_training_only() -> None:
    module, routing = stirred(6, dropout=0.5), route(7, 6, 2)
    x = torch.randn(7, 4, WIDTH)
    assert not torch.equal(module(x, routing), module(x, routing))
    module.eval()
    assert torch.equal(module(x, routing), module(x, routing))
    torch.testing.assert_close(module(x, routing), dense(module, x, routing.gates))


def test_freezing_takes_the_most_chosen_experts_the_lower_number_at_a_tie_and_keeps_them() -> None:
    adapter = Mixture(WIDTH, MoEConfig(experts=5, top_k=2, bottleneck=BOTTLENECK))
    adapter.add_task()
    adapter.add_task()
    adapter.counts[0] = torch.tensor([1, 7, 3, 7, 7])
    adapter.counts[1] = torch.tensor([0, 9, 0, 0, 2])
    adapter.freeze(0)
    assert adapter.frozen.nonzero().flatten().tolist() == [1, 3]
    adapter.freeze(1)  # 1 was frozen before and still takes a place
    assert adapter.frozen.nonzero().flatten().tolist() == [1, 3, 4]


RULES = [
    ("most_used", 2, [[1, 3], [1, 4], [0, 1]]),
    ("most_weighted", 2, [[4, 0], [2, 3], [0, 1]]),
    ("all_used", 2, [[0, 1, 2, 3, 4], [1, 4], [0]]),
    ("all_used", 1, [[0, 1, 2, 3, 4], [1, 4], [0]]),  # whatever the count
    # sums of counts: 1 7 3 7 7, then 1 16 3 7 9, then 10 16 3 7 9; the two least often chosen so far stay free
    ("all_but_fresh", 2, [[1, 3, 4], [1, 4, 3], [1, 0, 4]]),
    ("all_but_fresh", 4, [[1], [1], [1]]),
    ("all_but_fresh", 5, [[], [], []]),
    ("most_used", 0, [[], [], []]),
    ("all_used", 0, [[], [], []]),  # 0 is never, by any rule
]


@pytest.mark.parametrize(("rule", "count", "expected"), RULES)
def test_what_a_rule_freezes_by_hand(rule: FreezeRule, count: int, expected: list[list[int]]) -> None:
    config = MoEConfig(experts=5, bottleneck=BOTTLENECK, freeze_rule=rule, freeze=count)
    adapter, frozen = Mixture(WIDTH, config), set()
    counts = [[1, 7, 3, 7, 7], [0, 9, 0, 0, 2], [9, 0, 0, 0, 0]]
    mass = [[3.0, 2.5, 2.0, 1.0, 4.0], [0.0, 0.5, 5.0, 2.0, 1.0], [4.5, 0.0, 0.0, 0.0, 0.0]]
    for task, chosen in enumerate(expected):
        adapter.add_task()
        adapter.counts[task], adapter.mass[task] = torch.tensor(counts[task]), torch.tensor(mass[task])
        assert adapter.to_freeze(task) == chosen
        adapter.freeze(task)
        frozen |= set(chosen)
        assert set(adapter.frozen.nonzero().flatten().tolist()) == frozen  # once frozen, frozen for good
    assert [adapter.to_freeze(task) for task in range(3)] == expected  # later tasks change no earlier choice


def test_a_routing_is_counted_once_for_each_sample_and_by_its_gates() -> None:
    adapter = Mixture(WIDTH, MoEConfig(experts=3))
    adapter.add_task()
    adapter.add_task()
    gates = torch.tensor([[0.75, 0.25, 0.0], [0.5, 0.0, 0.5]])
    routing = Routing(gates, torch.tensor([[0, 1], [2, 0]]), torch.ones(3))
    for _ in range(2):
        adapter.add_counts(1, routing)
    assert adapter.counts.tolist() == [[0, 0, 0], [4, 2, 2]]
    assert adapter.mass.tolist() == [[0, 0, 0], [2.5, 0.5, 1.0]]


@pytest.mark.parametrize(("router", "trained", "served"), [("task", [False, True], [0, 1]), ("shared", [True], [0, 0])])
def test_a_shared_router_is_made_once_and_trains_on_while_a_tasks_own_is_done_with_its_task(
    router: RouterOf, trained: list[bool], served: list[int]
) -> None:
    adapter = Mixture(WIDTH, MoEConfig(experts=5, router=router))
    for _ in range(2):
        adapter.add_task()
    assert [all(p.requires_grad for p in each.parameters()) for each in adapter.routers] == trained
    assert [adapter.router_of(task) for task in range(2)] == served
    assert adapter.counts.shape == adapter.mass.shape == (2, 5)


def test_freezing_by_counts_that_were_never_made_is_an_error() -> None:
    adapter = Mixture(WIDTH, MoEConfig(experts=5))
    adapter.add_task()
    with pytest.raises(ValueError, match=r"task 0 has no counts .* call add_counts"):
        adapter.freeze(0)


def test_a_new_router_takes_the_mode_of_its_block() -> None:
    adapter = Mixture(WIDTH, MoEConfig(experts=5)).eval()
    adapter.add_task()
    assert not adapter.routers[0].training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": 23}, "top_k is 23; choose 1 to 22"),
        ({"experts": 0}, "choose 1 to 0"),
        ({"bottleneck": 0}, "bottleneck is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"text_router_token": "middle"}, "text_router_token is 'middle'; choose start or end"),
        ({"router": "both"}, "router is 'both'; choose task or shared"),
        (
            {"freeze_rule": "some"},
            "freeze_rule is 'some'; choose most_used or most_weighted or all_used or all_but",
        ),
        ({"freeze": 23}, "freeze is 23; choose 0 to 22"),
        ({"freeze": -1}, "freeze is -1"),
        ({"image_blocks": "some"}, "image_blocks is 'some'; choose all, first, last, none or a list"),
        ({"text_blocks": 3}, "text_blocks is 3"),
        ({"image_blocks": "none", "text_blocks": []}, "image_blocks and text_blocks are both none"),
    ],
)
def test_a_bad_config_is_an_error_that_names_the_value(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoEConfig(**changes)
