"""The mixture, the single adapter and one for each task: what moves, the switches, what is reported and counted."""

from typing import Any

import pytest
import torch

from tests.support import small_study
from tests.support.small_lessons import copied, moved, predicted

BOOKS = ("counts", "mass")  # what is written down while training


def test_a_single_adapter_moves_its_experts_alone() -> None:
    method = small_study.method("adapter")
    before = copied(method)
    small_study.teach(method, 0, 1)
    experts = {name for name in before if ".experts." in name}
    assert experts == {name for name in moved(method, before) if not name.endswith(BOOKS)}
    assert not [name for name in method.model.state_dict() if ".routers." in name]


def test_an_adapter_for_each_task_moves_alone_and_never_again(monkeypatch: pytest.MonkeyPatch) -> None:
    method, before = small_study.method("adapter_per_task", bottleneck=16), {}  # of four units all may be dead
    begin = method.begin_task
    monkeypatch.setattr(method, "begin_task", lambda lesson: (begin(lesson), before.update(copied(method)))[0])
    small_study.teach(method, 0)
    experts = {name for name in before if ".experts." in name}
    assert experts == {name for name in moved(method, before) if not name.endswith(BOOKS)}
    first, kept = predicted(method, 0).classes["oracle"], dict(method.adapters)
    small_study.teach(method, 1, 2)
    assert {name for name in method.adapters if name in kept} == set(kept)
    assert all(torch.equal(method.adapters[name], tensor) for name, tensor in kept.items())
    assert torch.equal(predicted(method, 0).classes["oracle"], first)
    parts = {name.partition(".")[2] for name in kept if name.endswith((".up", ".down"))}
    assert not any(torch.equal(method.adapters[f"0.{part}"], method.adapters[f"1.{part}"]) for part in parts)


def test_the_mixture_moves_the_experts_and_its_own_routers() -> None:
    method = small_study.teach(small_study.method("moe_adapters", noise=False, freeze=0, top_k=4), 0)
    before = copied(method)
    small_study.teach(method, 1)
    assert moved(method, before) == {n for n in before if ".experts." in n or n.endswith(BOOKS)}
    routers = [tensor for name, tensor in method.model.state_dict().items() if ".routers.1." in name]
    assert len(routers) == 4
    assert all(tensor.any() for tensor in routers)


def test_frozen_experts_and_earlier_routers_stay_bit_for_bit() -> None:
    method = small_study.teach(small_study.method("moe_adapters", freeze=2), 0)
    frozen = {name: mixture.frozen.clone() for name, mixture in method.model.adapters().items()}
    before = copied(method)
    small_study.teach(method, 1)
    after, free_moved = method.model.state_dict(), False
    for name, mask in frozen.items():
        assert mask.sum() == 2
        for part in ("down", "down_bias", "up", "up_bias"):
            old, new = before[f"{name}.experts.{part}"], after[f"{name}.experts.{part}"]
            assert torch.equal(old[mask], new[mask])
            free_moved |= not torch.equal(old[~mask], new[~mask])
        assert all(torch.equal(before[f"{name}.{book}"], after[f"{name}.{book}"][:1]) for book in BOOKS)
    assert free_moved
    assert not [name for name in moved(method, before) if ".routers.0." in name]


def test_counts_are_of_every_training_forward_and_are_reported() -> None:
    method = small_study.learned("moe_adapters", 1)
    report = method.report()["experts"]
    for name, mixture in method.model.adapters().items():
        samples = 8 if name.startswith("image") else 3  # a batch, or the prompts of three classes
        assert mixture.counts.sum() == 4 * samples * method.settings.top_k
        tower, block = name.split("_adapters.")
        assert report[tower][block]["counts"] == mixture.counts.tolist()
        assert report[tower][block]["froze"] == [[int(row.argmax())] for row in mixture.counts]


def test_balance_changes_the_routers_gradients() -> None:
    grads, losses = [], []
    start = small_study.teach(small_study.method("moe_adapters", noise=False), 0).state()
    for balance in (0.0, 0.5):
        method = small_study.method("moe_adapters", balance=balance, noise=False)
        method.restore(start)
        method.begin_task(small_study.lessons()[1])
        for mixture in method.model.adapters().values():
            torch.nn.init.eye_(mixture.routers[1].weight)
        torch.manual_seed(0)
        loss = method.loss(*small_study.shown(0))
        loss.backward()
        losses.append(loss.item())
        grads.append(method.model.image_adapters["0"].routers[1].weight.grad)
    assert losses[1] > losses[0]
    assert not torch.allclose(grads[0], grads[1])


def test_a_shared_router_goes_on_learning_and_answers_for_every_task() -> None:
    method = small_study.teach(small_study.method("moe_adapters", router="shared", noise=False), 0)
    before = copied(method)
    small_study.teach(method, 1)
    routers = {name for name in method.model.state_dict() if ".routers." in name}
    assert len(routers) == 4
    assert routers <= moved(method, before)
    made, features = small_study.sequence()
    one, two = method.answer(made[0], features[0], [torch.full((12,), route) for route in (0, 1)])
    assert torch.equal(one, two)


def test_without_a_selector_the_last_router_answers_every_picture() -> None:
    pupil = small_study.teach(small_study.method("moe_adapters", selector="none"), 0, 1)
    assert pupil.decisions == ("sample",)
    assert not [name for name in pupil.state() if name.startswith("selector.")]
    task, features = (each[0] for each in small_study.sequence())
    expected = pupil.answer(task, features, [torch.ones(12, dtype=torch.long)])[0]
    assert torch.equal(pupil.predict(task, features, 0).classes["sample"], expected)


def test_noise_at_test_time_is_a_switch_and_dropout_stays_off() -> None:
    noises: dict[Any, bool] = {True: True, "always": False}
    for noise, same in noises.items():
        pupil = small_study.teach(small_study.method("moe_adapters", noise=noise), 0)
        torch.manual_seed(0)
        gates = [pupil.model.encode_image(small_study.shown(0)[0], 0).routings[0].gates for _ in range(2)]
        assert torch.equal(*gates) is same
        assert not pupil.model.image_adapters["0"].experts.training


def test_sizes_are_counted() -> None:
    expert = 32 * 4 + 4 + 4 * 32 + 32  # 32 -> 4 -> 32 with biases
    assert small_study.learned("adapter").size()["trainable_parameters"] == 4 * expert  # 4 blocks
    assert small_study.learned("adapter_per_task").size()["trainable_parameters"] == 2 * 4 * expert
    size = small_study.learned("moe_adapters").size()
    assert size["trainable_parameters"] == 4 * (4 * expert + 2 * 2 * 32 * 4)  # 4 experts, 2 routers with noise
    assert size["selector_parameters"] == 2 * (32 * 4 + 4 + 4 * 32 + 32)
