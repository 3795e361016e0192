"""The released code's numbers on a tiny CLIP (golden/released_tiny.npz) come out of this implementation.

The file has weights, inputs, and what the released code computed: features and gates for every router;
losses, load, gradients, counts and weights over three training steps with given noise.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.moe import Encoded, MoECLIP, MoEConfig

PARTS = {"down_proj.weight": "down", "down_proj.bias": "down_bias", "up_proj.weight": "up", "up_proj.bias": "up_bias"}
NAME = re.compile(r"(visual\.)?transformer\.resblocks\.(\d)\.(experts|router|noise)\.(\d)\.?(.*)")
FROZEN = {"image": [0, 3], "text": [1]}


class Golden(dict[str, Tensor]):
    """The file's arrays as tensors by name."""

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Those whose name starts with `prefix/`, without it."""
        return {k[len(prefix) + 1 :]: v for k, v in self.items() if k.startswith(f"{prefix}/")}


@pytest.fixture(scope="module")
def golden() -> Golden:
    with np.load(Path(__file__).parent / "golden" / "released_tiny.npz") as file:
        return Golden({name: torch.from_numpy(file[name]) for name in file})


def pairs(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Tensors of ours (for experts: a row) with those of the released code, in our layout, by its names."""
    matched = {}
    for name, value in theirs.items():
        if match := NAME.fullmatch(name):
            tower, block, kind, number, part = match.groups()
            adapter = f"{'image' if tower else 'text'}_adapters.{block}"
            router = f"{adapter}.routers.{number}.{'weight' if kind == 'router' else 'noise_weight'}"
            if kind == "experts":
                mine = ours[f"{adapter}.experts.{PARTS[part]}"][int(number)]
                matched[name] = mine, value.mT if value.ndim == 2 else value
            elif router in ours:
                matched[name] = ours[router], value
    return matched


def released(golden: Golden, clip: open_clip.CLIP, tasks: int) -> MoECLIP:
    """The released model with the first `tasks` routers, in a CLIP of its layout."""
    weights = golden.under("weight")
    clip.load_state_dict({name: value for name, value in weights.items() if not NAME.fullmatch(name)})
    model = MoECLIP(clip, MoEConfig(experts=6, top_k=2, bottleneck=64, dropout=0.0))
    for _ in range(tasks):
        model.add_task()
    for mine, value in pairs(model.adapter_state(), weights).values():
        mine.copy_(value)
    return model.eval()


@pytest.mark.parametrize("task", [None, 0, 1, 2])
def test_every_route_gives_the_released_features(golden: Golden, tiny: open_clip.CLIP, task: int | None) -> None:
    model, expected = released(golden, tiny, 3), golden.under(f"eval/task{-1 if task is None else task}")
    with torch.no_grad():
        image, text = model.encode_image(golden["images"], task), model.encode_text(golden["texts"], task)
    torch.testing.assert_close(image.features, expected["image_features"], rtol=0, atol=1e-5)
    torch.testing.assert_close(text.features, expected["text_features"], rtol=0, atol=1e-5)
    routings = {f"gates/image/{block}": routing for block, routing in image.routings.items()}
    routings |= {f"gates/text/{block}": routing for block, routing in text.routings.items()}
    assert routings.keys() == {name for name in expected if name.startswith("gates")}
    for name, routing in routings.items():
        assert torch.equal(routing.gates > 0, expected[name] > 0)
        torch.testing.assert_close(routing.gates, expected[name], rtol=0, atol=1e-5)


class Step(NamedTuple):
    """One training forward."""

    image: Encoded
    text: Encoded
    loss: Tensor


