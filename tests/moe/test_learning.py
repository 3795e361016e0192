"""Learning a task: what is trained, what never moves, and when an answer is settled."""

from collections.abc import Callable

import torch
from torch import Tensor

from lib.moe import MoECLIP
from tests.support.mixtures import copies, learn

Make = Callable[..., MoECLIP]


def test_a_task_trains_all_experts_and_its_own_routers_only(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = mixture(tasks=2)
    learn(model, images, tokens, 1)
    before, task = copies(model), model.add_task()
    assert not any(part.training for part in model.train().clip.modules())
    learn(model, images, tokens, task, steps=6)
    after, trained = model.state_dict(), {name for name, _ in model.trainable_parameters(task)}
    moved = {name for name in after if name not in before or not torch.equal(before[name], after[name])}
    assert {name for name in moved if not name.endswith(("counts", "mass"))} == trained
    assert all(after[name].any() for name in trained)  # a new router leaves zero
    assert {name.split(".")[2] for name in trained} == {"experts", "routers"}
    assert all(".routers.2." in name for name in trained if ".routers." in name)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == trained
    assert all(p.grad is None for p in model.clip.parameters())


def test_one_expert_is_an_adapter_without_routers(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = mixture(experts=1, top_k=1, freeze=0)
    assert not any(".routers." in name for name, _ in model.named_parameters())
    assert torch.equal(model.encode_image(images, 0).features, model.encode_image(images, 1).features)
    assert model.encode_text(tokens, 0).routings[0].gates.tolist() == [[1.0]] * 10
    learn(model, images, tokens, 1)
    assert [a.counts.flatten().tolist() for a in model.adapters().values()] == [[0, 24]] * 2 + [[0, 30]] * 2


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
