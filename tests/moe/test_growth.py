"""A pool that grows: enough free experts for every task, and nothing changes for the tasks before."""

from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor

from lib.moe import MoECLIP, MoEConfig, Router
from tests.moe.test_mixed import parts
from tests.support.mixtures import copies, learn, stir

Make = Callable[..., MoECLIP]


def grown(mixture: Make, images: Tensor, tokens: Tensor, tasks: int = 3) -> MoECLIP:
    """A mixture of three experts after tasks that freeze two each."""
    model = mixture(experts=3, freeze=2, grow=True, tasks=0)
    for _ in range(tasks):
        task = model.add_task()
        learn(model, images, tokens[: len(images)], task)
        model.freeze(task)
    return model


def test_every_task_begins_with_as_many_free_experts_as_a_task_freezes(
    mixture: Make, images: Tensor, tokens: Tensor
) -> None:
    model = grown(mixture, images, tokens)
    for each in model.adapters().values():
        before = [router.weight.shape[1] for router in cast("list[Router]", list(each.routers))]
        frozen = [set(each.to_freeze(task)) for task in range(3)]
        for task, size in enumerate(before):
            free = size - len(set[int]().union(*frozen[:task]))
            assert free >= 2
            assert size == 3 or free == 2  # no more than are needed
        assert len(each.frozen) == before[-1] == each.counts.shape[1] == len(each.experts.down)


def test_a_pool_with_room_does_not_grow(mixture: Make) -> None:
    model = mixture(experts=6, grow=True, tasks=3)
    assert all(len(each.frozen) == 6 for each in model.adapters().values())


def test_growth_changes_no_earlier_task(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = grown(mixture, images, tokens, tasks=1)
    stir(model)
    before = model.encode_image(images, 0).features, model.encode_text(tokens, 0).features
    kept = copies(model)
    for each in model.adapters().values():
        each.frozen[:] = True
    model.add_task()
    after = model.encode_image(images, 0).features, model.encode_text(tokens, 0).features
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6)
    for name, tensor in kept.items():
        if ".experts." in name:
            new = model.state_dict()[name]
            assert torch.equal(new[:3], tensor)
            assert len(new) == 5
            assert ("up" not in name) or not new[3:].any()  # they begin as nothing


def test_only_the_free_experts_learn(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = grown(mixture, images, tokens, tasks=2)
    task, before = model.add_task(), copies(model)
    learn(model, images, tokens[: len(images)], task)
    for name, each in model.adapters().items():
        down = before[f"{name}.experts.down"]
        assert torch.equal(each.experts.down[each.frozen], down[each.frozen])
        assert not torch.equal(each.experts.down[~each.frozen], down[~each.frozen])


def test_a_grown_state_goes_into_a_new_model_and_an_older_one_back(
    mixture: Make, images: Tensor, tokens: Tensor
) -> None:
    model = grown(mixture, images, tokens)
    new = mixture(experts=3, freeze=2, grow=True, tasks=0)
    new.load_adapter_state(model.adapter_state())
    for task in range(3):
        assert torch.equal(new.encode_image(images, task).features, model.encode_image(images, task).features)
    young = grown(mixture, images, tokens, tasks=1)
    new.load_adapter_state(young.adapter_state())
    assert new.num_tasks == 1
    assert torch.equal(new.encode_image(images, 0).features, young.encode_image(images, 0).features)


def test_a_grown_state_is_refused_by_a_pool_that_does_not_grow(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    with pytest.raises(ValueError, match="with the config that the state was saved with"):
        mixture(experts=3, freeze=2, tasks=0).load_adapter_state(grown(mixture, images, tokens).adapter_state())


@pytest.mark.parametrize("top_k", [1, 2])
def test_a_mixed_batch_of_routers_of_different_sizes_is_each_task_alone(
    mixture: Make, images: Tensor, top_k: int
) -> None:
    model = mixture(experts=3, freeze=2, grow=True, tasks=1, top_k=top_k)
    for each in model.adapters().values():
        each.frozen[:] = True
    model.add_task()
    stir(model)
    tasks, results = torch.arange(len(images)) % 2, []
    for encode in (lambda: model.encode_image(images, tasks).features, lambda: parts(model, images, tasks)):
        model.requires_grad_(True).clip.requires_grad_(False)
        model.zero_grad()
        features = encode()
        features.square().sum().backward()
        results.append([features, *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("odd", [{"experts": 1, "top_k": 1}, {"router": "shared"}])
def test_what_cannot_grow_is_refused(odd: dict) -> None:
    with pytest.raises(ValueError, match="grow is true"):
        MoEConfig(**{"experts": 4, "freeze": 1, "grow": True} | odd)