def forward(model: MoECLIP, golden: Golden, step: int) -> Step:
    """Task 1's router on all inputs with the step's noise; label smoothing 0.2; counted."""
    noise = golden.under(f"train/step{step}/noise")
    draws = {tower: {block: noise[f"{tower}/{block}"] for block in (0, 1)} for tower in ("image", "text")}
    image = model.encode_image(golden["images"], 1, draws["image"])
    text = model.encode_text(golden["texts"], 1, draws["text"])
    model.add_counts(1, image.routings, text.routings)
    cosine = F.normalize(image.features, dim=-1) @ F.normalize(text.features, dim=-1).T
    scaled = model.clip.logit_scale.exp() * cosine
    return Step(image, text, F.cross_entropy(scaled, golden["labels"], label_smoothing=0.2))


class Trained(NamedTuple):
    """The model after three steps, its steps, and the first step's gradients by parameter."""

    model: MoECLIP
    steps: list[Step]
    gradients: dict[str, Tensor]


@pytest.fixture(scope="module")
def trained(golden: Golden, make_tiny: Callable[[], open_clip.CLIP]) -> Trained:
    """Three steps of AdamW at a constant rate."""
    model = released(golden, make_tiny(), 2).train()
    for name, adapter in model.adapters().items():
        adapter.frozen[FROZEN[name.split("_")[0]]] = True
    parameters = model.trainable_parameters(1)
    optimizer = torch.optim.AdamW([p for _, p in parameters], lr=1e-2, weight_decay=0.0)
    steps, gradients = [], {}
    for number in range(3):
        optimizer.zero_grad()
        steps.append(forward(model, golden, number))
        steps[-1].loss.backward()
        model.mask_frozen_gradients()
        gradients = gradients or {name: p.grad.clone() for name, p in parameters if p.grad is not None}
        optimizer.step()
    return Trained(model, steps, gradients)


# AdamW turns rounding in tiny gradients into whole steps, so later steps agree less
@pytest.mark.parametrize(("step", "loss", "load"), [(0, 1e-6, 1e-5), (1, 2e-6, 1e-4), (2, 2e-4, 5e-4)])
def test_training_forwards_give_the_released_losses_gates_and_load(
    golden: Golden, trained: Trained, step: int, loss: float, load: float
) -> None:
    expected, ours = golden.under(f"train/step{step}"), trained.steps[step]
    torch.testing.assert_close(ours.loss.detach(), expected["loss"], rtol=loss, atol=0)
    for tower, encoded in (("image", ours.image), ("text", ours.text)):
        for block, routing in encoded.routings.items():
            gates, loads = expected[f"gates/{tower}/{block}"], expected[f"load/{tower}/{block}"]
            torch.testing.assert_close(routing.gates.detach(), gates, rtol=0, atol=1e-5)
            torch.testing.assert_close(routing.load.detach(), loads, rtol=0, atol=load)


def test_gradients_are_the_released_ones_and_zero_where_it_has_none(golden: Golden, trained: Trained) -> None:
    left = {name: value.clone() for name, value in trained.gradients.items()}
    theirs = golden.under("train/step0/grad")
    matched = pairs(left, theirs)
    assert matched.keys() == theirs.keys()
    for mine, expected in matched.values():
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-7)
        mine.zero_()
    assert all(not value.any() for value in left.values())  # frozen experts


def test_three_steps_of_adamw_reach_the_released_weights_and_counts(golden: Golden, trained: Trained) -> None:
    gradients = pairs(trained.gradients, golden.under("train/step0/grad"))
    after, errors = pairs(trained.model.adapter_state(), golden.under("train/after3")), []
    for name, (mine, expected) in after.items():
        clear = gradients[name][1].abs() > 1e-5  # smaller ones are rounding, which AdamW makes steps of
        errors.append((mine - expected)[clear].abs())
    every = torch.cat(errors)
    assert len(every) == 90_130
    assert every.max() < 4e-3  # three steps move a weight by 3e-2
    assert every.quantile(0.99) < 2e-4
    for name, counts in golden.under("train/counts").items():
        assert trained.model.adapters()[name.replace("/", "_adapters.")].counts.tolist() == [[0] * 6, counts.tolist()]
