"""Training on one task: schedule, batches, hooks, determinism, losses that are not finite."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib.data.tasks import Task
from lib.methods.base import Lesson, Method
from lib.study import train
from lib.study.log import Progress
from lib.study.train import TrainingError, batches, learn_task, warmup_cosine
from tests.support import small_study

SETTINGS = small_study.study().train


class Slope(Method):
    """Learns one number: the loss is its square plus what the pictures' mean adds."""

    def __init__(self, spoil: int | None = None) -> None:
        super().__init__(small_study.context(), {})
        self.weight = nn.Parameter(torch.tensor([1.0]))
        self.spoil, self.calls = spoil, 0
        self.log: list[str] = []
        self.before: list[tuple[float, float]] = []  # weight and gradient before every step
        self.after: list[float] = []  # the weight after it

    def learning_rate(self, task: Task) -> float:
        return 0.1

    def begin_task(self, lesson: Lesson) -> list[nn.Parameter]:
        self.log.append(f"begin {lesson.number}")
        return [self.weight]

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        self.calls += 1
        bad = float("nan") if self.calls - 1 == self.spoil else 0.0
        return (self.weight.square() + images.mean() + bad).sum()

    def before_step(self) -> None:
        assert self.weight.grad is not None
        self.before.append((self.weight.item(), self.weight.grad.item()))
        self.log.append("before")

    def after_step(self) -> None:
        self.after.append(self.weight.item())
        self.log.append("after")

    def end_task(self, lesson: Lesson) -> None:
        self.log.append(f"end {lesson.seed}")


def run(method: Method, seed: int = 0, number: int = 0, **changes: Any) -> list[float]:
    lesson = replace(small_study.lessons()[number], seed=[seed, number])
    return learn_task(method, lesson, replace(SETTINGS, **changes))


def test_schedule_by_hand() -> None:
    # 10 steps, 2 of them warm-up: a half, the whole, then 0.5 * (1 + cos(pi * (step - 2) / 8))
    shares = [warmup_cosine(step, 10, 2) for step in range(11)]
    middle = [1.0, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060, 0.0]
    assert shares == pytest.approx([0.5, 1.0, *middle], abs=1e-6)
    assert warmup_cosine(0, 4, 0) == 1


def test_batches_are_shuffled_epochs_without_the_odd_rest() -> None:
    drawn = batches(10, 4, 6, np.random.default_rng(0))
    assert [len(batch) for batch in drawn] == [4] * 6
    epochs = [np.concatenate(drawn[i : i + 2]).tolist() for i in (0, 2, 4)]
    assert all(len(set(epoch)) == 8 and set(epoch) <= set(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_task_is_begun_stepped_and_ended_in_order() -> None:
    method = Slope()
    losses = run(method, seed=5, number=1)
    assert method.log == ["begin 1", *["before", "after"] * 4, "end [5, 1]"]
    assert len(losses) == 4
    assert method.weight.item() < 1


def test_a_step_lies_between_the_two_hooks_and_the_first_sees_the_gradient() -> None:
    method = Slope()
    run(method, steps=3, warmup=0)
    assert method.before[0] == (1, 2)  # the square's gradient at 1
    assert [place for place, _ in method.before[1:]] == method.after[:-1]
    assert len({1.0, *method.after}) == 4


def test_several_tasks_together_take_the_steps_of_all_on_one_schedule() -> None:
    method = Slope()
    lesson = replace(small_study.lessons()[0], parts=3)
    assert len(learn_task(method, lesson, replace(SETTINGS, steps=4, warmup=0))) == 12
    moves = np.abs(np.diff([1, *method.after]))
    assert moves[0] == pytest.approx(0.1, rel=1e-3)
    assert moves[-1] < 0.1 * moves[0]  # one cosine over all twelve
    assert moves[4] > 0.5 * moves[0]


def test_same_seed_same_losses_and_every_task_has_its_own_randomness() -> None:
    first, again, other = (run(Slope(), seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    as_second = learn_task(Slope(), replace(small_study.lessons()[0], seed=[0, 1]), SETTINGS)
    assert as_second != first


def test_a_method_with_nothing_to_train_takes_no_step() -> None:
    method = Slope()
    method.begin_task = lambda lesson: []
    assert run(method) == []
    assert method.log == ["end [0, 0]"]
    assert method.weight.item() == 1


def test_a_loss_that_is_not_a_number_stops_and_names_task_and_step() -> None:
    method = Slope(spoil=2)
    with pytest.raises(TrainingError, match="step 2 of task green"):
        run(method, number=1)
    assert not [entry for entry in method.log if entry.startswith("end")]


def test_a_bad_loss_does_not_wait_for_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "Progress", partial(Progress, every=0.0))  # every step is worth a line
    method = Slope(spoil=1)
    with pytest.raises(TrainingError, match="at step 1 of task red"):
        run(method, steps=50)
    assert method.calls == 2
    assert "red: 1/50 steps, loss" in capsys.readouterr().out


def test_epochs_are_passes_over_the_pictures_instead_of_steps() -> None:
    method, lesson = small_study.method("finetune"), small_study.lessons()[0]  # 18 pictures
    losses = learn_task(method, lesson, replace(SETTINGS, batch=8, epochs=3, steps=99))
    assert len(losses) == 6
    few = learn_task(method, lesson, replace(SETTINGS, batch=32, epochs=1, steps=99))
    assert len(few) == 1


@pytest.mark.parametrize("name", ["finetune", "moe_adapters", "lora", "zscl"])
def test_after_a_task_no_parameter_keeps_a_gradient(name: str) -> None:
    method = small_study.teach(small_study.method(name), 0, 1)
    assert [*method.model.parameters()]
    assert all(parameter.grad is None for parameter in method.model.parameters())
