"""The explorer shows of one picture what the study's evaluation computes, at each moment of a chain."""

from pathlib import Path

import pytest
import torch

from lib.selector import CLIP
from lib.study import OpenStudy, predict
from lib.study.checkpoint import CheckpointError
from tests.support import small_run, small_study
from tools.course import explorer, explorer_beyond
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


def test_mistakes_are_those_of_the_evaluation_and_thumbnails_mark_them(study: OpenStudy, moment: Moment) -> None:
    task, features = study.tasks[2], study.features[2]
    answers = moment.method.predict(task, features, 2).classes["sample"]
    wrong = explorer.mistakes(moment, task, features)
    assert wrong == [place for place in range(len(answers)) if answers[place] != task.test.labels[place]]
    figure = explorer.thumbnails(task, 1, wrong, count=4)
    names = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert [name.split()[0] for name in names] == ["1", "2", "3", "4"]
    assert [int(name.split()[0]) for name in names if name.endswith("✗")] == [
        place for place in wrong if 1 <= place <= 4
    ]


@pytest.mark.parametrize(
    ("errors", "route", "words"),
    [
        ([0.1, 0.3], 0, ["first has the least", "its router answers"]),
        ([0.4, 0.5], CLIP, ["first has the least", "above its threshold", "CLIP answers"]),
        ([0.3, 0.35], CLIP, ["first has the least", "CLIP answers", "second: below its own threshold"]),
        ([0.1, 0.3], CLIP, ["first has the least", "the reference's is smaller", "CLIP answers"]),
    ],
    ids=["claimed", "refused", "another would have claimed it", "the reference"],
)
def test_the_reason_is_the_selectors_rule(errors: list[float], route: int, words: list[str]) -> None:
    nothing = torch.zeros(2)
    seen = View(torch.tensor(errors), torch.tensor([0.2, 0.4]), 0.0, route, {}, nothing, nothing)
    reason = explorer.reason(seen, ["first", "second"])
    assert all(word in reason for word in words)
    assert ("second" in reason) == (len(words) == 3 and "second" in words[2])


def test_the_view_of_beyond_shows_its_chances(tmp_path: Path) -> None:
    small_study.write_pictures(tmp_path / "pictures")
    opened = small_study.open_at(
        tmp_path, small_study.study({"runs": {"beyond": {"seeds": [0], "set": {}}}, "reference": None})
    )
    opened.learn("beyond--I--s0")
    run, picture = predict.finished(opened), opened.tasks[0].test.images[0]
    figure = explorer_beyond.draw(opened, run, picture, "the truth", ["a violin"])
    left, names, owners = figure.axes
    assert left.get_title("left") == "the truth"
    shown = predict.predict(opened, picture[None], [*(n for t in run[1] for n in t.classes), "a violin"])
    assert names.get_yticklabels()[-1].get_text() == shown.loc[0, "answer"]
    assert sum(bar.get_width() for bar in owners.patches) == pytest.approx(100)  # type: ignore[attr-defined]
