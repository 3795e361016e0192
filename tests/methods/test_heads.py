"""Heads on the frozen features: scikit-learn's own predictions, ridge by hand, and which classes a head knows."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.data.tasks import Pictures
from lib.selector import Decision
from tests.support import small_lessons, small_study
from tests.support.small_lessons import predicted

BOTH = ["linear_probe", "analytic_head"]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_the_probe_answers_as_scikit_learn_does(penalty: float, classes: int) -> None:
    lesson, method = small_study.lessons()[0], small_study.method("linear_probe", inverse_penalty=penalty)
    kept, train = lesson.task.train.labels < classes, lesson.task.train
    task = replace(lesson.task, train=Pictures(train.images[kept], train.labels[kept]))
    features = replace(lesson.features, train=lesson.features.train[kept])
    method.end_task(replace(lesson, task=task, features=features))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=2000))
    model.fit(features.train.numpy(), task.train.labels.numpy())
    answers = method.predict(task, features, 0).classes["oracle"]
    assert answers.tolist() == model.predict(features.test.numpy()).tolist()
    assert len(set(answers.tolist())) == classes


def test_the_analytic_head_is_numpys_ridge_regression_on_features_made_by_hand() -> None:
    rng, labels = np.random.default_rng(0), np.array([0, 1, 2, 0, 1, 2, 0])
    z, lesson = rng.normal(size=(7, 4)), small_study.lessons()[0]
    method = small_study.method("analytic_head", ridge=0.3)
    features = replace(lesson.features, image_train=torch.from_numpy(z).float())
    head = method.fit(features, torch.from_numpy(labels))
    ones = np.hstack([features.image_train.numpy(), np.ones((7, 1))]).astype(np.float64)
    expected = np.linalg.inv(ones.T @ ones + 0.3 * np.eye(5)) @ ones.T @ np.eye(3)[labels]
    np.testing.assert_allclose(head.numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", BOTH)
def test_a_head_answers_with_its_tasks_classes_and_clip_where_none_is_a_candidate(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method: Any = small_study.learned(name)
    to = torch.zeros(12, dtype=torch.long)
    monkeypatch.setattr(method.selector, "decide", lambda _: Decision(to, 1 - to))
    (tasks, features), own = small_lessons.views()["union_"], predicted(method, 1)
    assert torch.equal(own.classes["sample"], small_study.sequence()[1][1].zero_shot)  # head 0 has none of them
    assert torch.equal(own.classes["batch"], own.classes["oracle"])
    union = method.predict(tasks[1], features[1], 1).classes
    assert torch.equal(union["batch"], tasks[1].places[1][own.classes["oracle"]])
    assert set(union["sample"].tolist()) <= set(tasks[1].places[0].tolist())


@pytest.mark.parametrize(("name", "width"), [("linear_probe", 32), ("analytic_head", 16)])
def test_the_weights_and_biases_of_all_heads_are_counted(name: str, width: int) -> None:
    size = small_study.learned(name).size()
    assert size["trainable_parameters"] == 2 * 3 * (width + 1)
    assert size["selector_parameters"] == small_study.learned("expert_gate").size()["selector_parameters"]
