"""Sparse experts against a dense masked sum."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.moe import Experts, Routing

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


@pytest.mark.parametrize("length", [4, 9], ids=["samples sorted", "experts gathered"])
@pytest.mark.parametrize(
    ("samples", "experts", "top_k"), [(7, 6, 2), (7, 6, 1), (7, 6, 6), (7, 1, 1), (1, 6, 2), (1, 1, 1), (3, 22, 2)]
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


def test_a_new_expert_gives_exactly_zero_whatever_it_reads() -> None:
    output = Experts(6, WIDTH, BOTTLENECK)(100 * torch.randn(7, 4, WIDTH), route(7, 6, 2))
    assert output.abs().max() == 0


def test_down_projections_start_like_those_of_linear_layers() -> None:
    down = Experts(50, 64, 32).down  # uniform up to 1 / sqrt(64)
    assert 0.99 / 8 < down.abs().max() <= 1 / 8
    assert down.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.02)


def test_dropout_acts_on_hidden_units_in_training_only() -> None:
    module, routing, x = stirred(6, dropout=0.5), route(7, 6, 2), torch.randn(7, 4, WIDTH)
    assert not torch.equal(module(x, routing), module(x, routing))
    module.eval()
    assert torch.equal(module(x, routing), module(x, routing))
    torch.testing.assert_close(module(x, routing), dense(module, x, routing.gates))
