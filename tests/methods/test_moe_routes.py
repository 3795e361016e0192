"""How the mixture answers by routes: the oracle's, mixed ones, the reference's, and those of the Gaussian selector."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor

from lib.clip import preprocess
from lib.data.frozen import class_features
from lib.methods.moe_adapters import MoEAdapters
from lib.methods.scoring import nearest
from lib.selector import CLIP, DDAS, GaussianSelector
from tests.support import small_study
from tests.support.mixtures import stir
from tests.support.small_lessons import predicted


def answered(method: Any, number: int, routes: torch.Tensor) -> torch.Tensor:
    tasks, features = small_study.sequence()
    return method.answer(tasks[number], features[number], [routes])[0]


def test_a_mixed_route_gives_each_picture_its_routers_answer() -> None:
    method = small_study.teach(small_study.method("moe_adapters"), 0, 1)
    stir(method.model)
    pure = [answered(method, 1, torch.full((12,), route)) for route in (CLIP, 0, 1)]
    routes = torch.tensor([CLIP, 0, 1] * 4)
    mixed = answered(method, 1, routes)
    assert mixed.tolist() == [pure[route + 1][i].item() for i, route in enumerate(routes.tolist())]
    assert torch.equal(pure[0], small_study.sequence()[1][1].zero_shot)
    assert len({tuple(each.tolist()) for each in pure}) == 3  # else the mixed route would show nothing


def test_a_router_answers_as_its_towers_do() -> None:
    task, method, backbone = small_study.sequence()[0][1], small_study.learned("moe_adapters"), small_study.backbone()
    prompts = [backbone.tokenizer(task.prompts(template)) for template in task.templates]
    with torch.no_grad():
        names = torch.stack([F.normalize(method.model.encode_text(each, 1).features, dim=-1) for each in prompts])
        images = method.model.encode_image(preprocess(task.test.images, backbone.mean, backbone.std), 1).features
    expected = (images @ F.normalize(names.mean(dim=0), dim=-1).T).argmax(dim=1)
    assert torch.equal(predicted(method, 1).classes["oracle"], expected)


def test_the_reference_decides_against_every_task() -> None:
    changes = {"selector.reference": True, "selector.steps": 200}
    given = replace(small_study.context(changes), reference_features=lambda: small_study.sequence()[1][2].train)

    def new() -> MoEAdapters:
        torch.manual_seed(0)
        return MoEAdapters(given, small_study.study(changes).methods["moe_adapters"])

    method, again = small_study.teach(new(), 0), new()
    assert predicted(method, 2).routes["sample"].tolist() == [CLIP] * 12
    again.restore(method.state())
    assert again.selector is not None
    assert again.selector.reference is not None
    assert torch.equal(predicted(again, 0).routes["sample"], predicted(method, 0).routes["sample"])


@pytest.mark.parametrize(("selector", "kind"), [("autoencoder", DDAS), ("gaussian", GaussianSelector)])
def test_a_selector_is_chosen_by_name_and_restored(selector: str, kind: type[DDAS]) -> None:
    method = small_study.teach(small_study.method("moe_adapters", selector=selector), 0, 1)
    again = small_study.method("moe_adapters", selector=selector)
    again.restore(load(save(method.state())))
    assert type(method.selector) is type(again.selector) is kind
    assert again.size() == method.size()
    one, two = predicted(again, 2), predicted(method, 2)
    for decision in method.decisions:
        assert torch.equal(one.routes[decision], two.routes[decision])
        assert torch.equal(one.classes[decision], two.classes[decision])


def test_gaussians_route_red_and_green_pictures_to_their_tasks() -> None:
    method = small_study.teach(small_study.method("moe_adapters", selector="gaussian"), 0, 1)
    assert method.size()["selector_parameters"] == 2 * (3 * 32 + 32 * 32)  # three means and a factor, two tasks
    for number in range(2):
        assert (predicted(method, number).routes["sample"] == number).float().mean() > 0.5


def test_an_image_is_asked_about_once_for_each_router_that_a_decision_sends_it_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method, asked = small_study.method("moe_adapters"), []
    monkeypatch.setattr(method, "ask", lambda _, __, n, at: asked.append((n, at.tolist())) or 10 * n + at)
    seen = replace(small_study.sequence()[1][0], zero_shot=torch.tensor([7, 7, 7]))
    answers = method.answer(None, seen, [torch.tensor([0, 1, CLIP]), torch.tensor([0, 0, CLIP])])
    assert [a.tolist() for a in answers] == [[0, 11, 7], [0, 1, 7]]
    assert sorted(asked) == [(0, [0, 1]), (1, [1])]


# --- answers that can no longer change are not computed again


def answers(method: Any) -> list[Tensor]:
    """Of every learned router on every task's pictures."""
    routes = [torch.full((12,), router) for router in range(method.model.num_tasks)]
    return [a for task, seen in zip(*small_study.sequence(), strict=True) for a in method.answer(task, seen, routes)]


@pytest.mark.parametrize("freeze", [0, 1, 2, 4])
def test_what_cannot_change_is_not_asked_again(freeze: int) -> None:
    patient, hasty = (small_study.method("moe_adapters", freeze=freeze, selector="gaussian") for _ in range(2))
    for number in (0, 1, 2):
        for method in (patient, hasty):
            small_study.teach(method, number)
        patient.answered, patient.names = {}, {}
        assert all(torch.equal(*pair) for pair in zip(answers(patient), answers(hasty), strict=True))
    everything = 36 * (1 + 2 + 3)
    assert patient.asked == everything
    assert hasty.asked == {0: everything, 4: 36 * 3}.get(freeze, hasty.asked)
    assert hasty.asked <= everything


def test_final_answers_are_kept_in_the_checkpoint_and_not_counted_as_its_size() -> None:
    method = small_study.teach(small_study.method("moe_adapters", freeze=4), 0)
    before = method.size()["stored_bytes"]
    expected = answers(method)
    assert method.size()["stored_bytes"] == before
    again = small_study.method("moe_adapters", freeze=4)
    again.restore(method.state())
    assert all(torch.equal(*pair) for pair in zip(answers(again), expected, strict=True))
    assert again.asked == 0


@pytest.mark.parametrize("settings", [{"router": "shared"}, {"noise": "always", "selector": "none"}])
def test_where_routers_go_on_changing_no_answer_is_final(settings: dict[str, Any]) -> None:
    method = small_study.teach(small_study.method("moe_adapters", freeze=4, **settings), 0)
    answers(method)
    answers(method)
    assert method.asked == 2 * 36


def test_in_one_pass_a_picture_gets_the_answer_of_the_evaluation() -> None:
    changes = {"methods.moe_adapters.selector": "early", "methods.moe_adapters.image_blocks": [1]}
    changes |= {"methods.moe_adapters.text_blocks": "none"}
    method = small_study.teach(small_study.method("moe_adapters", changes), 0, 1)
    stir(method.model)
    routes = set()
    for number, (task, features) in enumerate(zip(*small_study.sequence(), strict=True)):
        method.answered = {}
        answers = method.predict(task, features, number)
        pixels = method.backbone.pixels(task.test.images)
        with torch.no_grad():
            seen, tasks = method.model.encode_in_one_pass(pixels, lambda early: method.selector.decide(early).sample)
        assert torch.equal(tasks, answers.routes["sample"])
        assert torch.equal(nearest(seen, class_features(method.backbone, task)), answers.classes["sample"])
        routes |= set(tasks.tolist())
    assert len(routes) > 1
