"""Learning a task: what is trained, what never moves, what is counted and frozen."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lib.moe import MoECLIP
from tests.support.mixtures import copies, learn, loss_of

Make = Callable[..., MoECLIP]


def test_a_task_trains_all_experts_and_its_own_routers_only(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = mixture(tasks=2)
    learn(model, images, tokens, 1)
    before, task = copies(model), model.add_task()
    learn(model, images, tokens, task, steps=6)
    after, trained = model.state_dict(), {name for name, _ in model.trainable_parameters(task)}
    moved = {name for name in after if name not in before or not torch.equal(before[name], after[name])}
    assert {name for name in moved if not name.endswith(("counts", "mass"))} == trained
    assert all(after[name].any() for name in trained)  # a new router leaves zero
    assert {name.split(".", 2)[2].removesuffix("noise_weight").removesuffix("weight") for name in trained} == {
        *("experts.down", "experts.down_bias", "experts.up", "experts.up_bias", "routers.2."),
    }
    assert {name for name, p in model.named_parameters() if p.requires_grad} == trained
    assert all(p.grad is None for p in model.clip.parameters())


def test_frozen_experts_stay_bit_for_bit_while_the_others_learn(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = mixture(tasks=1, freeze=2)
    learn(model, images, tokens, 0)
    model.freeze(0)
    before = copies(model)
    learn(model, images, tokens, model.add_task(), steps=6)
    for name, adapter in model.adapters().items():
        assert adapter.frozen.sum() == 2
        most = adapter.counts[0].sort(descending=True).values[:2]
        assert adapter.counts[0][adapter.frozen].sort(descending=True).values.tolist() == most.tolist()
        for key, parameter in adapter.experts.named_parameters():
            same = (parameter == before[f"{name}.experts.{key}"]).flatten(1).all(dim=1)
            assert same[adapter.frozen].all(), (name, key)
            assert not same[~adapter.frozen].any(), (name, key)


def test_frozen_experts_are_still_chosen(mixture: Make, images: Tensor) -> None:
    model = mixture()
    before = model.encode_image(images, 0)
    for adapter in model.adapters().values():
        adapter.frozen[:] = True
    assert torch.equal(model.encode_image(images, 0).features, before.features)


def test_freezing_can_be_switched_off(mixture: Make) -> None:
    model = mixture(freeze=0)
    model.freeze(1)
    assert not any(adapter.frozen.any() for adapter in model.adapters().values())


@pytest.mark.parametrize("noise", [True, False])
def test_counts_are_one_for_each_picture_and_each_prompt(
    mixture: Make, images: Tensor, tokens: Tensor, noise: bool
) -> None:
    model = mixture(noise=noise).train()
    for _ in range(3):
        loss_of(model, images, tokens, 1)
    for name, adapter in model.adapters().items():
        samples = 3 * (8 if name.startswith("image") else 10)
        assert adapter.counts.sum(dim=1).tolist() == [0, 2 * samples]  # K = 2 choices
        torch.testing.assert_close(adapter.mass.sum(dim=1), torch.tensor([0.0, samples]))  # gates add up to 1
        assert not adapter.mass.requires_grad


def test_one_expert_is_an_adapter_without_routers(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = mixture(experts=1, top_k=1, freeze=0)
    assert model.num_tasks == 2
    assert not any(".routers." in name for name, _ in model.named_parameters())
    assert torch.equal(model.encode_image(images, 0).features, model.encode_image(images, 1).features)
    routing = model.encode_text(tokens, 0).routings[0]
    assert routing.gates.tolist() == [[1.0]] * 10
    learn(model, images, tokens, 1)
    assert [a.counts.flatten().tolist() for a in model.adapters().values()] == [[0, 24]] * 2 + [[0, 30]] * 2


def test_a_shared_router_serves_every_task_and_goes_on_learning(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = mixture(router="shared", tasks=1)
    learn(model, images, tokens, 0)
    before = copies(model)
    task = model.add_task()
    assert (task, model.num_tasks) == (1, 2)
    assert model.state_dict().keys() == before.keys()  # no second router
    for part in ("counts", "mass"):
        assert all(getattr(adapter, part).shape == (2, 6) for adapter in model.adapters().values())
    assert torch.equal(model.encode_image(images, 0).features, model.encode_image(images, 1).features)
    learn(model, images, tokens, task, steps=6)
    after = model.state_dict()
    routers = [name for name in before if ".routers." in name]
    assert len(routers) == 8
    assert not any(torch.equal(before[name], after[name]) for name in routers)
    assert set(routers) <= {name for name, _ in model.trainable_parameters(task)}
    for name, adapter in model.adapters().items():
        assert torch.equal(adapter.counts[:1], before[f"{name}.counts"])
        assert adapter.counts[1].any()


@torch.no_grad()
def test_a_sample_is_settled_when_all_experts_that_it_goes_to_are_frozen(mixture: Make, images: Tensor) -> None:
    model = mixture()
    encoded = model.encode_image(images, 1)
    one, two = model.adapters()["image_adapters.0"], model.adapters()["image_adapters.1"]
    one.frozen[:] = True
    two.frozen[encoded.routings[1].experts[0, 0]] = True
    assert not model.settled(encoded, "image")[0]  # it goes to one more expert in the second block
    two.frozen[encoded.routings[1].experts[0, 1]] = True
    assert model.settled(encoded, "image")[0]
