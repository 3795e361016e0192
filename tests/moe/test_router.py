"""The gate: what it chooses, what it balances, and what its gradient reaches."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.moe import Router, Routing, balance_loss


def stirred(width: int = 16, experts: int = 6, top_k: int = 2, noise: bool = True) -> Router:
    torch.manual_seed(0)
    router = Router(width, experts, top_k, noise)
    for parameter in router.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return router


@pytest.fixture
def x0() -> Tensor:
    return torch.randn(32, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("top_k", [2, 5, 6])
def test_gates_are_the_softmax_over_the_largest_logits_only(x0: Tensor, top_k: int) -> None:
    router = stirred(top_k=top_k).eval()
    logits = x0 @ router.weight
    smallest_kept = logits.sort(dim=1, descending=True).values[:, top_k - 1 : top_k]
    expected = logits.masked_fill(logits < smallest_kept, float("-inf")).softmax(dim=1)
    gates, experts, load = routing = router(x0)
    torch.testing.assert_close(gates, expected)
    assert ((gates > 0).sum(dim=1) == top_k).all()
    assert torch.equal(gates.gather(1, experts) > 0, torch.ones(32, top_k, dtype=torch.bool))
    assert routing.counts.tolist() == [(experts == e).sum().item() for e in range(6)]
    assert torch.equal(load, routing.counts.float())
    torch.testing.assert_close(routing.importance.sum(), torch.tensor(32.0))


def test_a_single_choice_is_weighted_by_its_share_among_all_and_so_the_router_learns(x0: Tensor) -> None:
    router = stirred(top_k=1)
    shares = (x0 @ router.weight).softmax(dim=1)
    gates, experts, load = router.eval()(x0)
    largest, best = shares.max(dim=1, keepdim=True)
    assert torch.equal(experts, best)
    torch.testing.assert_close(gates, torch.zeros(32, 6).scatter(1, best, largest))
    assert torch.equal(load, torch.bincount(best.flatten(), minlength=6).float())
    router.train()(x0, torch.randn(32, 6)).gates.sum().backward()
    for name, parameter in router.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-3, name


def test_noise_acts_in_training_only_by_the_draws_given_or_by_torchs_seed(x0: Tensor) -> None:
    router, draws = stirred(), torch.randn(32, 6)
    assert router.noise_weight is not None
    clean = x0 @ router.weight
    noisy = clean + draws * (F.softplus(x0 @ router.noise_weight) + 0.01)
    assert torch.equal(router(x0, draws).experts, noisy.topk(2, dim=1).indices)
    torch.manual_seed(5)
    drawn = router(x0).gates
    torch.manual_seed(5)
    assert torch.equal(drawn, router(x0, torch.randn(32, 6)).gates)  # without draws given, torch's own
    assert torch.equal(router.eval()(x0).experts, clean.topk(2, dim=1).indices)


def test_a_router_without_noise_has_no_noise_weight_and_trains_as_it_tests(x0: Tensor) -> None:
    router = stirred(noise=False)
    assert [name for name, _ in router.named_parameters()] == ["weight"]
    assert torch.equal(router.train()(x0).gates, router.eval()(x0).gates)


def test_a_new_router_chooses_by_noise_alone_and_so_reaches_all_experts(x0: Tensor) -> None:
    router = Router(16, 6, 2)
    assert not any(parameter.any() for parameter in router.parameters())
    assert (router(x0, torch.randn(32, 6, generator=torch.Generator().manual_seed(2))).counts > 0).all()


def test_load_is_the_chance_to_be_chosen_under_fresh_noise(x0: Tensor) -> None:
    """For each expert alone, its noise is drawn again 4,000 times while the others keep theirs."""
    router, draws = stirred(), torch.randn(32, 6, generator=torch.Generator().manual_seed(3))
    assert router.noise_weight is not None
    std = F.softplus(x0 @ router.noise_weight) + 0.01
    clean = x0 @ router.weight
    noisy = clean + draws * std
    fresh = clean + std * torch.randn(4000, 32, 6, generator=torch.Generator().manual_seed(4))
    chosen = torch.zeros(6)
    for expert in range(6):
        tried = noisy.expand(4000, -1, -1).clone()
        tried[..., expert] = fresh[..., expert]
        chosen[expert] = (tried.topk(2, dim=-1).indices == expert).any(dim=-1).float().mean(dim=0).sum()
    torch.testing.assert_close(router(x0, draws).load, chosen, rtol=0, atol=0.15)  # of 32 samples


def test_a_shared_routing_stands_for_every_sample(x0: Tensor) -> None:
    router = stirred().eval()
    shared, alike = router(x0[:1]).expand(5), router(x0[:1].repeat(5, 1))
    for one, other in zip(shared, alike, strict=True):
        torch.testing.assert_close(one, other)
    assert torch.equal(shared.counts, alike.counts)


def test_balance_loss_is_zero_for_equal_use_and_worked_by_hand_otherwise() -> None:
    even = Routing(torch.full((4, 4), 0.25), torch.arange(4).repeat(4, 1), torch.full((4,), 4.0))
    assert balance_loss(even) == 0
    assert balance_loss(Router(16, 1, 1)(torch.randn(3, 16))) == 0  # a single expert
    gates = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    uneven = Routing(gates, gates.argmax(dim=1, keepdim=True), gates.sum(dim=0))
    # importance and load are 3 and 1: mean 2, unbiased variance 2, so 2 / 4 for each of the two
    torch.testing.assert_close(balance_loss(uneven), torch.tensor(1.0))


def test_the_gradient_of_the_balance_loss_reaches_both_weights(x0: Tensor) -> None:
    router = stirred()
    balance_loss(router(x0, torch.randn(32, 6))).backward()
    for name, parameter in router.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-3, name
