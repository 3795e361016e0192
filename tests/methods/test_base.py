"""What holds for every method: the frozen CLIP stays, states go round, it learns, bad settings are refused."""

from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from lib.clip.backbone import fingerprint
from lib.methods import METHODS, method_class
from lib.methods.base import Method
from lib.settings import ParamsError
from tests.support import small_lessons, small_study
from tests.support.small_lessons import predicted

SELECTING = ["expert_gate", "linear_probe", "analytic_head", "adapter_per_task", "vote", "moe_adapters"]
# These decide without a selector whether the method or CLIP answers.
TOLD = ["icarl", "rail_primal", "rail_dual", "moe_confidence", "beyond"]
# Sixty steps are not enough for these.
ADAPTERS = {"adapter", "adapter_per_task", "vote", "moe_adapters", "moe_confidence", "beyond"}
LEARNING = sorted(set(METHODS) - {"zero_shot", "joint", "finetune_single"} - ADAPTERS)


def test_a_method_is_chosen_by_name() -> None:
    assert all(issubclass(method_class(name), Method) for name in METHODS)
    with pytest.raises(ParamsError, match="'moe'.*zero_shot, .*moe_adapters"):
        method_class("moe")


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_has_the_same_bytes_and_the_frozen_clip_stays(name: str) -> None:
    whole, resumed = small_lessons.in_one_go_and_resumed(name)
    assert whole == resumed
    assert fingerprint(small_study.backbone().model) == small_study.backbone().fingerprint
    assert not small_study.backbone().model.training


@pytest.mark.parametrize("name", METHODS)
def test_a_restored_method_answers_reports_and_weighs_the_same(name: str) -> None:
    method, again = small_study.learned(name), small_study.method(name)
    again.restore(load(save(method.state())))
    assert (again.size(), again.report()) == (method.size(), method.report())
    for number in range(3):
        one, two = (predicted(each, number).classes for each in (method, again))
        assert tuple(one) == tuple(two) == method.decisions
        assert all(torch.equal(one[decision], two[decision]) for decision in one)
        assert all(classes.shape == (12,) and classes.min() >= 0 for classes in one.values())


@pytest.mark.parametrize("name", METHODS)
def test_answering_in_between_changes_nothing_that_is_learned(name: str) -> None:
    method = small_study.teach(small_study.method(name), 0)
    for number in range(3):
        predicted(method, number)
    small_study.teach(method, 1)
    states = [m.state() for m in (method, small_study.teach(small_study.method(name), 0, 1))]
    one, two = (save({k: v for k, v in state.items() if not k.startswith("answered.")}) for state in states)
    assert one == two


@pytest.mark.parametrize("name", METHODS)
def test_those_that_decide_who_answers_also_have_an_oracle_and_a_selector_has_routes(name: str) -> None:
    method, every = small_study.learned(name), ("sample", "batch", "oracle", "lookup")
    told = ("sample", "stream", "oracle") if name == "beyond" else ("sample", "oracle")
    expected = every if name in SELECTING else told if name in TOLD else ("sample",)
    assert method.decisions == expected
    assert tuple(predicted(method, 0).routes) == (every if name in SELECTING else ())


@pytest.mark.parametrize("name", LEARNING)
def test_it_learns(name: str) -> None:
    exemplars = {"exemplars": 30} if name == "icarl" else {}
    losses, right = small_lessons.after_colours(name, 30 if exemplars else 60, **exemplars)
    assert right > (90 if name.startswith(("rail", "icarl")) else 70)  # a third is chance
    assert losses[-1] < 0.6 * losses[0] if losses else name in (*TOLD, *SELECTING)


@pytest.mark.parametrize("name", SELECTING)
def test_predicting_before_learning_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="learn one"):
        predicted(small_study.method(name), 0)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("wise_ft", {"alpha": 1.5}, "alpha is 1.5"),
        ("lora", {"rank": 0}, "rank is 0"),
        ("icarl", {"replay": 0}, "replay is 0"),
        ("zscl", {"average_every": 5}, "average_every is 5.*1 to 4 or 0"),
        ("rail_primal", {"ridge": 0.0}, "ridge is 0"),
        ("rail_dual", {"zero_shot_share": 1.5}, "zero_shot_share is 1.5"),
        ("linear_probe", {"inverse_penalty": 0.0}, "inverse_penalty is 0"),
    ],
)
def test_bad_settings_are_refused(name: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        small_study.method(name, **settings)
