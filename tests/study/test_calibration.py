"""Calibration: hand-worked bins, and the confidence of the very answers that the method gives."""

import pytest
import torch

from lib.study import calibration
from tests.support import small_study


def test_bins_hold_equally_many_pictures_and_the_error_is_their_mean_distance() -> None:
    sure, right = torch.tensor([0.9, 0.2, 0.8, 0.4]), torch.tensor([True, False, False, True])
    table, error = calibration.reliability(sure, right, bins=2)
    assert table[:, 0].tolist() == pytest.approx([30, 85])
    assert table[:, 1].tolist() == [50, 50]
    assert table[0, 2] == pytest.approx(196 * (0.25 / 2) ** 0.5)
    assert error == pytest.approx((20 + 35) / 2)


def test_the_confidence_is_that_of_the_methods_own_answers() -> None:
    method, lesson = small_study.learned("moe_adapters"), small_study.lessons()[0]
    answers = method.predict(lesson.task, lesson.features, 0)
    for decision in ("sample", "oracle"):
        sure, right = calibration.confidence(method, lesson.task, lesson.features, answers.routes[decision])
        assert torch.equal(right, answers.classes[decision] == lesson.task.test.labels)
        assert ((sure >= 1 / 3) & (sure <= 1)).all()
    shares = calibration.refused(method.selector, [each.features.test for each in small_study.lessons()[:2]])
    expected = (method.selector.errors(lesson.features.test)[:, 0] > method.selector.thresholds[0]).float().mean()
    assert shares[0] == pytest.approx(100 * float(expected))
