"""The selector by class statistics: errors as scipy gives them, nearest mean, shrinkage, state, decisions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from scipy.stats import multivariate_normal
from torch import Tensor

from lib.selector import CLIP, DDAS, GaussianSelector
from tests.support import small_study

WIDTH = 6
SETTINGS = replace(small_study.study().selector, rule="absolute", threshold=1e9)


def cloud(number: int, count: int = 40, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Features (count, WIDTH) of a task whose classes lie apart, stretched and turned alike; and labels (count,)."""
    rng = np.random.default_rng(number)
    centres, turn = 4 * rng.normal(size=(classes, WIDTH)), rng.normal(size=(WIDTH, WIDTH))
    labels = np.arange(count) % classes
    features = 12 * rng.normal(size=WIDTH) + centres[labels] + rng.normal(size=(count, WIDTH)) @ turn
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


def learned(*numbers: int, **changes: object) -> GaussianSelector:
    selector = GaussianSelector(WIDTH, replace(SETTINGS, **changes))
    for number in numbers:
        selector.learn(*cloud(number), [0, number])
    return selector


def used(number: int) -> tuple[np.ndarray, np.ndarray]:
    """The features and labels that a task's statistics are of: all but the fifth that is kept for the threshold."""
    features, labels = cloud(number)
    kept = np.random.default_rng([0, number]).permutation(40)[8:]
    return features.numpy()[kept].astype(np.float64), labels.numpy()[kept]


def by_scipy(number: int, features: Tensor) -> np.ndarray:
    """The errors: what is left of -2 log density / S without 2 pi, under the likeliest class of the task."""
    x, labels = used(number)
    means = [x[labels == label].mean(axis=0) for label in range(3)]
    rest = np.concatenate([x[labels == label] - means[label] for label in range(3)])
    covariance = rest.T @ rest / (len(x) - 3)
    share = small_study.RAW["selector"]["shrinkage"]
    shrunk = (1 - share) * covariance + share * np.trace(covariance) / WIDTH * np.eye(WIDTH)
    log = np.stack([multivariate_normal(mean, shrunk).logpdf(features.numpy()) for mean in means])
    return -2 * log.max(axis=0) / WIDTH - np.log(2 * np.pi)


@pytest.mark.parametrize("chunk", [256, 7])
def test_errors_are_the_log_densities_that_scipy_gives(chunk: int) -> None:
    features = torch.cat([cloud(number)[0] for number in range(3)])
    found = learned(0, 1).errors(features, chunk)
    assert found.shape == (120, 2)
    for number in range(2):
        expected = torch.from_numpy(by_scipy(number, features)).float()
        torch.testing.assert_close(found[:, number], expected, rtol=1e-3, atol=1e-3)


def test_the_nearest_class_mean_counts_whatever_the_label_is_called() -> None:
    features, labels = cloud(0)
    one, other = GaussianSelector(WIDTH, SETTINGS), GaussianSelector(WIDTH, SETTINGS)
    one.learn(features, labels, [0, 0])
    other.learn(features, 10 * (3 - labels), [0, 0])  # numbers with gaps, in another order
    torch.testing.assert_close(one.errors(features), other.errors(features))
    x, kept = used(0)
    means = torch.from_numpy(np.stack([x[kept == label].mean(axis=0) for label in range(3)])).float()
    at_means = one.errors(torch.cat([means, means.mean(dim=0, keepdim=True)]))[:, 0]
    least = by_scipy(0, means)
    torch.testing.assert_close(at_means[:3], torch.from_numpy(least).float(), rtol=1e-3, atol=1e-3)
    assert at_means[:3].max() - at_means[:3].min() < 1e-3  # the distance is 0 at each, the determinant shared
    assert at_means[3] > at_means[0] + 0.5  # between the classes there is none


def test_one_mean_for_all_classes_is_told_from_a_mean_for_each() -> None:
    features, labels = cloud(0)
    merged = GaussianSelector(WIDTH, SETTINGS)
    merged.learn(features, torch.zeros_like(labels), [0, 0])
    assert merged.state_dict()["tasks.0.means"].shape == (1, WIDTH)
    assert learned(0).state_dict()["tasks.0.means"].shape == (3, WIDTH)
    assert not torch.allclose(merged.errors(features), learned(0).errors(features), atol=0.1)


