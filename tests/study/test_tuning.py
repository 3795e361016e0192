"""Tuning: the validation cut comes from training pictures alone, and the params hold what came out best."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.data import frozen
from lib.study import params, tuning
from lib.study.opened import OpenStudy
from tests.support import small_study
from tests.support.committed_files import committed_files


def test_the_cut_is_a_fifth_of_the_training_pictures_and_no_test_picture() -> None:
    lesson = small_study.lessons()[0]
    cut = tuning.validation(small_study.backbone(), lesson)
    count = len(lesson.task.train)
    assert (len(cut.task.test), len(cut.task.train)) == (count // 5, count - count // 5)
    whole = {image.numpy().tobytes() for image in lesson.task.train.images}
    parts = [{image.numpy().tobytes() for image in split.images} for split in (cut.task.train, cut.task.test)]
    assert parts[0] | parts[1] == whole
    assert not parts[0] & parts[1]


def test_the_features_of_the_cut_are_those_of_its_pictures() -> None:
    cut = tuning.validation(small_study.backbone(), small_study.lessons()[1])
    for name, value in vars(frozen.compute(small_study.backbone(), cut.task, "clip")).items():
        torch.testing.assert_close(getattr(cut.features, name), value, msg=name)


def test_the_first_value_within_one_standard_error_of_the_best_is_chosen() -> None:
    # the best is 74.13 % of 264 pictures: its error is 100 * sqrt(0.7413 * 0.2587 / 264) = 2.70 points
    assert tuning.choose([68.96, 71.91, 74.13, 74.06], 264) == (1, 2.7)
    assert tuning.choose([71.0, 74.13], 264)[0] == 1  # 3.13 below
    assert tuning.choose([10.0], 100) == (0, 3.0)


def test_what_was_tried_is_kept_and_not_tried_again_by_the_same_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study.open_at(tmp_path, small_study.study({"tuning": {"finetune": {"lr": [0.1, 0.2, 0.3]}}}))
    tried: list[float] = []

    def score(_study: OpenStudy, _method: str, changes: dict[str, Any]) -> tuple[float, int]:
        tried.append(changes["lr"])
        return {0.1: 50.0, 0.2: 80.0, 0.3: 79.0}[changes["lr"]], 100

    monkeypatch.setattr(tuning, "score", score)
    first = tuning.tune(study, "finetune")
    assert (first["chosen"], first["pictures"], first["standard_error"]) == (0.2, 100, 4.0)
    assert first["scores"] == {"0.1": 50.0, "0.2": 80.0, "0.3": 79.0}
    file = tmp_path / "reports" / "tuning" / "tiny" / "finetune.json"
    assert json.loads(file.read_text()) == first == tuning.tune(study, "finetune")
    assert tried == [0.1, 0.2, 0.3]
    monkeypatch.setattr(tuning.code_digests, "of_method", lambda name: "other code")
    tuning.tune(study, "finetune")
    assert tried == [0.1, 0.2, 0.3] * 2


def test_a_score_is_measured_on_the_cut(home: Path) -> None:
    study = small_study.open_at(home)
    first = tuning.score(study, "finetune", {"lr": 0.001})
    assert first == tuning.score(study, "finetune", {"lr": 0.001})
    assert 0 <= first[0] <= 100
    assert first[1] == sum(len(lesson.task.train) // tuning.HELD_OUT for lesson in small_study.lessons()[:2])
    assert first[0] != tuning.score(study, "finetune", {"lr": 0.1})[0]


def test_an_unknown_grid_is_an_error() -> None:
    with pytest.raises(SystemExit, match="no grid for magic"):
        tuning.main(["magic"])


@pytest.mark.parametrize("method", sorted(params.load().tuning))
def test_the_params_hold_what_was_chosen(method: str) -> None:
    study = params.load()
    written = json.loads(committed_files(f"reports/tuning/{study.study}")[f"{method}.json"])
    ((name, values),) = study.tuning[method].items()
    assert written["chosen"] == study.methods[method][name], "run `make tune`, then take over what it chooses"
    scores = [written["scores"][str(value)] for value in values]
    assert values[tuning.choose(scores, written["pictures"])[0]] == written["chosen"]
