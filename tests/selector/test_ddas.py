"""The autoencoders of DDAS: their size, errors, seeds and training."""

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from lib.selector import DDAS, Autoencoder
from tests.selector.test_selector import LABELS, SETTINGS, WIDTH, cloud


def test_size_of_the_papers_autoencoder() -> None:
    with torch.device("meta"):
        coder = Autoencoder(43264, 100)
    assert sum(p.numel() for p in coder.parameters()) == 8_696_164


def test_an_error_by_hand() -> None:
    coder = Autoencoder(2, 1)
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.zero_()
    # the rebuilt numbers are sigmoid(0) = 0.5; the targets sigmoid(0) = 0.5 and sigmoid(ln 3) = 0.75
    features = torch.tensor([[0.0, math.log(3)]])
    assert coder(features).item() == pytest.approx((0 + 0.25**2) / 2)


def test_same_seed_same_bytes_and_torchs_random_state_untouched() -> None:
    before = torch.get_rng_state()
    first, again, other = (DDAS(WIDTH, SETTINGS) for _ in range(3))
    for selector, seed in ((first, 0), (again, 0), (other, 1)):
        selector.learn(cloud(0), LABELS, [seed, 0])
    assert torch.equal(torch.get_rng_state(), before)
    assert save(first.state_dict()) == save(again.state_dict()) != save(other.state_dict())


def test_the_reference_may_learn_for_longer() -> None:
    states = []
    for reference_steps in (0, 60, 9):  # a task has 60
        selector = DDAS(WIDTH, replace(SETTINGS, reference_steps=reference_steps))
        selector.learn_reference(cloud(0), [0, 0])
        states.append(save(selector.state_dict()))
    assert states[0] == states[1] != states[2]
