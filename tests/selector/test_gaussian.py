"""The Gaussian selector: errors as scipy gives them, and the width it refuses."""

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


def by_scipy(number: int, features: Tensor) -> np.ndarray:
    """-2 log density / S under the likeliest class, without the term of 2 pi; a fifth is held out for the threshold."""
    x, labels = (part.numpy()[np.random.default_rng([0, number]).permutation(40)[8:]] for part in cloud(number))
    means = np.stack([x[labels == label].mean(axis=0, dtype=np.float64) for label in range(3)])
    centred, share = x - means[labels], SETTINGS.shrinkage
    covariance = centred.T @ centred / (len(x) - 3)
    shrunk = (1 - share) * covariance + share * np.trace(covariance) / WIDTH * np.eye(WIDTH)
    log = np.stack([multivariate_normal(mean, shrunk).logpdf(features.numpy()) for mean in means])
    return -2 * log.max(axis=0) / WIDTH - np.log(2 * np.pi)


def test_errors_are_the_log_densities_that_scipy_gives() -> None:
    selector, features = GaussianSelector(WIDTH, SETTINGS), torch.cat([cloud(number)[0] for number in range(3)])
    for number in range(2):
        selector.learn(*cloud(number), [0, number])
    for number, errors in enumerate(selector.errors(features).T):
        expected = torch.from_numpy(by_scipy(number, features)).float()
        torch.testing.assert_close(errors, expected, rtol=1e-3, atol=1e-3)


def test_features_too_wide_for_a_covariance_are_refused() -> None:
    with pytest.raises(ValueError, match=r"43264.* selector\.features: clip"):
        GaussianSelector(43264, SETTINGS)
