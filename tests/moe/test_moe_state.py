"""The state of the mixture around CLIP: all its tasks, and only where it fits."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lib.moe import MoECLIP
from tests.support.mixtures import copies, learn

Make = Callable[..., MoECLIP]


def test_a_state_goes_into_a_new_model_with_all_its_tasks(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = mixture(tasks=3)
    learn(model, images, tokens, 2)
    model.freeze(2)
    state = model.adapter_state()
    assert not any(name.startswith("clip.") for name in state)
    again = mixture(tasks=0, stirred=False)
    again.load_adapter_state(state)
    assert again.num_tasks == 3
    assert again.adapter_state().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.adapter_state().items())
    for task in range(3):
        assert torch.equal(again.encode_image(images, task).features, model.encode_image(images, task).features)
    assert {n for n, p in again.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }
    again.load_adapter_state(mixture(tasks=1).adapter_state())  # and back to fewer
    assert again.num_tasks == 1


def test_the_state_of_a_shared_router_goes_into_a_new_model(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = mixture(router="shared", tasks=3)
    learn(model, images, tokens, 2)
    state = model.adapter_state()
    again = mixture(router="shared", tasks=0, stirred=False)
    again.load_adapter_state(state)
    assert again.num_tasks == 3
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.adapter_state().items())
    assert all(p.requires_grad for name, p in again.named_parameters() if ".routers." in name)
    with pytest.raises(ValueError, match=r"image_adapters\.0\.routers\.1\.weight is .* and missing in this"):
        again.load_adapter_state(mixture(tasks=2).adapter_state())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts": 5}, r"image_adapters\.0\.frozen is \(6,\) .* \(5,\)"),
        ({"bottleneck": 4}, r"image_adapters\.0\.experts\.down is \(6, 64, 8\) .* \(6, 64, 4\)"),
        ({"top_k": 3}, "top_k is 2 .* 3"),
        (
            {"noise": False},
            r"image_adapters\.0\.routers\.0\.noise_weight .* missing",
        ),
        ({"image_blocks": "last"}, r"image_adapters\.0\.frozen .* missing in this model"),
    ],
)
def test_a_state_that_does_not_fit_is_an_error_and_changes_nothing(mixture: Make, changes: dict, message: str) -> None:
    state, model = copies_of_adapters(mixture()), mixture(tasks=1, **changes)
    before = copies(model)
    with pytest.raises(ValueError, match=message):
        model.load_adapter_state(state)
    assert model.num_tasks == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def copies_of_adapters(model: MoECLIP) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.adapter_state().items()}


def test_a_state_with_a_gap_or_of_another_width_is_an_error(mixture: Make) -> None:
    model = mixture()
    state = copies_of_adapters(model)
    gap = "text_adapters.1.routers.1.weight"
    with pytest.raises(ValueError, match=f"{gap} is missing"):
        model.load_adapter_state({name: tensor for name, tensor in state.items() if name != gap})
    name = "text_adapters.0.experts.up"
    with pytest.raises(ValueError, match=r"experts\.up is \(6, 8, 32\)"):
        model.load_adapter_state(state | {name: state[name][..., :32]})
    with pytest.raises(ValueError, match="is missing in the adapter state"):
        model.load_adapter_state({})
