"""The mixture as a method of the comparison: what its switches do, and what it reports."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support import small_study


def test_the_report_says_which_experts_were_used_and_frozen() -> None:
    method = small_study.learned("moe_adapters")
    block = method.report()["experts"]["image"]["1"]
    counts = method.model.image_adapters["1"].counts
    assert block["counts"] == counts.tolist()
    assert block["froze"] == [[int(row.argmax())] for row in counts]
    assert set(method.report()["experts"]["text"]) == {"0", "1"}


def test_a_shared_router_goes_on_learning_and_answers_for_every_task() -> None:
    method = small_study.teach(small_study.method("moe_adapters", router="shared", noise=False), 0)
    before = {name: tensor.clone() for name, tensor in method.model.state_dict().items()}
    small_study.teach(method, 1)
    after = method.model.state_dict()
    routers = [name for name in after if ".routers." in name]
    assert len(routers) == 4
    assert all(".routers.0." in name for name in routers)
    assert all(after[name].any() for name in routers)
    assert {name for name in routers if not torch.equal(before[name], after[name])} == set(routers)
    routes = [torch.full((12,), route) for route in (0, 1)]
    made, known = small_study.sequence()
    one, two = method.answer(made[0], known[0], routes)
    assert torch.equal(one, two)


@pytest.mark.parametrize("rule", ["most_used", "most_weighted", "all_used", "all_but_fresh"])
def test_a_freeze_rule_decides_what_is_frozen_and_is_reported(rule: str) -> None:
    method = small_study.teach(small_study.method("moe_adapters", freeze=2, freeze_rule=rule), 0, 1)
    for name, adapter in method.model.adapters().items():
        tower, block = name.split("_adapters.")
        froze = method.report()["experts"][tower][block]["froze"]
        assert froze == [adapter.to_freeze(task) for task in (0, 1)]
        assert set(adapter.frozen.nonzero().flatten().tolist()) == {e for each in froze for e in each}


def test_without_a_selector_the_last_router_answers_every_picture() -> None:
    pupil = small_study.teach(small_study.method("moe_adapters", selector="none", router="shared"), 0, 1)
    assert pupil.decisions == ("sample",)
    assert not [name for name in pupil.state() if name.startswith("selector.")]
    task, told = small_study.sequence()[0][0], small_study.sequence()[1][0]
    found = pupil.predict(task, told, 0).classes["sample"]
    routes = [torch.full((len(task.test),), 1)]
    assert torch.equal(found, pupil.answer(task, told, routes)[0])
    again = small_study.method("moe_adapters", selector="none", router="shared")
    again.restore(pupil.state())
    assert torch.equal(again.predict(task, told, 0).classes["sample"], found)


def test_noise_in_tests_is_a_switch_and_dropout_stays_off() -> None:
    pupils = {n: small_study.teach(small_study.method("moe_adapters", noise=n), 0) for n in (True, "always")}
    images = small_study.shown(0)[0]
    for noise, same in ((True, True), ("always", False)):
        torch.manual_seed(0)
        gates = [pupils[noise].model.encode_image(images, 0).routings[0].gates for _ in range(2)]
        assert torch.equal(*gates) is same
        assert not pupils[noise].model.image_adapters["0"].experts.training


def answers(method: Any) -> list[Tensor]:
    """Of every learned router on every task's pictures."""
    made, known = small_study.sequence()
    routes = [torch.full((12,), router) for router in range(method.model.num_tasks)]
    return [answer for each in zip(made, known, strict=True) for answer in method.answer(*each, routes)]


@pytest.mark.parametrize("freeze", [0, 1, 2, 4])
def test_what_cannot_change_is_not_asked_again(freeze: int) -> None:
    patient, hasty = (small_study.method("moe_adapters", freeze=freeze, selector="gaussian") for _ in range(2))
    for number in (0, 1, 2):
        for method in (patient, hasty):
            small_study.teach(method, number)
        patient.answered.clear()
        patient.names.clear()
        for expected, found in zip(answers(patient), answers(hasty), strict=True):
            assert torch.equal(found, expected)
    everything = 36 * (1 + 2 + 3)
    assert patient.asked == everything
    assert hasty.asked == {0: everything, 4: 36 * 3}.get(freeze, hasty.asked)
    assert hasty.asked <= everything


def test_answers_that_last_are_kept_in_the_checkpoint_and_not_counted_as_its_size() -> None:
    method = small_study.teach(small_study.method("moe_adapters", freeze=4), 0)
    before = method.size()["stored_bytes"]
    expected = answers(method)
    assert method.size()["stored_bytes"] == before
    again = small_study.method("moe_adapters", freeze=4)
    again.restore(method.state())
    for found, wanted in zip(answers(again), expected, strict=True):
        assert torch.equal(found, wanted)
    assert again.asked == 0


@pytest.mark.parametrize("settings", [{"router": "shared"}, {"noise": "always", "selector": "none"}])
def test_where_routers_go_on_changing_no_answer_lasts(settings: dict[str, Any]) -> None:
    method = small_study.teach(small_study.method("moe_adapters", freeze=4, **settings), 0)
    answers(method)
    answers(method)
    assert method.asked == 2 * 36
