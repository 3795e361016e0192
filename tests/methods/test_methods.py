"""The methods: what each trains and leaves, how it answers, its settings' errors, its state."""

from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from lib.clip import backbone as clip
from lib.clip.towers import image_tower, text_tower
from lib.methods import method_class
from lib.methods.base import Method, answers_by_route
from lib.methods.finetune import FineTune, FineTuneSingle, Joint
from lib.methods.moe_adapters import ANSWERED, Adapter, MoEAdapters
from lib.methods.names import METHODS
from lib.methods.state import beside
from lib.methods.zero_shot import ZeroShot
from lib.study.params import ParamsError
from tests.support import small_study

HALF = (0.5, 0.5, 0.5)
TRAINED = ["finetune", "finetune_single", "adapter", "moe_adapters", "joint"]
BOOKS = ("counts", "mass")  # what is written down while training


def answers(method: Method, number: int) -> dict[str, Tensor]:
    made, known = small_study.sequence()
    return method.predict(made[number], known[number], number).classes


def copied(method: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in method.model.state_dict().items()}


def moved(method: Any, before: dict[str, Tensor]) -> set[str]:
    """Names of the tensors that are not bit for bit what they were."""
    after = method.model.state_dict()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@pytest.mark.parametrize("name", METHODS)
def test_the_frozen_clip_stays_bit_for_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small_study.give_reference(monkeypatch)
    small_study.teach(small_study.method(name), 0, 1)
    assert clip.fingerprint(small_study.backbone().model) == small_study.backbone().fingerprint
    assert not small_study.backbone().model.training


def test_finetune_moves_all_but_temperature_and_token_table() -> None:
    method = small_study.method("finetune")
    before = copied(method)
    small_study.teach(method, 0)
    still = {"logit_scale", "token_embedding.weight"}
    statistics = {name for name in before if name.split(".")[-1] in ("running_mean", "running_var")}
    statistics |= {name for name in before if name.endswith("num_batches_tracked")}
    assert moved(method, before) == set(before) - still - statistics


def test_adapter_moves_the_experts_alone() -> None:
    method = small_study.method("adapter")
    before = copied(method)
    small_study.teach(method, 0, 1)
    experts = {name for name in before if ".experts." in name}
    assert experts
    assert moved(method, before) - {name for name in before if name.endswith(BOOKS)} == experts
    assert not [name for name in method.model.state_dict() if ".routers." in name]


def test_moe_moves_the_experts_and_its_own_routers() -> None:
    method = small_study.teach(small_study.method("moe_adapters", noise=False, freeze=0, top_k=4), 0)
    before = copied(method)
    small_study.teach(method, 1)
    experts = {name for name in before if ".experts." in name}
    books = {name for name in before if name.endswith(BOOKS)}
    assert moved(method, before) == experts | books
    routers = {n: t for n, t in method.model.state_dict().items() if ".routers.1." in n}
    assert len(routers) == 4
    assert all(tensor.any() for tensor in routers.values())


def test_frozen_experts_and_earlier_routers_stay_bit_for_bit() -> None:
    method = small_study.teach(small_study.method("moe_adapters", freeze=2), 0)
    frozen = {name: adapter.frozen.clone() for name, adapter in method.model.adapters().items()}
    before = copied(method)
    small_study.teach(method, 1)
    after, free_moved = method.model.state_dict(), False
    for name, mask in frozen.items():
        assert mask.sum() == 2
        for part in ("down", "down_bias", "up", "up_bias"):
            old, new = before[f"{name}.experts.{part}"], after[f"{name}.experts.{part}"]
            assert torch.equal(old[mask], new[mask])
            free_moved |= not torch.equal(old[~mask], new[~mask])
        for book in BOOKS:
            assert torch.equal(before[f"{name}.{book}"], after[f"{name}.{book}"][:1])
    assert free_moved
    assert not [name for name in moved(method, before) if ".routers.0." in name]


def test_counts_are_of_every_training_forward() -> None:
    method = small_study.learned("moe_adapters", 1)
    for name, adapter in method.model.adapters().items():
        samples = 8 if name.startswith("image") else 3  # a batch, or the prompts of three classes
        assert adapter.counts.sum() == 4 * samples * method.settings.top_k


def test_balance_changes_the_routers_gradients() -> None:
    grads, losses = [], []
    lesson, task = small_study.lessons()[1], small_study.task(0)
    start = small_study.teach(small_study.method("moe_adapters", noise=False), 0).state()
    for balance in (0.0, 0.5):
        method = small_study.method("moe_adapters", balance=balance, noise=False)
        method.restore(start)
        method.begin_task(lesson)
        for adapter in method.model.adapters().values():
            torch.nn.init.eye_(adapter.routers[1].weight)
        torch.manual_seed(0)
        loss = method.loss(clip.preprocess(task.train.images[:8], HALF, HALF), task.train.labels[:8])
        loss.backward()
        losses.append(loss.item())
        grads.append(method.model.image_adapters["0"].routers[1].weight.grad)
    assert losses[1] > losses[0]
    assert not torch.allclose(grads[0], grads[1])


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        *((n, ("sample",)) for n in TRAINED if n != "moe_adapters"),
        ("moe_adapters", ("sample", "batch", "oracle")),
    ],
)
def test_ways_of_deciding(name: str, ways: tuple[str, ...]) -> None:
    made, known = small_study.sequence()
    found = small_study.learned(name).predict(made[0], known[0], 0)
    assert tuple(found.classes) == small_study.learned(name).decisions == ways
    assert tuple(found.routes) == (ways if len(ways) > 1 else ())
    assert all(classes.shape == (12,) and classes.min() >= 0 for classes in found.classes.values())


