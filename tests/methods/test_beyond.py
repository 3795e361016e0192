"""The method beyond: its posterior is a distribution made as written down, and each part can be left out."""

from typing import Any

import pytest
import torch

from lib.methods.statistics import of_strangers
from lib.selector import CLIP
from tests.support import small_study
from tests.support.mixtures import stir
from tests.support.small_lessons import predicted, views

LESSONS = small_study.lessons()


def learned(**settings: Any) -> Any:
    """A method after two tasks, a little stirred so that routers differ from CLIP."""
    method = small_study.teach(small_study.method("beyond", **settings), 0, 1)
    stir(method.model)
    return method


@pytest.fixture(scope="module")
def method() -> Any:
    return learned()


def scores(method: Any, number: int, told: int | None = None, space: str = "union_") -> torch.Tensor:
    return posterior(method, number, told, space).scores(len(views()[space][0][number].classes))


def posterior(method: Any, number: int, told: int | None = None, space: str = "union_") -> Any:
    tasks, features = views()[space]
    places = {t: at for t, at in tasks[number].places_or_own(number).items() if t < 2}
    return method.posterior(tasks[number], features[number], places, told)


@pytest.mark.parametrize("told", [None, 0, CLIP])
@pytest.mark.parametrize("space", ["", "union_"])
def test_the_posterior_is_a_distribution(method: Any, told: int | None, space: str) -> None:
    for number in range(3):
        if told not in (None, number if number < 2 else CLIP):
            continue  # the oracle would not say so
        found = posterior(method, number, told, space)
        for stream in (False, True):
            scores = found.scores(len(views()[space][0][number].classes), stream)
            torch.testing.assert_close(scores.sum(dim=1), torch.ones(12).double())
            assert (scores >= 0).all()
        assert set(found.routes.tolist()) <= {CLIP, 0, 1}


def test_the_oracle_answers_with_the_names_of_the_task_or_with_those_that_a_stranger_may_have(method: Any) -> None:
    task = views()["union_"][0][0]
    mine = scores(method, 0, 0) > 0
    assert mine[:, task.places[0]].all()
    assert mine.sum() == 12 * 3
    rest = scores(method, 2, CLIP) > 0
    assert torch.equal(rest.any(dim=0), of_strangers({0: task.places[0], 1: task.places[1]}, rest.shape[1]).isfinite())


def test_a_learned_answer_is_the_mean_of_the_regression_and_the_router() -> None:
    halves, router, ridge = learned(), learned(share=0.0), learned(share=1.0)
    for number in (0, 1):
        own = [scores(each, number, space="") for each in (halves, router, ridge)]
        with torch.no_grad():
            image = router.routed_features(LESSONS[number].task, torch.full((12,), number))
            answers = router.among_own(LESSONS[number].task, number, torch.arange(3), image)
        torch.testing.assert_close(own[1], answers)
        regression = halves.ridge.scores(LESSONS[number].features.test)[:, 3 * number : 3 * number + 3]
        torch.testing.assert_close(own[0], (answers + (halves.ridge.among_own[number] * regression).softmax(dim=1)) / 2)
        torch.testing.assert_close(own[2], (ridge.ridge.among_all * regression).softmax(dim=1))
    assert ridge.asked == 0


