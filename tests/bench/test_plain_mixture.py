"""The plain way and the library's agree: values, routes and gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lib.moe import MoECLIP
from tools.bench import plain_mixture as plain


@pytest.mark.parametrize("token", ["start", "end"])
@pytest.mark.parametrize("image_blocks", ["all", "last"])
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_a_step_agrees_in_values_routes_and_gradients(
    mixture: Callable[..., MoECLIP], images: Tensor, tokens: Tensor, token: str, image_blocks: str, top_k: int
) -> None:
    model = mixture(text_router_token=token, image_blocks=image_blocks, top_k=top_k).train()
    noise = {block: torch.randn(10, 6) for block in (0, 1)}
    shown = {block: drawn[:8] for block, drawn in noise.items()}
    prompts = model.prepare(tokens)
    ways = [
        (plain.encode_image(model, images, 1, shown), plain.encode_text(model, tokens, 1, noise)),
        (model.encode_image(images, 1, shown, whole=False), model.encode_text(prompts, 1, noise)),
    ]
    slopes: list[list[Tensor]] = []
    for image, text in ways:
        model.zero_grad()
        (image.features.sin().sum() + text.features.sin().sum()).backward()
        slopes.append([p.grad.clone() for _, p in model.trainable_parameters(1) if p.grad is not None])
    assert len(slopes[0]) == len(slopes[1]) == len(model.trainable_parameters(1))
    for slow, quick in zip(*slopes, strict=True):
        torch.testing.assert_close(quick, slow, rtol=0, atol=1e-4)
    for slow, quick in zip(*ways, strict=True):
        torch.testing.assert_close(quick.features, slow.features, rtol=0, atol=1e-5)
        assert slow.routings.keys() == quick.routings.keys()
        for block, routing in slow.routings.items():
            assert torch.equal(quick.routings[block].experts, routing.experts)
            torch.testing.assert_close(quick.routings[block].gates, routing.gates, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_answers_of_a_learned_model_agree(mixture: Callable[..., MoECLIP], images: Tensor, tokens: Tensor) -> None:
    model = mixture()
    for task in (0, 1):
        for ours, slow, given in (
            (model.encode_image, plain.encode_image, images),
            (model.encode_text, plain.encode_text, tokens),
        ):
            torch.testing.assert_close(ours(given, task).features, slow(model, given, task).features, rtol=0, atol=1e-5)
