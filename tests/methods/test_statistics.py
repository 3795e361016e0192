"""The statistics of `beyond`: exact in any order, equal to their formulas, and to scipy's densities."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from lib.methods.statistics import SHARPEST, Looks, Ridge, moving, sharpness

normal: Any = stats.multivariate_normal


def task(number: int, classes: int = 3, each: int = 8, width: int = 5) -> tuple[Tensor, Tensor]:
    """Features (N, S) around class means of their own, and labels (N,)."""
    rng = np.random.default_rng(number)
    means = rng.normal(size=(classes, width)) + 4 * number
    labels = np.repeat(range(classes), each)
    return torch.from_numpy(means[labels] + rng.normal(size=(len(labels), width))), torch.from_numpy(labels)


def test_a_ridge_learned_task_by_task_is_that_of_all_pictures_at_once() -> None:
    ridge = Ridge(16, 0.5)
    for number in range(3):
        ridge.learn(*task(number), 7)
    features = torch.cat([task(number)[0] for number in range(3)])
    labels = torch.cat([task(number)[1] + 3 * number for number in range(3)])
    hidden = ridge.hidden(features)
    weights = torch.linalg.solve(hidden.T @ hidden + 0.5 * torch.eye(16), hidden.T @ F.one_hot(labels).double())
    torch.testing.assert_close(ridge.weights, weights)
    torch.testing.assert_close(ridge.scores(features), hidden @ weights)


def test_its_hidden_layer_has_no_length_and_the_seed_draws_it() -> None:
    one, two, other = (Ridge(16, 0.5) for _ in range(3))
    for ridge, seed in ((one, 7), (two, 7), (other, 8)):
        ridge.learn(*task(0), seed)
    features = task(1)[0]
    torch.testing.assert_close(one.hidden(features), one.hidden(3 * features))
    assert torch.equal(one.weights, two.weights)
    assert not torch.allclose(one.weights, other.weights)


def test_a_picture_left_out_has_the_scores_of_a_ridge_that_never_saw_it() -> None:
    ridge, (features, labels) = Ridge(16, 0.5), task(1)
    ridge.learn(*task(0), 7)
    ridge.learn(features, labels, 7)
    left_out = ridge.left_out(ridge.hidden(features), F.pad(F.one_hot(labels).double(), (3, 0)))
    for n in (0, 5, 23):
        without, others = Ridge(16, 0.5), torch.arange(24) != n
        without.learn(*task(0), 7)
        without.learn(features[others], labels[others], 7)
        torch.testing.assert_close(left_out[n], without.scores(features[n : n + 1])[0])


def test_the_sharpness_is_the_likeliest_and_has_bounds() -> None:
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 4, 200))
    scores = F.one_hot(labels).double() / 5 + torch.from_numpy(np.random.default_rng(1).normal(0, 0.1, (200, 4)))
    found = float(sharpness(scores, labels))
    at = [F.cross_entropy(factor * scores, labels) for factor in (found / 1.05, found, found * 1.05)]
    assert at[1] < min(at[0], at[2])
    assert 1 < found < SHARPEST
    torch.testing.assert_close(sharpness(3 * scores, labels), torch.tensor(found / 3).double(), rtol=1e-3, atol=0)
    assert 20 < float(sharpness(F.one_hot(labels).double(), labels)) < SHARPEST
    assert float(sharpness(-scores, labels)) == pytest.approx(1, rel=1e-3)


def looks(*numbers: int, shrinkage: float = 0.0) -> Looks:
    made = Looks(shrinkage, 0.01)
    for number in numbers:
        made.learn(*task(number))
    return made


@pytest.mark.parametrize("shrinkage", [0.0, 0.3])
def test_densities_are_those_of_the_gaussians(shrinkage: float) -> None:
    judged, asked = looks(0, 1, shrinkage=shrinkage).judge(task(2)[0]), task(2)[0].numpy()

    def shrunk(covariance: np.ndarray) -> np.ndarray:
        return (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 5 * np.eye(5)

    tasks = [[part.numpy() for part in task(number)] for number in (0, 1)]
    means = [np.stack([z[y == c].mean(axis=0) for c in range(3)]) for z, y in tasks]
    spread = np.concatenate([z - m[y] for (z, y), m in zip(tasks, means, strict=True)])
    within = spread.T @ spread / (48 - 6)
    centred = np.concatenate([m - m.mean(axis=0) for m in means])
    between = centred.T @ centred / (6 - 2)
    constant = 5 / 2 * np.log(2 * np.pi)
    for number in (0, 1):
        known = np.mean([normal.pdf(asked, mean, shrunk(within)) for mean in means[number]], axis=0)
        unknown = normal.logpdf(asked, means[number].mean(axis=0), shrunk(within + between))
        np.testing.assert_allclose(judged.known[:, number], np.log(known) + constant, rtol=1e-6)
        np.testing.assert_allclose(judged.unknown[:, number], unknown + constant, rtol=1e-6)


def test_classes_whose_pictures_are_all_the_same_are_judged_too() -> None:
    made, features = Looks(0.1, 0.01), torch.eye(3, 5).double().repeat_interleave(2, dim=0)
    made.learn(features, torch.arange(3).repeat_interleave(2))
    assert torch.isfinite(made.judge(features).known).all()


def test_one_picture_of_each_class_has_no_spread() -> None:
    made = Looks(0.1, 0.01)
    made.learn(torch.eye(3, 5), torch.arange(3))
    with pytest.raises(ValueError, match="two or more"):
        made.judge(torch.eye(3, 5))


def test_the_order_of_pictures_and_tasks_changes_nothing() -> None:
    features, labels = task(0)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    one, two = looks(0, 1), Looks(0.0, 0.01)
    two.learn(*task(1))
    two.learn(features[order], labels[order])
    first, second = (each.judge(task(2)[0]) for each in (one, two))
    torch.testing.assert_close(first.known, second.known.flip(1))
    torch.testing.assert_close(first.unknown, second.unknown.flip(1))


def test_a_look_is_strange_when_pictures_lie_far_from_every_task() -> None:
    made = looks(0, 1, 2)
    assert made.judge(task(1)[0]).strange.double().mean() < 0.2
    assert made.judge(task(9)[0]).strange.all()


def test_moved_features_are_the_nearest_to_the_names_that_the_penalty_allows() -> None:
    generator = torch.Generator().manual_seed(0)
    x, g = (F.normalize(torch.randn(20, 4, generator=generator), dim=1) for _ in range(2))
    move = moving(x, g, 2.0).requires_grad_()
    cost = (x.double() + x.double() @ move - g).square().sum() + 2.0 * move.square().sum()
    (gradient,) = torch.autograd.grad(cost, move)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)
    assert moving(x, g, 1e9).abs().max() < 1e-6
