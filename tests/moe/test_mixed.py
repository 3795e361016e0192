"""A batch that mixes tasks: every sample goes by its own task's router, as if its task had been alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lib.moe import MoECLIP

Make = Callable[..., MoECLIP]


def parts(model: MoECLIP, images: Tensor, tasks: Tensor) -> Tensor:
    """Features of the images, one task after the other."""
    features = torch.zeros(0)
    for task in tasks.unique().tolist():
        mine = tasks == task
        encoded = model.encode_image(images[mine], task).features
        features = features if len(features) else encoded.new_zeros(len(images), encoded.shape[1])
        features = features.index_copy(0, mine.nonzero().flatten(), encoded)
    return features


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("top_k", [1, 2])
def test_a_mixed_batch_has_the_values_and_gradients_of_each_task_alone(
    mixture: Make, images: Tensor, whole: bool, top_k: int
) -> None:
    model, tasks = mixture(top_k=top_k), torch.arange(len(images)) % 2
    gradients = []
    for features in (model.encode_image(images, tasks, whole=whole).features, parts(model, images, tasks)):
        gradients.append((features, *_gradients(model, features)))
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def _gradients(model: MoECLIP, features: Tensor) -> list[Tensor]:
    model.requires_grad_(True).clip.requires_grad_(False)
    model.zero_grad()
    features.square().sum().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_noise_goes_by_each_samples_own_router(mixture: Make, images: Tensor) -> None:
    model, tasks = mixture().train(), torch.arange(len(images)) % 2
    drawn = torch.randn(len(images), model.config.experts, generator=torch.Generator().manual_seed(0))
    noise = dict.fromkeys(range(9), drawn)
    mixed = model.encode_image(images, tasks, noise).routings
    for task in (0, 1):
        mine = tasks == task
        alone = model.encode_image(images[mine], task, dict.fromkeys(range(9), drawn[mine])).routings
        torch.testing.assert_close(mixed[0].gates[mine], alone[0].gates)


@torch.no_grad()
def test_a_shared_router_and_a_single_expert_serve_all_tasks(mixture: Make, images: Tensor) -> None:
    for settings in ({"router": "shared"}, {"experts": 1, "top_k": 1, "freeze": 0}):
        model, tasks = mixture(**settings), torch.arange(len(images)) % 2
        torch.testing.assert_close(model.encode_image(images, tasks).features, model.encode_image(images, 0).features)


def test_a_task_that_does_not_exist_is_refused(mixture: Make, images: Tensor) -> None:
    with pytest.raises(ValueError, match="there is no task 7"):
        mixture().encode_image(images, torch.full((len(images),), 7))


@pytest.mark.parametrize("blocks", ["all", [1], "last"])
@torch.no_grad()
def test_one_pass_gives_each_picture_its_routers_features_or_clips(mixture: Make, images: Tensor, blocks: Any) -> None:
    model = mixture(image_blocks=blocks)
    wanted = torch.arange(len(images)) % 3 - 1  # -1: CLIP
    read: list[Tensor] = []
    features, tasks = model.encode_in_one_pass(images, lambda early: read.append(early) or wanted)
    assert torch.equal(tasks, wanted)
    torch.testing.assert_close(read[0], model.early_tokens(images))
    for task in (-1, 0, 1):
        mine = wanted == task
        alone = model.encode_image(images[mine], None if task < 0 else task).features
        torch.testing.assert_close(features[mine], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_early_tokens_are_the_frozen_clips(mixture: Make, images: Tensor) -> None:
    model = mixture(image_blocks=[1])
    before = model.early_tokens(images)
    for parameter in model.adapters()["image_adapters.1"].parameters():
        parameter.add_(1.0)
    assert torch.equal(model.early_tokens(images), before)
    visual: Any = model.clip.visual
    first, second = visual.transformer.resblocks[:2]
    x = first(visual._embeds(images))
    torch.testing.assert_close(before, (x + second.attention(second.ln_1(x)))[:, 0])


def test_a_route_to_a_task_that_does_not_exist_is_refused(mixture: Make, images: Tensor) -> None:
    with pytest.raises(ValueError, match="there is no task 7"):
        mixture().encode_in_one_pass(images, lambda early: torch.full((len(early),), 7))
