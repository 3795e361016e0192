"""Expert Gate: relatedness, where an expert starts, that no picture goes astray, who is asked about which picture."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lib.methods.base import under
from lib.methods.expert_gate import relatedness
from lib.selector import CLIP, DDAS, Decision
from tests.support import small_study
from tests.support.small_lessons import predicted


def begun_with(errors: list[float], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A method with two experts that has just begun a third task, on whose pictures the gates err like this."""
    method = small_study.method("expert_gate")
    method.restore(small_study.learned("expert_gate").state())
    monkeypatch.setattr(DDAS, "errors", lambda self, features: torch.tensor([errors, errors]))
    method.begin_task(small_study.lessons()[2])
    return method


def expert(method: Any, number: int) -> dict[str, Tensor]:
    return under(f"{number}.", method.experts)


def differs(method: Any, weights: dict[str, Tensor]) -> set[str]:
    """Names of what the model trains and an expert has otherwise."""
    return {name for name, p in method.trained().items() if not torch.equal(p, weights[name])}


def test_relatedness_by_hand() -> None:
    # own error 0.2: another of 0.3 is half as bad again, one of 0.15 is even better
    torch.testing.assert_close(relatedness(torch.tensor([0.3, 0.15, 0.2, 0.2])), torch.tensor([0.5, 1.25, 1]))
    assert relatedness(torch.tensor([0.2])).shape == (0,)


@pytest.mark.parametrize(("errors", "start"), [([0.3, 0.5, 0.2], 0), ([0.5, 0.3, 0.2], 1), ([0.1, 0.3, 0.2], 0)])
def test_an_expert_starts_from_the_most_related(
    errors: list[float], start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = begun_with(errors, monkeypatch)
    assert method.report()["started_from"] == [CLIP, 0, start]
    assert not differs(method, expert(method, start))
    assert differs(method, expert(method, 1 - start))


def test_the_gates_are_learned_before_the_expert_on_all_training_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Tensor] = []
    errors = DDAS.errors
    monkeypatch.setattr(DDAS, "errors", lambda self, seen: asked.append(seen) or errors(self, seen))
    method, lesson = small_study.method("expert_gate"), small_study.lessons()[0]
    method.begin_task(lesson)
    assert len(method.selector.tasks) == 1
    assert torch.equal(asked[-1], lesson.features.train)
    assert not differs(method, dict(small_study.backbone().model.named_parameters()))


def test_the_first_expert_is_finetune() -> None:
    one, plain = (small_study.teach(small_study.method(name), 0) for name in ("expert_gate", "finetune"))
    assert not differs(plain, expert(one, 0))


def test_experts_never_change_again() -> None:
    method = small_study.teach(small_study.method("expert_gate"), 0)
    before = {name: value.clone() for name, value in expert(method, 0).items()}
    first = predicted(method, 0).classes["oracle"]
    small_study.teach(method, 1)
    assert all(torch.equal(value, before[name]) for name, value in expert(method, 0).items())
    assert torch.equal(predicted(method, 0).classes["oracle"], first)
    assert differs(small_study.teach(method, 2), before)


def test_no_picture_goes_to_clip_but_the_oracles_of_tasks_to_come() -> None:
    method = small_study.learned("expert_gate")
    assert method.selector.route(torch.tensor([[3e30, 2e30], [1e-30, 0.0]])).tolist() == [1, 1]
    answers, features = predicted(method, 2), small_study.sequence()[1][2]
    assert (answers.routes["oracle"] == CLIP).all()
    assert torch.equal(answers.classes["oracle"], features.zero_shot)
    assert all((answers.routes[decision] >= 0).all() for decision in ("sample", "batch"))


def test_answers_are_those_of_the_routed_experts(monkeypatch: pytest.MonkeyPatch) -> None:
    method, route = small_study.learned("expert_gate"), torch.arange(12) % 2
    monkeypatch.setattr(method.selector, "decide", lambda _: Decision(route, 1 - route))
    answers = predicted(method, 0)
    plain, everyone = small_study.method("finetune"), []
    for number in (0, 1):
        plain.restore(expert(method, number))
        everyone.append(predicted(plain, 0).classes["sample"])
    both = torch.stack(everyone)  # (2, N)
    assert torch.equal(answers.classes["sample"], both.gather(0, route[None])[0])
    assert torch.equal(answers.classes["batch"], both.gather(0, 1 - route[None])[0])
    assert torch.equal(answers.classes["oracle"], both[0])


def test_all_experts_and_gates_are_counted() -> None:
    plain, method = small_study.learned("finetune").size(), small_study.learned("expert_gate")
    size, gate = method.size(), 32 * 4 + 4 + 4 * 32 + 32
    assert size["trainable_parameters"] == 2 * plain["trainable_parameters"]
    assert size["selector_parameters"] == 2 * gate
    # a gate has a threshold of four bytes; the gates' width and each expert's start are int64
    assert size["stored_bytes"] == 4 * (size["trainable_parameters"] + 2 * (gate + 1)) + 8 + 2 * 8
