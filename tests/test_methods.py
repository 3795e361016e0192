"""The methods: what each trains and leaves, how it answers, its settings' errors, its state."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import studies
import torch
from safetensors.torch import save
from torch import Tensor

from lib import clip, params
from lib.methods import METHODS, Method
from lib.methods.finetune import FineTune, FineTuneSingle
from lib.methods.moe_adapters import Adapter, MoEAdapters
from lib.selector import CLIP
from lib.towers import image_tower, text_tower
from lib.train import learn_task

TRAINED = ["finetune", "finetune_single", "adapter", "moe_adapters"]
Names = Callable[[str], bool]


def make(name: str, changes: dict[str, Any] | None = None, **settings: Any) -> Any:
    study = studies.study(changes)
    torch.manual_seed(0)
    return METHODS[name](studies.backbone(), study.methods[name] | settings, study)


def learn(method: Method, *numbers: int) -> Any:
    made, known = studies.sequence()
    for number in numbers:
        learn_task(method, made[number], number, known[number], method.study.train, 0)
    return method


@functools.cache
def learned(name: str, tasks: int = 2) -> Any:
    """A method after some tasks, shared by the tests that only ask."""
    return learn(make(name), *range(tasks))


def answers(method: Method, number: int) -> dict[str, Tensor]:
    made, known = studies.sequence()
    return method.predict(made[number], known[number], number).classes


def copied(method: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in method.model.state_dict().items()}


def moved(method: Any, before: dict[str, Tensor]) -> set[str]:
    """Names of the tensors that are not bit for bit what they were."""
    after = method.model.state_dict()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@pytest.mark.parametrize("name", METHODS)
def test_the_frozen_clip_stays_bit_for_bit(name: str) -> None:
    learn(make(name), 0, 1)
    assert clip.fingerprint(studies.backbone().model) == studies.backbone().fingerprint
    assert not studies.backbone().model.training


def test_finetune_moves_all_but_temperature_and_token_table() -> None:
    method = make("finetune")
    before = copied(method)
    learn(method, 0)
    still = {"logit_scale", "token_embedding.weight"}
    statistics = {name for name in before if name.split(".")[-1] in ("running_mean", "running_var")}
    statistics |= {name for name in before if name.endswith("num_batches_tracked")}
    assert moved(method, before) == set(before) - still - statistics


def test_adapter_moves_the_experts_alone() -> None:
    method = make("adapter")
    before = copied(method)
    learn(method, 0, 1)
    experts = {name for name in before if ".experts." in name}
    assert experts
    assert moved(method, before) - {name for name in before if name.endswith("counts")} == experts
    assert not [name for name in method.model.state_dict() if ".routers." in name]


def test_moe_moves_the_experts_and_its_own_routers() -> None:
    method = learn(make("moe_adapters", noise=False, freeze=0, top_k=4), 0)
    before = copied(method)
    learn(method, 1)
    experts = {name for name in before if ".experts." in name}
    counts = {name for name in before if name.endswith("counts")}
    assert moved(method, before) == experts | counts
    routers = {n: t for n, t in method.model.state_dict().items() if ".routers.1." in n}
    assert len(routers) == 4
    assert all(tensor.any() for tensor in routers.values())


def test_frozen_experts_and_earlier_routers_stay_bit_for_bit() -> None:
    method = learn(make("moe_adapters", freeze=2), 0)
    frozen = {name: adapter.frozen.clone() for name, adapter in method.model.adapters().items()}
    before = copied(method)
    learn(method, 1)
    after, free_moved = method.model.state_dict(), False
    for name, mask in frozen.items():
        assert mask.sum() == 2
        for part in ("down", "down_bias", "up", "up_bias"):
            old, new = before[f"{name}.experts.{part}"], after[f"{name}.experts.{part}"]
            assert torch.equal(old[mask], new[mask])
            free_moved |= not torch.equal(old[~mask], new[~mask])
        assert torch.equal(before[f"{name}.counts"], after[f"{name}.counts"][:1])
    assert free_moved
    assert not [name for name in moved(method, before) if ".routers.0." in name]


def test_counts_are_of_every_training_forward() -> None:
    method = learned("moe_adapters", 1)
    for name, adapter in method.model.adapters().items():
        samples = 8 if name.startswith("image") else 3  # a batch, or the prompts of three classes
        assert adapter.counts.sum() == 4 * samples * method.settings.top_k


def test_balance_changes_the_routers_gradients() -> None:
    grads, losses = [], []
    task, start = studies.task(0), learn(make("moe_adapters", noise=False), 0).state()
    for balance in (0.0, 0.5):
        method = make("moe_adapters", balance=balance, noise=False)
        method.restore(start)
        method.begin_task(task, 1)
        for adapter in method.model.adapters().values():
            torch.nn.init.eye_(adapter.routers[1].weight)
        torch.manual_seed(0)
        loss = method.loss(clip.preprocess(task.train.images[:8], (0.5,) * 3, (0.5,) * 3), task.train.labels[:8])
        loss.backward()
        losses.append(loss.item())
        grads.append(method.model.image_adapters["0"].routers[1].weight.grad)
    assert losses[1] > losses[0]
    assert not torch.allclose(grads[0], grads[1])


@pytest.mark.parametrize(("name", "ways"), [(n, ("sample",)) for n in TRAINED[:3]] + [("moe_adapters", ("sample", "batch", "oracle"))])
def test_ways_of_deciding(name: str, ways: tuple[str, ...]) -> None:
    made, known = studies.sequence()
    found = learned(name).predict(made[0], known[0], 0)
    assert tuple(found.classes) == learned(name).decisions == ways
    assert tuple(found.routes) == (ways if len(ways) > 1 else ())
    assert all(classes.shape == (12,) and classes.min() >= 0 for classes in found.classes.values())


def test_zero_shot_answers_as_clip_and_never_changes() -> None:
    method = learn(make("zero_shot"), 0)
    assert torch.equal(answers(method, 2)["sample"], studies.sequence()[1][2].zero_shot)
    assert method.settled(0, 0)
    assert method.size() == {"trainable_parameters": 0, "stored_bytes": 0}


def test_the_oracle_gives_learned_tasks_their_router_and_others_clip() -> None:
    made, known = studies.sequence()
    method = learned("moe_adapters")
    last = method.predict(made[2], known[2], 2)
    assert last.routes["oracle"].tolist() == [CLIP] * 12
    assert torch.equal(last.classes["oracle"], known[2].zero_shot)
    first = method.predict(made[0], known[0], 0)
    assert first.routes["oracle"].tolist() == [0] * 12
    expected = method.answer(made[0], known[0], [torch.zeros(12, dtype=torch.long)])[0]
    assert torch.equal(first.classes["oracle"], expected)


def test_a_mixed_route_gives_each_picture_its_routers_answer() -> None:
    made, known = studies.sequence()
    method = learned("moe_adapters")
    pure = [method.answer(made[1], known[1], [torch.full((12,), route)])[0] for route in (CLIP, 0, 1)]
    routes = torch.tensor([CLIP, 0, 1] * 4)
    mixed = method.answer(made[1], known[1], [routes])[0]
    assert mixed.tolist() == [pure[route + 1][i].item() for i, route in enumerate(routes.tolist())]
    assert torch.equal(pure[0], known[1].zero_shot)
    assert len({tuple(each.tolist()) for each in pure}) == 3  # else the mixture would show nothing


def test_a_router_answers_as_its_towers_do() -> None:
    made, known = studies.sequence()
    method, backbone = learned("moe_adapters"), studies.backbone()
    with torch.no_grad():
        names = sum(
            torch.nn.functional.normalize(
                method.model.encode_text(backbone.tokenizer(made[1].prompts(template)), 1).features, dim=-1
            )
            for template in made[1].templates
        )
        images = method.model.encode_image(clip.preprocess(made[1].test.images, backbone.mean, backbone.std), 1)
        expected = (images.features @ torch.nn.functional.normalize(names, dim=-1).T).argmax(dim=1)
    assert torch.equal(answers(method, 1)["oracle"], expected)


def test_predicting_before_learning_is_refused() -> None:
    made, known = studies.sequence()
    with pytest.raises(ValueError, match="learned no task yet; learn one before predicting"):
        make("moe_adapters").predict(made[0], known[0], 0)


def test_finetune_single_starts_every_task_from_clip() -> None:
    after_two, alone = learn(make("finetune_single"), 0, 1), learn(make("finetune_single"), 1)
    assert save(after_two.model.state_dict()) == save(alone.model.state_dict())
    going_on = learned("finetune")
    assert save(going_on.model.state_dict()) != save(alone.model.state_dict())
    assert [alone.settled(task, 1) for task in range(3)] == [True, False, True]
    assert [going_on.settled(task, 1) for task in range(3)] == [False] * 3


def test_finetune_answers_by_its_own_towers() -> None:
    method, backbone = learned("finetune"), studies.backbone()
    task = studies.sequence()[0][0]
    images = clip.preprocess(task.test.images, backbone.mean, backbone.std)
    with torch.no_grad():
        names = clip.zero_shot_classifier(
            lambda t: text_tower(method.model, t), backbone.tokenizer, task.classes, task.templates
        )
        expected = (image_tower(method.model, images) @ names.T).argmax(dim=1)
    assert torch.equal(answers(method, 0)["sample"], expected)


@pytest.mark.parametrize("name", TRAINED)
def test_a_restored_method_answers_goes_on_and_weighs_the_same(name: str) -> None:
    method, again = learned(name), make(name)
    again.restore(method.state())
    assert save(again.state()) == save(method.state())
    assert again.size() == method.size()
    assert again.report() == method.report()
    for number in range(3):
        for one, two in zip(answers(method, number).values(), answers(again, number).values(), strict=True):
            assert torch.equal(one, two)
    onward = learn(make(name), 0, 1, 2)
    assert save(learn(again, 2).state()) == save(onward.state())


def test_sizes_are_counted() -> None:
    whole = sum(p.numel() for p in studies.backbone().model.parameters())
    table = studies.backbone().model.token_embedding.weight.numel()
    assert learned("finetune").size()["trainable_parameters"] == whole - table - 1
    one, two = learned("finetune_single", 1).size(), learned("finetune_single", 2).size()
    assert two == {key: 2 * value for key, value in one.items()}
    # 4 blocks; 4 experts of 32 -> 4 -> 32 with biases; two tasks' routers with noise, 2 x 32 x 4 each
    expert = 32 * 4 + 4 + 4 * 32 + 32
    assert learned("adapter").size()["trainable_parameters"] == 4 * expert
    size = learned("moe_adapters").size()
    assert size["trainable_parameters"] == 4 * (4 * expert + 2 * 2 * 32 * 4)
    assert size["selector_parameters"] == 2 * (32 * 4 + 4 + 4 * 32 + 32)


def test_the_report_says_which_experts_were_used_and_frozen() -> None:
    method = learned("moe_adapters")
    block = method.report()["experts"]["image"]["1"]
    counts = method.model.image_adapters["1"].counts
    assert block["counts"] == counts.tolist()
    assert block["froze"] == [[int(row.argmax())] for row in counts]
    assert set(method.report()["experts"]["text"]) == {"0", "1"}


def test_learning_rates_by_task() -> None:
    made, _ = studies.sequence()
    method = make("finetune", lr={"red": 0.1, "green": 1})
    assert (method.learning_rate(made[0]), method.learning_rate(made[1])) == (0.1, 1.0)
    with pytest.raises(params.ParamsError, match="lr has no entry for task blue; it has: red, green"):
        method.learning_rate(made[2])


WRONG = [
    ("moe_adapters", {"top_k": 5}, "top_k is 5; choose 1 to 4, the number of experts"),
    ("moe_adapters", {"freeze": 9}, "freeze_count is 9; choose 0 to 4"),
    ("moe_adapters", {"expertz": 4}, "settings of MoEAdapters: unknown key expertz; allowed: lr, bottleneck"),
    ("moe_adapters", {"image_blocks": "some"}, "image_blocks is 'some'; expected all or first or last or none or"),
    ("moe_adapters", {"image_blocks": [7]}, "image_blocks has 7; the tower's blocks are 0 to 1"),
    ("moe_adapters", {"text_router_token": "mid"}, "text_router_token is 'mid'; allowed: start, end"),
    ("adapter", {"dropout": 1.5}, "dropout is 1.5; it is a share"),
    ("adapter", {"top_k": 1}, "settings of Adapter: unknown key top_k"),
    ("finetune", {"lr": "fast"}, "lr is 'fast'; expected float or"),
    ("zero_shot", {"lr": 1.0}, "settings of ZeroShot: unknown key lr"),
]


@pytest.mark.parametrize(("name", "settings", "message"), WRONG)
def test_wrong_settings_are_said_before_training(name: str, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **settings)


def test_the_reference_decides_against_every_task(monkeypatch: pytest.MonkeyPatch) -> None:
    made, known = studies.sequence()
    changes = {"selector.reference": "some", "selector.steps": 200}
    monkeypatch.setattr("lib.methods.moe_adapters.load_reference", lambda study: known[2].train)
    method = learn(make("moe_adapters", changes), 0)
    routed = method.predict(made[2], known[2], 2).routes["sample"]
    assert routed.tolist() == [CLIP] * 12
    again = make("moe_adapters", changes)
    again.restore(method.state())
    assert again.selector.reference is not None
    assert torch.equal(again.predict(made[0], known[0], 0).routes["sample"], method.predict(made[0], known[0], 0).routes["sample"])


def test_every_method_is_known_by_name() -> None:
    assert METHODS["adapter"] is Adapter
    assert METHODS["moe_adapters"] is MoEAdapters
    assert (METHODS["finetune"], METHODS["finetune_single"]) == (FineTune, FineTuneSingle)
