"""Label spaces: which tasks are tested among which classes, and what methods answer there."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib.data import frozen
from lib.data.label_spaces import LabelSpace, Tested
from lib.data.tasks import Task, TaskError
from lib.methods.scoring import logits
from lib.study.evaluate import evaluate
from tests.support import small_study

NAMES = [["lined", "plain sheet", "upright"], ["tilted", "plain sheet", "bare"], ["across", "lying", "sheer"]]
UNION = ["lined", "plain sheet", "upright", "tilted", "bare", "across", "lying", "sheer"]


def tasks() -> list[Task]:
    """The small study's tasks under other class names; the second class of the first two is the same."""
    return [replace(task, classes=names) for task, names in zip(small_study.sequence()[0], NAMES, strict=True)]


def seen_in(kind: str, learned: int) -> Tested:
    return LabelSpace(kind, small_study.backbone(), tasks(), small_study.sequence()[1]).after(learned)


@pytest.mark.parametrize("learned", [0, 2])
def test_union_has_all_classes_at_all_times_and_a_shared_name_once(learned: int) -> None:
    views, features = seen_in("union", learned)
    assert [task.classes for task in views] == [UNION] * 3
    for view, names, task in zip(views, NAMES, tasks(), strict=True):
        assert [UNION[place] for place in view.test.labels] == [names[label] for label in task.test.labels]
        assert {t: at.tolist() for t, at in view.places.items()} == {0: [0, 1, 2], 1: [3, 1, 4], 2: [5, 6, 7]}
        assert torch.equal(view.train.labels, task.train.labels)  # a task is learned among its own classes
    answers = frozen.zero_shot(small_study.backbone(), views[1], features[1].image_test)
    assert torch.equal(features[1].zero_shot, answers)


def test_seen_grows_with_the_tasks_and_tests_no_other() -> None:
    for learned in range(3):
        views, features = seen_in("seen", learned)
        assert len(views) == len(features) == learned + 1
        assert {len(task.classes) for task in views} == {[3, 5, 8][learned]}


def test_tasks_with_different_templates_have_no_space_in_common() -> None:
    made = tasks()
    made[1] = replace(made[1], templates=["a drawing of {}."])
    with pytest.raises(TaskError, match="tasks.labels is seen.*green.*set tasks.templates"):
        LabelSpace("seen", small_study.backbone(), made, small_study.sequence()[1])


@pytest.mark.parametrize("name", ["zero_shot", "finetune", "moe_adapters", "rail_primal", "rail_dual", "icarl"])
def test_every_method_answers_in_a_union(name: str) -> None:
    row = evaluate(small_study.learned(name), *seen_in("union", 1), 1, None)
    assert all(len(scores) == 3 for scores in row.accuracy.values())


def test_rail_mixes_where_zero_shot_answers_with_a_learned_class_and_only_then() -> None:
    rail, (views, features) = small_study.learned("rail_primal"), seen_in("union", 1)
    for number in range(3):
        told = replace(features[number], zero_shot=torch.tensor([5, 1] * 6))  # never learned, and learned
        answers = rail.predict(views[number], told, number).classes["sample"]
        assert answers[::2].tolist() == [5] * 6
        assert int(answers[1::2].max()) < 5  # the places of the learned tasks' classes


def test_a_class_of_two_tasks_has_the_regression_of_both() -> None:
    rail, (views, features) = small_study.learned("rail_primal"), seen_in("union", 1)
    image = features[0].image_test
    mixture = rail.fused(views[0], image, {t: views[0].places[t] for t in (0, 1)})
    names = frozen.class_features(small_study.backbone(), views[0])
    zero_shot = logits(image, names, small_study.backbone().model.logit_scale).softmax(dim=1)
    scores = rail.scores(image)  # (N, 6): two tasks of three classes
    both = 0.1 * zero_shot[:, 1] + 0.9 * (scores[:, 1] + scores[:, 4])
    torch.testing.assert_close(mixture[:, 1], both, atol=1e-5, rtol=1e-5)


def test_icarl_answers_with_learned_classes_alone() -> None:
    icarl, (views, features) = small_study.learned("icarl"), seen_in("union", 1)
    for number in (0, 1):
        assert int(icarl.predict(views[number], features[number], number).classes["sample"].max()) < 5


def test_a_class_incremental_run_tests_what_was_learned_among_all_classes_so_far(tmp_path: Path) -> None:
    small_study.prepare(tmp_path)
    opened = small_study.open_at(tmp_path, small_study.study({"tasks.labels": "seen"}))
    result = opened.learn("finetune--I--s0")
    rows = result["accuracy"]["sample"]
    assert [len(row) for row in rows] == [1, 2, 3]
    steps = [sum(row) / len(row) for row in rows]  # the tasks have equally many test pictures
    assert result["average"]["sample"] == pytest.approx(sum(steps) / 3, abs=1e-3)
    assert result["last"]["sample"] == pytest.approx(steps[-1], abs=1e-3)
    assert result["transfer"]["sample"] is None