def test_fewer_pictures_than_dimensions_are_enough() -> None:
    selector = GaussianSelector(WIDTH, SETTINGS)
    features, labels = cloud(0, count=4, classes=2)
    features[:, 0] = 1.0  # and a dimension that never changes
    selector.learn(features, labels, [0, 0])
    assert selector.errors(cloud(1)[0]).isfinite().all()


def test_pictures_go_to_the_task_they_are_of_and_strangers_to_clip() -> None:
    selector = learned(0, 1, 2, rule="quantile", threshold=0.99)
    for number in range(3):
        decided = selector.decide(cloud(number)[0])
        assert set(decided.sample.tolist()) <= {number, CLIP}
        assert (decided.sample == number).float().mean() > 0.6  # the limit is that of eight pictures
        assert set(decided.batch.tolist()) == {number}
    strange = selector.decide(cloud(7)[0])
    assert set(strange.sample.tolist()) == set(strange.batch.tolist()) == {CLIP}


def test_the_quantile_is_read_off_pictures_kept_out() -> None:
    selector = learned(0, rule="quantile", threshold=0.5)
    held = np.random.default_rng([0, 0]).permutation(40)[:8]
    errors = np.sort(by_scipy(0, cloud(0)[0][held]))
    assert selector.thresholds[0].item() == pytest.approx((errors[3] + errors[4]) / 2, abs=1e-3)


def test_what_the_reference_makes_likelier_goes_to_clip() -> None:
    selector, (strange, _) = learned(0, 1), cloud(7)
    assert CLIP not in selector.decide(strange).sample.tolist()
    selector.learn_reference(strange, [0])
    assert selector.reference is not None
    assert selector.state_dict()["reference.means"].shape == (1, WIDTH)
    assert set(selector.decide(strange).sample.tolist()) == {CLIP}
    assert set(selector.decide(cloud(1)[0]).sample.tolist()) == {1}


@pytest.mark.parametrize("reference", [False, True])
def test_state_round_trip(reference: bool) -> None:
    selector = learned(0, 1, rule="quantile", threshold=0.9)
    if reference:
        selector.learn_reference(cloud(7)[0], [0])
    again = GaussianSelector(WIDTH, selector.settings)
    again.restore(load(save(selector.state_dict())))
    features = torch.cat([cloud(number)[0] for number in (0, 1, 7)])
    for mine, theirs in zip(again.decide(features), selector.decide(features), strict=True):
        assert torch.equal(mine, theirs)
    assert save(again.state_dict()) == save(selector.state_dict())
    for each in (selector, again):
        each.learn(*cloud(2), [0, 2])
    assert torch.equal(again.errors(features), selector.errors(features))


def test_a_method_takes_it_in_the_place_of_the_autoencoders() -> None:
    method = small_study.teach(small_study.method("moe_adapters", selector="gaussian"), 0, 1)
    made, known = small_study.sequence()
    assert type(method.selector) is GaussianSelector
    assert type(small_study.learned("moe_adapters").selector) is DDAS
    for number in range(2):  # red pictures are told from green ones
        routed = method.predict(made[number], known[number], number).routes["sample"]
        assert (routed == number).float().mean() > 0.5
    again = small_study.method("moe_adapters", selector="gaussian")
    again.restore(load(save(method.state())))
    assert again.size() == method.size()
    assert method.size()["selector_parameters"] == 2 * (3 * 32 + 32 * 32)  # three means and a factor, two tasks
    found, expected = (each.predict(made[2], known[2], 2) for each in (again, method))
    for way in method.decisions:
        assert torch.equal(found.routes[way], expected.routes[way])
        assert torch.equal(found.classes[way], expected.classes[way])


def test_features_too_wide_for_a_covariance_are_refused() -> None:
    with pytest.raises(ValueError, match="covariance of width 43264.*use selector.features: clip"):
        GaussianSelector(43264, small_study.study().selector)
