"""The explorer says of one picture what the study's evaluation says of it, at each moment of a chain."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib.selector import CLIP
from lib.study import stage as learn
from lib.study.checkpoint import CheckpointError
from lib.study.params import Run
from tests.support import small_run, small_study
from tools.course import explorer
from tools.course.exercises import World
from tools.course.explorer import Moment

pytestmark = pytest.mark.usefixtures("no_window")


@pytest.fixture
def here() -> World:
    study = small_run.study(by_task=True)
    return World(study, small_study.backbone(), *small_study.sequence())


def test_every_picture_gets_the_answer_and_the_route_of_the_evaluation(here: World) -> None:
    moment = Moment(small_study.NAMES[:2], small_study.learned("moe_adapters"))
    routes = set()
    for number, task in enumerate(here.tasks):
        known = here.features[number]
        told = moment.method.predict(task, known, number)
        for place in range(0, len(task.test), 4):
            seen = explorer.views(here, [moment], task.test.images[place], task)[0]
            assert seen.route == told.routes["sample"][place]
            assert seen.method.argmax() == told.classes["sample"][place]
            assert seen.zero_shot.argmax() == known.zero_shot[place]
            torch.testing.assert_close(seen.method.sum(), torch.tensor(1.0))
            routes.add(seen.route)
    assert len(routes) > 1


def test_the_gates_are_those_on_the_pictures_way(here: World) -> None:
    moment = Moment(small_study.NAMES[:2], small_study.learned("moe_adapters"))
    for task in here.tasks:
        seen = explorer.views(here, [moment], task.test.images[0], task)[0]
        if seen.route == CLIP:
            assert seen.gates == {}
            continue
        for gates in seen.gates.values():
            assert gates.shape == (2, 4)  # blocks, experts
            assert (gates > 0).sum(dim=1).tolist() == [2, 2]
            torch.testing.assert_close(gates.sum(dim=1), torch.ones(2))


def test_a_moment_is_kept_after_every_task_of_a_chain(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_study.move(monkeypatch, tmp_path)
    small_study.prepare(tmp_path)
    monkeypatch.setattr(explorer, "ROOT", tmp_path)
    with pytest.raises(CheckpointError, match="`make study`"):
        explorer.moments(here, "I")
    for key in small_run.chain():
        learn.learn(here.study, key)
    found = explorer.moments(here, "I")
    assert [moment.learned for moment in found] == [small_study.NAMES[: n + 1] for n in range(3)]
    views = explorer.views(here, found, here.tasks[0].test.images[0], here.tasks[0])
    assert [len(seen.errors) for seen in views] == [1, 2, 3]


def test_an_order_is_shown_from_the_run_that_learns_it_with_the_method_as_it_is(here: World) -> None:
    runs = {
        "moe_adapters": Run([0], {}, ["I", "II"]),
        "moe_adapters+other": Run([0], {"freeze": 0}, ["III"]),
        "moe_adapters+order_3": Run([0], {}, ["III", "I"]),
        "finetune": Run([0], {}, ["IV"]),
    }
    found = explorer.orders(replace(here, study=replace(here.study, runs=runs)))
    assert found == {"I": "moe_adapters", "II": "moe_adapters", "III": "moe_adapters+order_3"}


@pytest.mark.parametrize("label", [0, None], ids=["known", "a reader's own"])
def test_the_drawing_names_the_route_and_the_answers(here: World, label: int | None) -> None:
    moment, task = Moment(small_study.NAMES[:2], small_study.learned("moe_adapters")), here.tasks[1]
    seen = explorer.views(here, [moment], task.test.images[0], task)[0]
    figure = explorer.draw(task.test.images[0], task, label, [moment], [seen])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    to = "the untouched CLIP" if seen.route == CLIP else f"the router of {moment.learned[seen.route]}"
    assert f"sent to {to}" in titles
    assert ("of across, the truth" in titles) == (label == 0)
    notes = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert any(note.startswith(task.classes[int(seen.method.argmax())]) for note in notes)
