"""Label spaces: who is tested among which classes, and what methods answer there."""

from dataclasses import replace

import pytest
import torch

from lib.data import frozen as features
from lib.data.label_spaces import LabelSpace
from lib.data.tasks import Task, TaskError
from lib.methods.base import logits
from lib.study import stage as learn
from lib.study.evaluate import evaluate
from tests.support import small_study

SHARED = ["across", "plain sheet", "upright"]  # the classes of all three tasks of the small study
NAMES = [["lined", "plain sheet", "upright"], ["tilted", "plain sheet", "bare"], ["across", "lying", "sheer"]]


def tasks(names: list[list[str]] = NAMES) -> list[Task]:
    """The small study's tasks under other class names; the second class of the first two is the same."""
    return [replace(task, classes=n) for task, n in zip(small_study.sequence()[0], names, strict=True)]


def space(kind: str, names: list[list[str]] = NAMES) -> LabelSpace:
    return LabelSpace(kind, small_study.backbone(), tasks(names), small_study.sequence()[1])


def test_own_is_the_tasks_as_they_are() -> None:
    tested, known = space("own").after(0)
    assert [task.classes for task in tested] == NAMES
    assert known is not None
    assert known[0] is small_study.sequence()[1][0]
    assert not tested[0].places


@pytest.mark.parametrize("learned", [0, 2])
def test_union_has_all_classes_at_all_times_and_a_shared_name_once(learned: int) -> None:
    tested, _ = space("union").after(learned)
    expected = ["lined", "plain sheet", "upright", "tilted", "bare", "across", "lying", "sheer"]
    assert [task.classes for task in tested] == [expected] * 3
    for task, names, before in zip(tested, NAMES, tasks(), strict=True):
        assert [expected[place] for place in task.test.labels] == [names[label] for label in before.test.labels]
        assert {t: at.tolist() for t, at in task.places.items()} == {0: [0, 1, 2], 1: [3, 1, 4], 2: [5, 6, 7]}
        assert torch.equal(task.train.labels, before.train.labels)  # learning is among its own


def test_seen_grows_with_the_tasks_and_tests_no_other() -> None:
    for learned in range(3):
        tested, known = space("seen").after(learned)
        assert len(tested) == len(known) == learned + 1
        assert {len(task.classes) for task in tested} == {[3, 5, 8][learned]}


def test_clip_answers_among_all_classes_of_the_space() -> None:
    tested, known = space("union").after(0)
    backbone = small_study.backbone()
    for task, told in zip(tested, known, strict=True):
        assert torch.equal(told.zero_shot, features.zero_shot(backbone, task, told.image_test))
        assert int(told.zero_shot.max()) < 8


def test_tasks_with_different_templates_have_no_space_in_common() -> None:
    made = tasks()
    made[1] = replace(made[1], templates=["a drawing of {}."])
    with pytest.raises(TaskError, match="tasks.labels is seen, so all tasks need the same templates; green has"):
        LabelSpace("seen", small_study.backbone(), made, small_study.sequence()[1])


@pytest.mark.parametrize("name", ["zero_shot", "finetune", "moe_adapters", "rail_primal", "rail_dual", "icarl"])
def test_every_method_answers_in_a_union(name: str) -> None:
    tested, known = space("union").after(1)
    row = evaluate(small_study.learned(name), tested, known, 1, None)
    assert all(len(scores) == 3 for scores in row.accuracy.values())


def test_rail_mixes_where_zero_shot_answers_with_a_learned_class_and_only_then() -> None:
    pupil, (tested, known) = small_study.learned("rail_primal"), space("union").after(1)
    for number in range(3):
        told = replace(known[number], zero_shot=torch.tensor([5, 1] * 6))  # never learned, and learned
        found = pupil.predict(tested[number], told, number).classes["sample"]
        assert found[::2].tolist() == [5] * 6
        assert int(found[1::2].max()) < 5  # the places of the learned tasks' classes


def test_a_class_of_two_tasks_has_the_regression_of_both() -> None:
    pupil, (tested, known) = small_study.learned("rail_primal"), space("union").after(1)
    image = known[0].image_test
    mixture = pupil._mixture(tested[0], image, {t: tested[0].places[t] for t in (0, 1)})
    names = features.class_features(small_study.backbone(), tested[0])
    shown = logits(image, names, small_study.backbone().model.logit_scale).softmax(dim=1)
    scores = pupil.scores(image)  # (N, 6): two tasks of three classes
    both = 0.1 * shown[:, 1] + 0.9 * (scores[:, 1] + scores[:, 4])
    torch.testing.assert_close(mixture[:, 1], both, atol=1e-5, rtol=1e-5)


def test_icarl_answers_with_learned_classes_alone() -> None:
    pupil, (tested, known) = small_study.learned("icarl"), space("union").after(1)
    for number in (0, 1):
        assert int(pupil.predict(tested[number], known[number], number).classes["sample"].max()) < 5


def test_a_class_incremental_run_tests_what_was_learned_among_all_classes_so_far(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_study.move(monkeypatch, tmp_path)
    small_study.prepare(tmp_path)
    study = small_study.study({"tasks.labels": "seen"})
    content = learn.learn(study, "finetune--I--s0")
    rows = content["accuracy"]["sample"]
    assert [len(row) for row in rows] == [1, 2, 3]
    steps = [sum(row) / len(row) for row in rows]  # as many test pictures in every task
    assert content["average"]["sample"] == pytest.approx(sum(steps) / 3, abs=1e-3)
    assert content["last"]["sample"] == pytest.approx(steps[-1], abs=1e-3)
    assert content["transfer"]["sample"] is None
