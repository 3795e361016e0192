"""The Gaussian selector: errors as scipy gives them, one mean for each class, the width it refuses."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from lib.selector import GaussianSelector
from tests.selector.test_selector import SETTINGS

WIDTH = 6


def cloud(number: int) -> tuple[Tensor, Tensor]:
    """Features (40, WIDTH) of a task whose three classes are apart and of the same shape; and labels (40,)."""
    rng = np.random.default_rng(number)
    centres, turn = 4 * rng.normal(size=(3, WIDTH)), rng.normal(size=(WIDTH, WIDTH))
    labels = np.arange(40) % 3
    features = 12 * rng.normal(size=WIDTH) + centres[labels] + rng.normal(size=(40, WIDTH)) @ turn
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


def used(number: int) -> tuple[np.ndarray, np.ndarray]:
    """The features and labels that are not held out for the threshold."""
    features, labels = cloud(number)
    rows = np.random.default_rng([0, number]).permutation(40)[8:]
    return features.numpy()[rows].astype(np.float64), labels.numpy()[rows]


def class_means(number: int) -> np.ndarray:
    x, labels = used(number)
    return np.stack([x[labels == label].mean(axis=0) for label in range(3)])


def by_scipy(number: int, features: Tensor) -> np.ndarray:
    """-2 log density / S under the likeliest class, without the term of 2 pi."""
    (x, labels), means, share = used(number), class_means(number), SETTINGS.shrinkage
    centred = x - means[labels]
    covariance = centred.T @ centred / (len(x) - 3)
    shrunk = (1 - share) * covariance + share * np.trace(covariance) / WIDTH * np.eye(WIDTH)
    log = np.stack([multivariate_normal(mean, shrunk).logpdf(features.numpy()) for mean in means])
    return -2 * log.max(axis=0) / WIDTH - np.log(2 * np.pi)


def learned(labels_of_first: Tensor | None = None) -> GaussianSelector:
    selector = GaussianSelector(WIDTH, SETTINGS)
    for number in range(2):
        features, labels = cloud(number)
        selector.learn(features, labels if labels_of_first is None or number else labels_of_first, [0, number])
    return selector


def test_errors_are_the_log_densities_that_scipy_gives() -> None:
    features = torch.cat([cloud(number)[0] for number in range(3)])
    errors = learned().errors(features)
    for number in range(2):
        expected = torch.from_numpy(by_scipy(number, features)).float()
        torch.testing.assert_close(errors[:, number], expected, rtol=1e-3, atol=1e-3)


def test_labels_may_have_gaps_and_any_order() -> None:
    features, labels = cloud(0)
    torch.testing.assert_close(learned(10 * (3 - labels)).errors(features), learned().errors(features))


def test_the_error_is_smallest_at_each_class_mean_and_larger_between_them() -> None:
    means = torch.from_numpy(class_means(0)).float()
    errors = learned().errors(torch.cat([means, means.mean(dim=0, keepdim=True)]))[:, 0]
    assert errors[:3].max() - errors[:3].min() < 1e-3  # the distance is 0 at each; the determinant is shared
    assert errors[3] > errors[0] + 0.5


def test_one_mean_for_all_classes_is_not_a_mean_for_each() -> None:
    features, labels = cloud(0)
    merged = learned(torch.zeros_like(labels))
    assert merged.state_dict()["tasks.0.means"].shape == (1, WIDTH)
    assert learned().state_dict()["tasks.0.means"].shape == (3, WIDTH)
    assert not torch.allclose(merged.errors(features), learned().errors(features), atol=0.1)


def test_features_too_wide_for_a_covariance_are_refused() -> None:
    with pytest.raises(ValueError, match=r"43264.* selector\.features: clip"):
        GaussianSelector(43264, SETTINGS)
