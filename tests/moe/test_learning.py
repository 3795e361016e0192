"""Learning a task: what is trained, what never moves, when an answer is settled; and the state that is saved."""

from collections.abc import Callable

import pytest
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


@pytest.mark.parametrize("router", ["task", "shared"])
def test_a_state_goes_into_a_new_model_with_all_its_tasks(
    mixture: Make, images: Tensor, tokens: Tensor, router: str
) -> None:
    model = mixture(tasks=3, router=router)
    learn(model, images, tokens, 2)
    model.freeze(2)
    state = model.adapter_state()
    assert not any(name.startswith("clip.") for name in state)
    again = mixture(tasks=0, stirred=False, router=router)
    again.load_adapter_state(state)
    assert again.adapter_state().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.adapter_state().items())
    for task in range(3):
        assert torch.equal(again.encode_image(images, task).features, model.encode_image(images, task).features)
    learning = [{name for name, p in each.named_parameters() if p.requires_grad} for each in (model, again)]
    assert learning[0] == learning[1]
    again.load_adapter_state(mixture(tasks=1, router=router).adapter_state())  # and back to fewer
    assert again.num_tasks == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts": 5}, r"image_adapters\.0\.frozen is \(6,\) .* \(5,\)"),
        ({"bottleneck": 4}, r"image_adapters\.0\.experts\.down is \(6, 64, 8\) .* \(6, 64, 4\)"),
        ({"top_k": 3}, "top_k is 2 .* 3"),
        ({"noise": False}, r"image_adapters\.0\.routers\.0\.noise_weight .* missing in this model"),
        ({"image_blocks": "last"}, r"image_adapters\.0\.frozen .* missing in this model"),
        ({"router": "shared"}, r"image_adapters\.0\.routers\.1\.weight .* missing in this model"),
    ],
)
def test_a_state_that_does_not_fit_is_an_error_and_changes_nothing(mixture: Make, changes: dict, message: str) -> None:
    state, model = mixture().adapter_state(), mixture(tasks=1, **changes)
    before = copies(model)
    with pytest.raises(ValueError, match=message):
        model.load_adapter_state(state)
    assert model.num_tasks == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
