"""RAIL: both solutions against the closed form, fused answers and where they are given, what is kept."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.data.frozen import class_features
from lib.methods import rail
from lib.methods.scoring import logits
from tests.support import small_lessons, small_study
from tests.support.small_lessons import predicted

BOTH = ["rail_primal", "rail_dual"]


def pooled(count: int = 3) -> tuple[Tensor, Tensor]:
    """Features (N, F) and one-hot classes (N, C) of the first tasks, all together."""
    lessons = small_study.lessons()[:count]
    labels = [lesson.task.train.labels + 3 * lesson.number for lesson in lessons]
    x = torch.cat([lesson.features.image_train for lesson in lessons]).double()
    return x, F.one_hot(torch.cat(labels), 3 * count).double()


@pytest.mark.parametrize("rows", [1, 7, 512])
def test_woodbury_in_parts_equals_the_closed_form(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(40, n, generator=generator, dtype=torch.float64) for n in (12, 5))
    inverse, weights = torch.eye(12, dtype=torch.float64) / 0.3, torch.zeros(12, 5, dtype=torch.float64)
    for part in zip(x.split(rows), y.split(rows), strict=True):
        inverse, weights = rail.woodbury(inverse, weights, *part)
    gram = x.T @ x + 0.3 * torch.eye(12)
    torch.testing.assert_close(inverse @ gram, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(weights, torch.linalg.solve(gram, x.T @ y), rtol=0, atol=1e-9)


@pytest.mark.parametrize("ridge", [0.001, 0.1, 10.0])
def test_the_primal_form_task_by_task_equals_all_at_once(ridge: float) -> None:
    method = small_study.teach(small_study.method("rail_primal", ridge=ridge), 0, 1, 2)
    x, y = pooled()
    hidden = (x @ rail.projection(0, x.shape[1], 64)).clamp(min=0)
    closed = torch.linalg.solve(hidden.T @ hidden + ridge * torch.eye(64), hidden.T @ y)
    torch.testing.assert_close(method.coefficients, closed, rtol=0, atol=1e-6)
    torch.testing.assert_close(method.scores(x), hidden @ closed, rtol=0, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.1, 3.0])
def test_the_dual_form_equals_the_closed_form(gamma: float) -> None:
    method = small_study.teach(small_study.method("rail_dual", gamma=gamma, ridge=0.01), 0, 1, 2)
    x, y = pooled()
    kernel = (-gamma * (x[:, None] - x[None]).square().sum(dim=2)).exp()
    closed = torch.linalg.solve(kernel + 0.01 * torch.eye(len(x)), y)
    torch.testing.assert_close(method.coefficients, closed, rtol=0, atol=1e-4)  # features are unit to 1e-7
    torch.testing.assert_close(method.scores(x), kernel @ closed, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_a_learned_task_gets_fused_answers(name: str, share: float) -> None:
    method = small_study.teach(small_study.method(name, zero_shot_share=share), 0, 1)
    made, features = small_study.sequence()
    scale = small_study.backbone().model.logit_scale.detach().exp()
    for number, own in ((0, slice(0, 3)), (1, slice(3, 6))):
        names = class_features(small_study.backbone(), made[number]).detach()
        zero_shot = (scale * features[number].image_test @ names.T).softmax(dim=1)
        fused = share * zero_shot + (1 - share) * method.scores(features[number].image_test)[:, own]
        assert torch.equal(predicted(method, number).classes["sample"], fused.argmax(dim=1))
        if share == 1:
            assert torch.equal(predicted(method, number).classes["sample"], features[number].zero_shot)


@pytest.mark.parametrize("name", BOTH)
def test_tasks_to_come_are_zero_shots(name: str) -> None:
    method, features = small_study.learned(name), small_study.sequence()[1]
    assert torch.equal(predicted(method, 2).classes["sample"], features[2].zero_shot)


def test_the_projection_is_the_seeds_and_of_a_linear_layers_size() -> None:
    drawn = rail.projection(3, 16, 500)
    assert torch.equal(drawn, rail.projection(3, 16, 500))
    assert not torch.equal(drawn, rail.projection(4, 16, 500))
    assert drawn.abs().max() <= 0.25
    assert drawn.var().item() == pytest.approx(1 / 48, rel=0.05)  # of a uniform in +-1 / 4


def test_what_is_kept_is_counted() -> None:
    primal, dual = (small_study.learned(name).size() for name in BOTH)
    assert primal["trainable_parameters"] == 64 * 6
    assert primal["stored_bytes"] == 8 * (64 * 6 + 64 * 64 + 2 + 1)  # W, inverse, counts, seed
    assert dual["trainable_parameters"] == 36 * 6
    assert dual["stored_bytes"] == 8 * 36 * 6 + 36 * (4 * 16 + 8) + 2 * 8  # a, features and labels, counts


# --- among the classes of all tasks


@pytest.mark.parametrize("name", BOTH)
def test_the_regression_answers_where_clips_nearest_class_of_all_is_a_learned_one_and_nowhere_else(name: str) -> None:
    method, sent = small_study.learned(name), []
    for space, (tasks, features) in small_lessons.views().items():
        for number, (task, held) in enumerate(zip(tasks, features, strict=True)):
            answers = method.predict(task, held, number).classes
            places = {t: at for t, at in task.places_or_own(number).items() if t < 2}
            fused = held.zero_shot
            if places:
                columns = torch.cat(list(places.values())).unique()
                fused = columns[method.fused(task, held.image_test, places)[:, columns].argmax(dim=1)]
            nearest: Any = task.nearest_task
            learned = nearest < 2
            assert torch.equal(answers["sample"], torch.where(learned, fused, held.zero_shot))
            assert torch.equal(answers["oracle"], fused if number < 2 else held.zero_shot)
            if space and number == 2:  # Transfer is never below zero-shot: what is right there stays
                right = held.zero_shot == task.test.labels
                assert torch.equal(answers["sample"][right], task.test.labels[right])
            sent += learned.tolist()
    assert {*sent} == {True, False}


def test_a_class_of_two_tasks_has_the_regression_of_both() -> None:
    method, (tasks, features) = small_study.learned("rail_primal"), small_lessons.views()["union_"]
    image = features[0].image_test
    mixture = method.fused(tasks[0], image, {t: tasks[0].places[t] for t in (0, 1)})
    names = class_features(small_study.backbone(), tasks[0])
    zero_shot = logits(image, names, small_study.backbone().model.logit_scale).softmax(dim=1)
    scores = method.scores(image)  # (N, 6): two tasks of three classes
    both = 0.1 * zero_shot[:, 1] + 0.9 * (scores[:, 1] + scores[:, 4])
    torch.testing.assert_close(mixture[:, 1], both, atol=1e-5, rtol=1e-5)
