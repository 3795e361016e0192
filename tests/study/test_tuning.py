"""Tuning: the validation cut, the rule and its errors, what is kept; and the params hold what came out best."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib.data import frozen
from lib.study import params, tuning
from lib.study.opened import OpenStudy
from lib.study.train import Row, evaluate
from tests.support import small_study
from tests.support.committed_files import committed_files

SCORES = {"0.1": [50.0, 51.0], "0.2": [80.0, 81.0], "0.3": [79.0, 80.0]}


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


def test_the_best_mean_is_chosen_and_errors_are_of_paired_differences() -> None:
    # 0.1 is 3 and 1 points below the best: their deviation is sqrt(2), the error of their mean 1
    scores = {"0.1": [70.0, 74.0], "0.2": [73.0, 75.0], "0.3": [75.0, 73.0]}
    assert tuning.choose(scores) == ("0.2", {"0.1": 1.0, "0.2": 0.0, "0.3": 2.0})  # at a tie the first


def tuned(home: Path, changes: dict[str, Any] | None = None) -> OpenStudy:
    """The small study with two grids."""
    grids = {"finetune": {"lr": [0.1, 0.2, 0.3]}, "selector": {"threshold": [0.9, 1.0]}}
    return small_study.open_at(home, small_study.study({"tuning": grids, "tuning_order": "I"} | (changes or {})))


def test_what_was_tried_is_kept_and_not_tried_again_by_the_same_code_and_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, tried = tuned(tmp_path), []

    def score(_study: OpenStudy, name: str, changes: dict[str, float], seed: int) -> float:
        (value,) = changes.values()
        tried.append((name, value, seed))
        return {0.1: 50.0, 0.2: 80.0}.get(value, 79.0) + seed - 100

    monkeypatch.setattr(tuning, "score", score)
    first = tuning.tune(study, "finetune")
    assert (first["chosen"], first["seeds"], first["standard_errors"]) == (0.2, [100, 101], dict.fromkeys(SCORES, 0.0))
    assert first["scores"] == SCORES
    file = tmp_path / "reports" / "tuning" / "tiny" / "finetune.json"
    assert json.loads(file.read_text()) == first == tuning.tune(study, "finetune")
    whole = [("finetune", value, seed) for value in (0.1, 0.2, 0.3) for seed in (100, 101)]
    assert tried == whole
    tuning.tune(tuned(tmp_path, {"train.steps": 9}), "finetune")
    assert tried == whole * 2
    tuning.tune(study, "selector")
    assert tried[len(whole) * 2 :] == [("selector", value, seed) for value in (0.9, 1.0) for seed in (100, 101)]


def test_a_score_is_the_average_on_the_cut_over_all_tasks_and_label_spaces(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, rows, asked = tuned(home, {"tasks.labels": "union"}), [], []

    def noted(method: Any, views: dict[str, Any], *given: Any) -> Row:
        asked.append([len(task.test) for task in views[""][0]])
        rows.append(evaluate(method, views, *given))
        return rows[-1]

    monkeypatch.setattr(tuning, "evaluate", noted)
    first = tuning.score(study, "finetune", {"lr": 0.001}, 100)
    assert asked == [[18 // 5] * 3] * 3  # pictures of three tasks, after each of them
    spaces = [[row.accuracy[f"{space}sample"] for row in rows] for space in ("", "union_")]
    assert first == round(float(np.mean(spaces)), 2)
    assert first == tuning.score(study, "finetune", {"lr": 0.001}, 100)
    assert first not in (tuning.score(study, "finetune", {"lr": lr}, s) for lr, s in ((0.1, 100), (0.001, 101)))


def test_the_selector_is_tuned_with_the_main_method(home: Path) -> None:
    study = tuned(home)
    as_it_is = tuning.score(study, "moe_adapters", {}, 100)
    assert tuning.score(study, "selector", {"threshold": study.params.selector.threshold}, 100) == as_it_is


def test_an_unknown_grid_is_an_error() -> None:
    with pytest.raises(SystemExit, match="no grid for magic"):
        tuning.main(["magic"])


@pytest.mark.parametrize("name", sorted(params.load().tuning))
def test_the_params_hold_what_was_chosen(name: str) -> None:
    study = params.load()
    written = json.loads(committed_files(f"reports/tuning/{study.study}")[f"{name}.json"])
    ((number, values),) = study.tuning[name].items()
    held = vars(study.selector) if name == tuning.SELECTOR else study.methods[name]
    assert written["chosen"] == held[number], "run `make tune`, then take over what it chooses"
    assert (written["study"], written["number"], written["seeds"]) == (study.study, number, [*tuning.SEEDS])
    chosen, errors = tuning.choose({str(value): written["scores"][str(value)] for value in values})
    assert (json.loads(chosen), errors) == (written["chosen"], written["standard_errors"])
    assert not {*tuning.SEEDS} & {seed for run in study.runs.values() for seed in run.seeds}
