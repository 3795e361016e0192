"""The explorer shows of one picture what the study's evaluation computes, at each moment of a chain."""

from pathlib import Path

import pytest
import torch

from lib.selector import CLIP
from lib.study import OpenStudy
from lib.study.checkpoint import CheckpointError
from tests.support import small_run, small_study
from tools.course import explorer
from tools.course.explorer import Moment, View

pytestmark = pytest.mark.usefixtures("no_window")


@pytest.fixture
def study(tmp_path: Path) -> OpenStudy:
    small_study.prepare(tmp_path)
    return small_study.open_at(tmp_path, small_run.study(by_task=True))


@pytest.fixture
def moment() -> Moment:
    return Moment(small_study.NAMES[:2], small_study.learned("moe_adapters"))


def view(study: OpenStudy, moment: Moment, number: int, place: int = 0) -> View:
    task = study.tasks[number]
    return explorer.views(study, [moment], task.test.images[place], task)[0]


def test_every_picture_gets_the_answer_and_the_route_of_the_evaluation(study: OpenStudy, moment: Moment) -> None:
    routes = set()
    for number, (task, features) in enumerate(zip(study.tasks, study.features, strict=True)):
        answers = moment.method.predict(task, features, number)
        for place in range(0, len(task.test), 4):
            seen = view(study, moment, number, place)
            assert seen.route == answers.routes["sample"][place]
            assert seen.method.argmax() == answers.classes["sample"][place]
            assert seen.zero_shot.argmax() == features.zero_shot[place]
            torch.testing.assert_close(seen.method.sum(), torch.tensor(1.0))
            routes.add(seen.route)
            assert (seen.gates == {}) == (seen.route == CLIP)
            for gates in seen.gates.values():
                assert (gates > 0).sum(dim=1).tolist() == [2, 2]  # of 4 experts in each of 2 blocks
                torch.testing.assert_close(gates.sum(dim=1), torch.ones(2))
    assert len(routes) > 1


def test_a_run_by_task_has_a_moment_after_every_task(study: OpenStudy) -> None:
    with pytest.raises(CheckpointError, match="`make study`"):
        explorer.moments(study, "I")
    study.learn(small_run.KEY)
    moments = explorer.moments(study, "I")
    assert [moment.learned for moment in moments] == [small_study.NAMES[: n + 1] for n in range(3)]
    views = explorer.views(study, moments, study.tasks[0].test.images[0], study.tasks[0])
    assert [len(seen.errors) for seen in views] == [1, 2, 3]