def test_a_mixed_batch_has_the_features_of_each_router_alone(method: Any) -> None:
    routers, task = torch.arange(12) % 2, LESSONS[2].task
    mixed = method.routed_features(task, routers)
    method.encoded = {}
    alone = method.routed_features(task, routers)
    method.encoded = None
    torch.testing.assert_close(mixed, alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(mixed, method.routed_features(task, 1 - routers), atol=1e-3)


def test_log_odds_are_the_sum_of_their_parts(method: Any) -> None:
    tasks, features = views()["union_"]
    task, held = tasks[2], features[2]
    prior = of_strangers(task.places, len(task.classes))
    learned = torch.zeros(len(task.classes), dtype=torch.bool)
    learned[torch.cat([task.places[0], task.places[1]])] = True
    zero_shot, entropy = method.logits_of(task, held.image_test), torch.rand(12).double()
    judged = method.looks.judge(held.test)
    chance = method.chance_of_learned(judged, zero_shot, learned, prior, entropy)
    density = judged.known.amax(dim=1) - judged.unknown.amax(dim=1)
    names = zero_shot[:, learned].exp().mean(dim=1).log() - (zero_shot.double().exp() @ prior.exp()).log()
    s = method.settings
    expected = (s.slope * density + s.names * names - s.doubt * entropy + s.prior).sigmoid()
    torch.testing.assert_close(chance, expected, check_dtype=False, rtol=1e-4, atol=1e-5)


def test_a_stranger_has_a_learned_name_as_often_as_names_have_come_twice() -> None:
    once = of_strangers({0: torch.tensor([0, 1]), 1: torch.tensor([2])}, 5).exp()
    torch.testing.assert_close(once, torch.tensor([0, 0, 0, 1 / 2, 1 / 2]).double())
    # five names, of which name 0 came three times: another learned name has chance 3/5, a new one 2/5
    places = {0: torch.tensor([0, 1]), 1: torch.tensor([0]), 2: torch.tensor([2, 0])}
    torch.testing.assert_close(of_strangers(places, 5).exp(), torch.tensor([0.2, 0.2, 0.2, 0.2, 0.2]).double())
    torch.testing.assert_close(of_strangers({}, 2).exp(), torch.tensor([0.5, 0.5]).double())
    assert not of_strangers({3: torch.tensor([0, 1])}, 2).isfinite().any()


def test_the_oracle_answers_a_stranger_of_whom_every_name_was_learned(method: Any) -> None:
    task = LESSONS[0].task
    found = method.posterior(task, LESSONS[0].features, {1: torch.arange(3)}, CLIP)
    zero_shot = method.logits_of(task, LESSONS[0].features.image_test)
    assert torch.equal(found.scores(3).argmax(dim=1), zero_shot.argmax(dim=1))


def test_an_unknown_class_is_answered_by_moved_features_in_a_known_look_alone() -> None:
    still, moved = learned(penalty=0.0), learned(penalty=1.0)
    assert still.moves == []
    task, held = LESSONS[2].task, LESSONS[2].features
    plain = moved.logits_of(task, held.image_test)
    moved.looks.level = 1e-12  # no look is strange
    assert not torch.allclose(moved.moved(task, held, plain, moved.looks.judge(held.test)), plain)
    moved.looks.level = 1 - 1e-12  # every look is
    assert torch.equal(moved.moved(task, held, plain, moved.looks.judge(held.test)), plain)
    assert torch.equal(predicted(still, 2).classes["sample"], held.zero_shot)


def test_hard_answers_take_the_likelier_side_alone() -> None:
    for number in range(3):
        hard = learned(soft=False)
        routes = posterior(hard, number).routes
        places = views()["union_"][0][number].places
        names = torch.cat([places[0], places[1]]).unique()  # one name is of both
        assert torch.equal(scores(hard, number)[:, names].sum(dim=1).round(), (routes != CLIP).double())


def test_routes_are_reported_where_names_of_several_tasks_are_candidates(method: Any) -> None:
    tasks, features = views()["union_"]
    assert predicted(method, 0).routes == {}
    routes = method.predict(tasks[0], features[0], 0).routes
    assert routes["oracle"].tolist() == [0] * 12
    assert set(routes) == {"sample", "oracle"}


def test_what_is_stored_counts_the_statistics(method: Any) -> None:
    state = method.state()
    assert method.size()["stored_bytes"] == sum(v.nbytes for v in state.values())
    assert {"ridge.inverse", "ridge.among_own.1", "looks.within", "moves.1", "looks.means.1"} <= set(state)
