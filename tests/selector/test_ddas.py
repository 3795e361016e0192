"""Both selectors: thresholds, who competes, decisions alone and by batch, the reference, state; then their errors."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from scipy.stats import multivariate_normal
from torch import Tensor

from lib.selector import CLIP, DDAS, Autoencoder, GaussianSelector, count_routes
from tests.support import small_study

WIDTH = 12
SETTINGS = replace(small_study.study().selector, steps=60, rule="absolute", threshold=1e9)
BOTH = pytest.mark.parametrize("kind", [DDAS, GaussianSelector])
LABELS = torch.arange(30) % 3


def cloud(number: int, count: int = 30) -> Tensor:
    """Features (count, WIDTH) of a task, around a point of its own."""
    generator = torch.Generator().manual_seed(number)
    centre = 3 * torch.randn(WIDTH, generator=generator)
    return centre + 0.1 * torch.randn(count, WIDTH, generator=generator)


def learned(kind: type[DDAS], tasks: int = 3, **changes: object) -> DDAS:
    """A selector after some tasks."""
    selector = kind(WIDTH, replace(SETTINGS, **changes))
    for number in range(tasks):
        selector.learn(cloud(number), LABELS, [0, number])
    return selector


@BOTH
@pytest.mark.parametrize("chunk", [256, 7])
def test_errors_equal_the_tasks_one_by_one(kind: type[DDAS], chunk: int) -> None:
    selector, features = learned(kind), torch.cat([cloud(number) for number in range(3)])
    each = torch.stack([task(features) for task in selector.tasks], dim=1)
    torch.testing.assert_close(selector.errors(features, chunk), each, rtol=1e-3, atol=1e-3)


@BOTH
def test_an_image_is_decided_alone_and_a_batch_goes_where_its_mean_error_is_smallest(kind: type[DDAS]) -> None:
    selector, features = learned(kind), torch.cat([cloud(0, 3), cloud(1, 4), cloud(2, 3)])
    together = selector.decide(features)
    assert together.sample.tolist() == [0] * 3 + [1] * 4 + [2] * 3
    alone = [selector.decide(one).sample.item() for one in features.split(1)]
    assert together.sample.tolist() == alone
    means = [part.mean(dim=0).argmin().item() for part in selector.errors(features).split(4)]
    assert together.batch.tolist() == [means[0]] * 4 + [means[1]] * 4 + [means[2]] * 2


@BOTH
def test_the_quantile_is_read_off_images_that_do_not_train(kind: type[DDAS]) -> None:
    held_out = np.random.default_rng([0, 0]).permutation(30)[:6]
    features, states = cloud(0), []
    for _ in range(2):
        selector = kind(WIDTH, replace(SETTINGS, rule="quantile", threshold=0.9))
        selector.learn(features, LABELS, [0, 0])
        expected = np.quantile(selector.tasks[0](features[held_out]).numpy(), 0.9)
        assert selector.thresholds[0].item() == pytest.approx(expected, rel=1e-4)
        states.append(save(selector.tasks[0].state_dict()))
        features[held_out] += 1
    assert states[0] == states[1]


@BOTH
def test_few_images_are_enough(kind: type[DDAS]) -> None:
    selector = kind(WIDTH, replace(SETTINGS, rule="quantile", threshold=0.9))
    features = cloud(0, 4)
    features[:, 0] = 1.0  # and a dimension that never changes
    selector.learn(features, LABELS[:4], [0, 0])
    assert selector.thresholds.isfinite().all()
    assert selector.errors(cloud(1)).isfinite().all()


def test_the_smallest_error_wins_unless_it_is_above_its_own_threshold() -> None:
    selector = learned(DDAS, 2)
    selector.thresholds = torch.tensor([0.1, 0.5])
    errors = torch.tensor([[0.05, 0.4], [0.3, 0.2], [0.2, 0.4], [0.9, 0.6]])
    # 0: below 0.1; 1: below 0.5; 2: task 0 is nearest but above 0.1, and task 1 does not inherit it; 3: above both
    assert selector.route(errors).tolist() == [0, 1, CLIP, CLIP]
    reference = torch.tensor([0.01, 0.3, 0.3, 0.3])
    assert selector.route(errors, reference).tolist() == [CLIP, 1, CLIP, CLIP]


@BOTH
def test_strangers_go_to_clip_by_the_threshold_or_by_the_reference(kind: type[DDAS]) -> None:
    strange = cloud(7)
    assert set(learned(kind, rule="quantile", threshold=0.99).decide(strange).sample.tolist()) == {CLIP}
    selector = learned(kind, 2)
    assert CLIP not in selector.decide(strange).sample.tolist()
    selector.learn_reference(strange, [0])
    decided = selector.decide(strange)
    assert set(decided.sample.tolist()) == set(decided.batch.tolist()) == {CLIP}
    assert set(selector.decide(cloud(1)).sample.tolist()) == {1}


@BOTH
def test_tasks_not_yet_learned_never_compete(kind: type[DDAS]) -> None:
    selector, features = kind(WIDTH, SETTINGS), torch.cat([cloud(number, 5) for number in range(3)])
    for learned_so_far in range(3):
        routes = {CLIP} if learned_so_far == 0 else set(range(learned_so_far))
        for decided in selector.decide(features):
            assert set(decided.tolist()) <= routes
        assert selector.errors(features).shape == (15, learned_so_far)
        selector.learn(cloud(learned_so_far), LABELS, [0, learned_so_far])


@BOTH
def test_a_new_task_leaves_the_others_bit_equal(kind: type[DDAS]) -> None:
    selector = learned(kind, 1)
    before = save(selector.state_dict())
    selector.learn(cloud(1), LABELS, [0, 1])
    kept = {k: v for k, v in selector.state_dict().items() if not k.startswith("tasks.1")}
    assert save(kept | {"thresholds": kept["thresholds"][:1]}) == before


@BOTH
@pytest.mark.parametrize("reference", [False, True])
def test_a_restored_selector_decides_and_learns_on_alike(kind: type[DDAS], reference: bool) -> None:
    selector = learned(kind, 2, rule="quantile", threshold=0.9)
    if reference:
        selector.learn_reference(cloud(7), [0])
    again = kind(WIDTH, selector.settings)
    again.restore(load(save(selector.state_dict())))
    assert not any(p.requires_grad for p in again.parameters())
    for each in (selector, again):
        each.learn(cloud(2), LABELS, [0, 2])
    features = torch.cat([cloud(number) for number in (0, 1, 2, 7)])
    assert torch.equal(again.decide(features).sample, selector.decide(features).sample)
    assert save(again.state_dict()) == save(selector.state_dict())


def test_routes_are_counted_by_task_and_last_for_clip() -> None:
    assert count_routes(torch.tensor([CLIP, 1, 1, CLIP, 0, CLIP]), 3) == [1, 2, 0, 3]


# --- the autoencoders


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


def test_the_learning_rate_falls_after_so_many_steps_and_at_0_after_ten_epochs() -> None:
    def state(decay: int, steps: int = 60) -> bytes:
        selector = DDAS(WIDTH, replace(SETTINGS, decay=decay, steps=steps))
        selector.learn(cloud(0), LABELS, [0, 0])
        return save(selector.tasks[0].state_dict())

    assert state(0) == state(30) != state(20)  # 24 pictures train, in batches of 8
    assert state(20, steps=20) == state(1000, steps=20)
    assert state(20, steps=21) != state(1000, steps=21)


def test_the_reference_may_learn_for_longer() -> None:
    states = []
    for reference_steps in (0, 60, 9):  # a task has 60
        selector = DDAS(WIDTH, replace(SETTINGS, reference_steps=reference_steps))
        selector.learn_reference(cloud(0), [0, 0])
        states.append(save(selector.state_dict()))
    assert states[0] == states[1] != states[2]


# --- the Gaussians


def classes(number: int) -> tuple[Tensor, Tensor]:
    """Features (40, WIDTH) of a task whose three classes are apart and of the same shape; and labels (40,)."""
    rng = np.random.default_rng(number)
    centres, turn = 4 * rng.normal(size=(3, WIDTH)), rng.normal(size=(WIDTH, WIDTH))
    labels = np.arange(40) % 3
    features = 12 * rng.normal(size=WIDTH) + centres[labels] + rng.normal(size=(40, WIDTH)) @ turn
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


def by_scipy(number: int, features: Tensor) -> np.ndarray:
    """-2 log density / S under the likeliest class, without the term of 2 pi; a fifth is held out for the threshold."""
    x, labels = (part.numpy()[np.random.default_rng([0, number]).permutation(40)[8:]] for part in classes(number))
    means = np.stack([x[labels == label].mean(axis=0, dtype=np.float64) for label in range(3)])
    centred, share = x - means[labels], SETTINGS.shrinkage
    covariance = centred.T @ centred / (len(x) - 3)
    shrunk = (1 - share) * covariance + share * np.trace(covariance) / WIDTH * np.eye(WIDTH)
    log = np.stack([multivariate_normal(mean, shrunk).logpdf(features.numpy()) for mean in means])
    return -2 * log.max(axis=0) / WIDTH - np.log(2 * np.pi)


def test_errors_are_the_log_densities_that_scipy_gives() -> None:
    selector, features = GaussianSelector(WIDTH, SETTINGS), torch.cat([classes(number)[0] for number in range(3)])
    for number in range(2):
        selector.learn(*classes(number), [0, number])
    for number, errors in enumerate(selector.errors(features).T):
        expected = torch.from_numpy(by_scipy(number, features)).float()
        torch.testing.assert_close(errors, expected, rtol=1e-3, atol=1e-3)


def test_features_too_wide_for_a_covariance_are_refused() -> None:
    with pytest.raises(ValueError, match=r"43264.* selector\.features: clip"):
        GaussianSelector(43264, SETTINGS)