def test_zero_shot_answers_as_clip_and_never_changes() -> None:
    method = small_study.teach(small_study.method("zero_shot"), 0)
    assert torch.equal(answers(method, 2)["sample"], small_study.sequence()[1][2].zero_shot)
    assert method.settled(0, 0)
    assert method.size() == {"trainable_parameters": 0, "stored_bytes": 0}


def test_predicting_before_learning_is_refused() -> None:
    made, known = small_study.sequence()
    with pytest.raises(ValueError, match="learned no task yet; learn one before predicting"):
        small_study.method("moe_adapters").predict(made[0], known[0], 0)


def test_finetune_single_starts_every_task_from_clip() -> None:
    after_two = small_study.teach(small_study.method("finetune_single"), 0, 1)
    alone = small_study.teach(small_study.method("finetune_single"), 1)
    assert save(after_two.model.state_dict()) == save(alone.model.state_dict())
    going_on = small_study.learned("finetune")
    assert save(going_on.model.state_dict()) != save(alone.model.state_dict())
    assert [alone.settled(task, 1) for task in range(3)] == [True, False, True]
    assert [going_on.settled(task, 1) for task in range(3)] == [False] * 3


def test_finetune_answers_by_its_own_towers() -> None:
    method, backbone = small_study.learned("finetune"), small_study.backbone()
    task = small_study.sequence()[0][0]
    images = clip.preprocess(task.test.images, backbone.mean, backbone.std)
    with torch.no_grad():
        names = clip.zero_shot_classifier(
            lambda t: text_tower(method.model, t), backbone.tokenizer, task.classes, task.templates
        )
        expected = (image_tower(method.model, images) @ names.T).argmax(dim=1)
    assert torch.equal(answers(method, 0)["sample"], expected)


@pytest.mark.parametrize("name", TRAINED)
def test_a_restored_method_answers_goes_on_and_weighs_the_same(name: str) -> None:
    method, again = small_study.learned(name), small_study.method(name)
    again.restore(method.state())
    assert save(again.state()) == save(method.state())
    assert again.size() == method.size()
    assert again.report() == method.report()
    for number in range(3):
        for one, two in zip(answers(method, number).values(), answers(again, number).values(), strict=True):
            assert torch.equal(one, two)
    onward = small_study.teach(small_study.method(name), 0, 1, 2)
    found, wanted = (beside(ANSWERED, m.state()) for m in (small_study.teach(again, 2), onward))
    assert save(found) == save(wanted)  # what was asked in between may be kept, and changes nothing


def test_sizes_are_counted() -> None:
    whole = sum(p.numel() for p in small_study.backbone().model.parameters())
    table = small_study.backbone().model.state_dict()["token_embedding.weight"].numel()
    assert small_study.learned("finetune").size()["trainable_parameters"] == whole - table - 1
    one, two = (
        small_study.learned("finetune_single", 1).size(),
        small_study.learned("finetune_single", 2).size(),
    )
    assert two == {key: 2 * value for key, value in one.items()}
    # 4 blocks; 4 experts of 32 -> 4 -> 32 with biases; two tasks' routers with noise, 2 x 32 x 4 each
    expert = 32 * 4 + 4 + 4 * 32 + 32
    assert small_study.learned("adapter").size()["trainable_parameters"] == 4 * expert
    size = small_study.learned("moe_adapters").size()
    assert size["trainable_parameters"] == 4 * (4 * expert + 2 * 2 * 32 * 4)
    assert size["selector_parameters"] == 2 * (32 * 4 + 4 + 4 * 32 + 32)


def test_every_method_is_known_by_name() -> None:
    known = {"zero_shot": ZeroShot, "finetune": FineTune, "finetune_single": FineTuneSingle, "joint": Joint}
    known |= {"adapter": Adapter, "moe_adapters": MoEAdapters}
    assert {name: method_class(name) for name in known} == known
    assert all(issubclass(method_class(name), Method) for name in METHODS)
    with pytest.raises(ParamsError, match="no method 'moe'; there are: zero_shot, .*, moe_adapters"):
        method_class("moe")


def test_a_picture_is_asked_about_once_for_each_router_that_a_way_sends_it_to() -> None:
    asked: list[tuple[int, list[int]]] = []

    def ask(number: int, places: torch.Tensor) -> torch.Tensor:
        asked.append((number, places.tolist()))
        return 10 * number + places

    zero_shot, sample, batch = (torch.tensor(r) for r in ([7, 7, 7], [0, 1, -1], [0, 0, -1]))
    answers = answers_by_route(zero_shot, [sample, batch], ask)
    assert [a.tolist() for a in answers] == [[0, 11, 7], [0, 1, 7]]
    assert sorted(asked) == [(0, [0, 1]), (1, [1])]
