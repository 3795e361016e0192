"""Tuning: the validation cut comes from training pictures alone, and the params hold what came out best."""

import json
from pathlib import Path

import pytest
import torch

from lib.data import frozen as features
from lib.study import params
from lib.study import tuning as tune
from tests.support import small_study
from tests.support.committed_files import committed_files


def test_the_cut_is_a_fifth_of_the_training_pictures_and_no_test_picture() -> None:
    lesson = small_study.lessons()[0]
    cut = tune.validation(small_study.backbone(), lesson)
    count = len(lesson.task.train)
    assert (len(cut.task.test), len(cut.task.train)) == (count // 5, count - count // 5)
    whole = {image.numpy().tobytes() for image in lesson.task.train.images}
    parts = [{image.numpy().tobytes() for image in split.images} for split in (cut.task.train, cut.task.test)]
    assert parts[0] | parts[1] == whole
    assert not parts[0] & parts[1]


def test_what_clip_says_of_the_cut_is_what_it_says_of_its_pictures() -> None:
    lesson = small_study.lessons()[1]
    cut = tune.validation(small_study.backbone(), lesson)
    again = features.compute(small_study.backbone(), cut.task, small_study.study().selector)
    for name, value in vars(again).items():
        torch.testing.assert_close(getattr(cut.features, name), value, msg=name)


def test_the_first_value_within_one_standard_error_of_the_best_is_chosen() -> None:
    # the best is 74.13 % of 264 pictures: its error is 100 * sqrt(0.7413 * 0.2587 / 264) = 2.70 points
    assert tune.choose([68.96, 71.91, 74.13, 74.06], 264) == (1, 2.7)
    assert tune.choose([71.0, 74.13], 264)[0] == 1  # 3.13 below
    assert tune.choose([10.0], 100) == (0, 3.0)


@pytest.fixture
def graded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Tuning of learning rates where 0.2 is best and 0.1 clearly worse; returns what is tried, as it is tried."""
    small = small_study.study({"tuning": {"finetune": {"lr": [0.1, 0.2, 0.3]}}})
    monkeypatch.setattr(params, "load", lambda file: small)
    monkeypatch.setattr(tune, "REPORTS", tmp_path)
    asked: list[float] = []

    def score(study: params.Study, method: str, changes: dict[str, float]) -> tuple[float, int]:
        asked.append(changes["lr"])
        return {0.1: 50.0, 0.2: 80.0, 0.3: 79.0}[changes["lr"]], 100

    monkeypatch.setattr(tune, "score", score)
    return asked


def test_all_that_was_tried_is_kept(graded: list[float], tmp_path: Path) -> None:
    assert tune.tune("params.yaml", "finetune")["chosen"] == 0.2
    assert graded == [0.1, 0.2, 0.3]
    held = json.loads((tmp_path / "tuning" / "tiny" / "finetune.json").read_text())
    assert held["scores"] == {"0.1": 50.0, "0.2": 80.0, "0.3": 79.0}
    assert (held["pictures"], held["standard_error"]) == (100, 4.0)


def test_nothing_is_tried_twice_by_the_same_code_and_numbers(
    graded: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tune.tune("params.yaml", "finetune")
    assert tune.tune("params.yaml", "finetune") == first
    assert len(graded) == 3
    monkeypatch.setattr(tune.sources, "of_method", lambda name: {"lib.changed": "yes"})
    tune.tune("params.yaml", "finetune")
    assert len(graded) == 6


def test_a_score_is_measured_on_the_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_study.move(monkeypatch, tmp_path)
    small_study.prepare(tmp_path)
    small = small_study.study()
    first = tune.score(small, "finetune", {"lr": 0.001})
    assert first == tune.score(small, "finetune", {"lr": 0.001})
    assert 0 <= first[0] <= 100
    assert first[1] == sum(len(lesson.task.train) // tune.SHARE for lesson in small_study.lessons()[:2])
    assert first[0] != tune.score(small, "finetune", {"lr": 0.1})[0]


def test_an_unknown_grid_is_an_error() -> None:
    with pytest.raises(SystemExit, match="no grid for magic"):
        tune.main(["magic"])


@pytest.mark.parametrize("method", sorted(params.load().tuning))
def test_the_params_hold_what_was_chosen(method: str) -> None:
    study = params.load()
    held = json.loads(committed_files(f"reports/tuning/{study.study}")[f"{method}.json"])
    ((name, values),) = study.tuning[method].items()
    assert held["chosen"] == study.methods[method][name], "run `make tune`, then take over what it chooses"
    scores = [held["scores"][str(value)] for value in values]
    assert values[tune.choose(scores, held["pictures"])[0]] == held["chosen"]
