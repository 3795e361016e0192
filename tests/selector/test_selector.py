"""DDAS: errors, thresholds, who competes, decisions alone and by batch, state, and what a route means."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from lib.clip import backbone as clip
from lib.selector import CLIP, DDAS, Autoencoder
from lib.selector import SelectorSettings as Settings
from tests.support import small_study
from tests.support.mixtures import stir

WIDTH = 12
ONE_CLASS = torch.zeros(30, dtype=torch.long)  # DDAS does not ask which


def settings(**changes: object) -> Settings:
    return replace(small_study.study().selector, steps=60, **changes)


def cloud(number: int, count: int = 30) -> Tensor:
    """Features (count, WIDTH) of a task: near a corner of its own."""
    generator = torch.Generator().manual_seed(number)
    centre = 3 * torch.randn(WIDTH, generator=generator)
    return centre + 0.1 * torch.randn(count, WIDTH, generator=generator)


def learned(tasks: int = 3, **changes: object) -> DDAS:
    selector = DDAS(WIDTH, settings(**changes))
    for number in range(tasks):
        selector.learn(cloud(number), ONE_CLASS, [0, number])
    return selector


def test_size_of_the_papers_autoencoder() -> None:
    with torch.device("meta"):
        coder = Autoencoder(43264, 100)
    assert sum(p.numel() for p in coder.parameters()) == 8_696_164


def test_error_by_hand() -> None:
    coder = Autoencoder(2, 1)
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.zero_()
    # the rebuilt numbers are sigmoid(0) = 0.5; the targets sigmoid(0) = 0.5 and sigmoid(ln 3) = 0.75
    features = torch.tensor([[0.0, math.log(3)]])
    assert coder(features).item() == pytest.approx((0 + 0.25**2) / 2)


@pytest.mark.parametrize("chunk", [256, 7])
def test_errors_equal_the_autoencoders_one_by_one(chunk: int) -> None:
    selector, features = learned(), torch.cat([cloud(number) for number in range(3)])
    single = torch.stack([coder(features) for coder in selector.tasks], dim=1)
    torch.testing.assert_close(selector.errors(features, chunk), single)


def test_a_picture_is_decided_alone() -> None:
    selector, features = learned(), torch.cat([cloud(number, 9) for number in (2, 5, 0, 1)])
    together = selector.decide(features).sample
    alone = torch.cat([selector.decide(one).sample for one in features.split(1)])
    turned = selector.decide(features.flip(0)).sample.flip(0)
    assert together.tolist() == alone.tolist() == turned.tolist()
    assert set(together.tolist()) > {0, 1, 2}


def test_a_batch_goes_where_its_mean_error_is_least() -> None:
    selector = learned(rule="absolute", threshold=1e9, batch_decision=4)
    features = torch.cat([cloud(0, 3), cloud(1, 4), cloud(2, 3)])
    errors = selector.errors(features)
    means = [part.mean(dim=0).argmin().item() for part in (errors[:4], errors[4:8], errors[8:])]
    assert selector.decide(features).batch.tolist() == [means[0]] * 4 + [means[1]] * 4 + [means[2]] * 2
    assert means == [0, 1, 2]  # although a picture of task 1 is in the first batch: the majority decides


def test_quantile_threshold_is_read_off_pictures_kept_out_of_training() -> None:
    features = cloud(0)
    selector = DDAS(WIDTH, settings(rule="quantile", threshold=0.5))
    selector.learn(features, ONE_CLASS, [3, 1])
    held = features[np.random.default_rng([3, 1]).permutation(30)[:6]]
    errors = selector.tasks[0](held).sort().values
    assert selector.thresholds[0].item() == pytest.approx((errors[2] + errors[3]).item() / 2)


def test_held_out_pictures_do_not_train() -> None:
    features = cloud(0)
    held = np.random.default_rng([3, 1]).permutation(30)[:6]
    first, second = (DDAS(WIDTH, settings()) for _ in range(2))
    first.learn(features, ONE_CLASS, [3, 1])
    features[held] += 1
    second.learn(features, ONE_CLASS, [3, 1])
    assert save(first.tasks[0].state_dict()) == save(second.tasks[0].state_dict())
    assert first.thresholds != second.thresholds


def test_absolute_threshold_is_the_number_given() -> None:
    assert learned(2, rule="absolute", threshold=0.0655).thresholds.tolist() == pytest.approx([0.0655] * 2)


def test_two_pictures_are_enough() -> None:
    selector = DDAS(WIDTH, settings())
    selector.learn(cloud(0, 2), ONE_CLASS[:2], [0, 0])
    assert selector.thresholds.isfinite().all()


def test_smallest_error_wins_unless_above_its_own_threshold() -> None:
    selector = learned(2)
    selector.thresholds = torch.tensor([0.1, 0.5])
    errors = torch.tensor([[0.05, 0.4], [0.3, 0.2], [0.2, 0.4], [0.9, 0.6]])
    # 0: below 0.1; 1: below 0.5; 2: task 0 is nearest but above 0.1, and 1 does not inherit it; 3: above both
    assert selector.route(errors).tolist() == [0, 1, CLIP, CLIP]


def test_what_the_reference_rebuilds_better_goes_to_clip() -> None:
    selector = learned(2, rule="absolute", threshold=1e9)
    errors, reference = torch.tensor([[0.1, 0.2], [0.3, 0.2]]), torch.tensor([0.15, 0.1])
    assert selector.route(errors, reference).tolist() == [0, CLIP]
    strange = cloud(7)
    assert CLIP not in selector.decide(strange).sample.tolist()
    selector.learn_reference(strange, [0])
    decided = selector.decide(strange)
    assert set(decided.sample.tolist()) == set(decided.batch.tolist()) == {CLIP}
    assert set(selector.decide(cloud(1)).sample.tolist()) == {1}


def test_tasks_not_yet_learned_never_compete() -> None:
    selector = DDAS(WIDTH, settings(rule="absolute", threshold=1e9))
    features = torch.cat([cloud(number, 5) for number in range(3)])
    for learned_so_far in range(3):
        routes = {CLIP} if learned_so_far == 0 else set(range(learned_so_far))
        for decided in selector.decide(features):
            assert set(decided.tolist()) <= routes
        assert selector.errors(features).shape == (15, learned_so_far)
        selector.learn(cloud(learned_so_far), ONE_CLASS, [0, learned_so_far])


def test_a_new_task_leaves_the_others_bit_equal() -> None:
    selector = learned(1)
    before = save(selector.state_dict())
    selector.learn(cloud(1), ONE_CLASS, [0, 1])
    kept = {k: v for k, v in selector.state_dict().items() if not k.startswith("tasks.1")}
    assert save(kept | {"thresholds": kept["thresholds"][:1]}) == before


def test_same_seed_same_bytes_and_torchs_random_state_untouched() -> None:
    torch.manual_seed(5)
    first = save(learned(1).state_dict())
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.rand(1) == drawn
    assert save(learned(1).state_dict()) == first
    other = DDAS(WIDTH, settings())
    other.learn(cloud(0), ONE_CLASS, [1, 0])
    assert save(other.state_dict()) != first


@pytest.mark.parametrize("reference", [False, True])
def test_state_round_trip(reference: bool) -> None:
    selector = learned(2)
    if reference:
        selector.learn_reference(cloud(7), [0])
    again = DDAS(WIDTH, settings())
    again.restore(selector.state_dict())
    features = torch.cat([cloud(number) for number in (0, 1, 7)])
    assert torch.equal(again.decide(features).sample, selector.decide(features).sample)
    assert save(again.state_dict()) == save(selector.state_dict())
    assert not any(p.requires_grad for p in again.parameters())


def test_the_oracle_gives_learned_tasks_their_router_and_others_clip() -> None:
    made, known = small_study.sequence()
    method = small_study.learned("moe_adapters")
    last = method.predict(made[2], known[2], 2)
    assert last.routes["oracle"].tolist() == [CLIP] * 12
    assert torch.equal(last.classes["oracle"], known[2].zero_shot)
    first = method.predict(made[0], known[0], 0)
    assert first.routes["oracle"].tolist() == [0] * 12
    expected = method.answer(made[0], known[0], [torch.zeros(12, dtype=torch.long)])[0]
    assert torch.equal(first.classes["oracle"], expected)


def test_a_mixed_route_gives_each_picture_its_routers_answer() -> None:
    made, known = small_study.sequence()
    method = small_study.teach(small_study.method("moe_adapters"), 0, 1)
    stir(method.model)
    pure = [method.answer(made[1], known[1], [torch.full((12,), route)])[0] for route in (CLIP, 0, 1)]
    routes = torch.tensor([CLIP, 0, 1] * 4)
    mixed = method.answer(made[1], known[1], [routes])[0]
    assert mixed.tolist() == [pure[route + 1][i].item() for i, route in enumerate(routes.tolist())]
    assert torch.equal(pure[0], known[1].zero_shot)
    assert len({tuple(each.tolist()) for each in pure}) == 3  # else the mixture would show nothing


def test_a_router_answers_as_its_towers_do() -> None:
    made, known = small_study.sequence()
    method, backbone, unit = small_study.learned("moe_adapters"), small_study.backbone(), F.normalize
    with torch.no_grad():
        prompts = [backbone.tokenizer(made[1].prompts(template)) for template in made[1].templates]
        names = torch.stack([unit(method.model.encode_text(each, 1).features, dim=-1) for each in prompts])
        pictures = clip.preprocess(made[1].test.images, backbone.mean, backbone.std)
        images = method.model.encode_image(pictures, 1).features
        expected = (images @ unit(names.mean(dim=0), dim=-1).T).argmax(dim=1)
    assert torch.equal(method.predict(made[1], known[1], 1).classes["oracle"], expected)


def test_the_reference_decides_against_every_task(monkeypatch: pytest.MonkeyPatch) -> None:
    made, known = small_study.sequence()
    changes = {"selector.reference": True, "selector.steps": 200}
    monkeypatch.setattr("lib.methods.moe_adapters.load_reference", lambda study: known[2].train)
    method = small_study.teach(small_study.method("moe_adapters", changes), 0)
    routed = method.predict(made[2], known[2], 2).routes["sample"]
    assert routed.tolist() == [CLIP] * 12
    again = small_study.method("moe_adapters", changes)
    again.restore(method.state())
    assert again.selector.reference is not None
    assert torch.equal(
        again.predict(made[0], known[0], 0).routes["sample"],
        method.predict(made[0], known[0], 0).routes["sample"],
    )


def test_the_reference_may_learn_for_longer() -> None:
    features = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    found = []
    for reference_steps in (0, 60, 9):  # 60 are the small study's
        selector = DDAS(6, settings(reference_steps=reference_steps))
        selector.learn_reference(features, [0, 0])
        found.append(save(selector.state_dict()))
    assert found[0] == found[1] != found[2]


def test_wide_features_in_half_precision_are_judged_in_single() -> None:
    features = torch.rand(12, 6, generator=torch.Generator().manual_seed(0)).half()
    found = []
    for given in (features, features.float()):
        selector = DDAS(6, settings())
        selector.learn(given, torch.zeros(12, dtype=torch.long), [0, 0])
        found.append(selector.errors(given))
    assert torch.equal(*found)
