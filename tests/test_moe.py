"""The mixture around CLIP: identity at the start, who learns and who never moves, and its state."""

from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import towers
from lib.moe import MoECLIP, MoEConfig

Make = Callable[..., MoECLIP]


def copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def loss_of(model: MoECLIP, images: Tensor, tokens: Tensor, task: int) -> Tensor:
    """Cross entropy of a training forward, which is counted."""
    image, text = model.encode_image(images, task), model.encode_text(tokens, task)
    model.add_counts(task, image.routings, text.routings)
    cosine = F.normalize(image.features, dim=-1) @ F.normalize(text.features, dim=-1).T
    return F.cross_entropy(10 * cosine, torch.arange(len(images)))


def learn(model: MoECLIP, images: Tensor, tokens: Tensor, task: int, steps: int = 3) -> None:
    """As a training loop does it."""
    torch.manual_seed(task)
    optimizer = torch.optim.AdamW([p for _, p in model.trainable_parameters(task)], lr=1e-2, weight_decay=0.0)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, images, tokens, task).backward()
        model.mask_frozen_gradients()
        optimizer.step()
    model.eval()


@torch.no_grad()
def test_a_new_model_equals_open_clip_bit_for_bit(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = mixture(stirred=False)
    full = tokens.clone()
    full[0] = torch.tensor([126, *range(1, 19), 127])  # a prompt of the whole context: nothing to cut
    for task in (0, 1):
        assert (model.encode_image(images, task).features - model.clip.encode_image(images)).abs().max() == 0
        assert (model.encode_text(full, task).features - model.clip.encode_text(full)).abs().max() == 0


@torch.no_grad()
def test_a_new_mixture_around_vit_b_16_equals_it_bit_for_bit() -> None:
    torch.manual_seed(0)
    clip: Any = open_clip.create_model("ViT-B-16-quickgelu")
    model = MoECLIP(clip, MoEConfig(experts=3)).eval()
    task, images = model.add_task(), torch.randn(2, 3, 224, 224)
    tokens = open_clip.get_tokenizer("ViT-B-16-quickgelu")(
        ["a photo of a cat.", "a dog", "two birds on a wire."]
    )
    assert (model.encode_image(images, task).features - clip.encode_image(images)).abs().max() == 0
    found = model.encode_text(tokens, task).features
    assert (found - towers.text_tower(clip, tokens)).abs().max() == 0
    torch.testing.assert_close(
        found, clip.encode_text(tokens), rtol=0, atol=1e-5
    )  # at the full context of 77


@torch.no_grad()
def test_task_none_is_the_frozen_clip_bit_for_bit(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = mixture()
    for found, expected in (
        (model.encode_image(images, None), model.clip.encode_image(images)),
        (model.encode_text(tokens, None), model.clip.encode_text(tokens)),
    ):
        assert torch.equal(found.features, expected)
        assert found.routings == {}
    assert not torch.equal(model.encode_image(images, 0).features, model.clip.encode_image(images))


@torch.no_grad()
@pytest.mark.parametrize("token", ["start", "end"])
def test_cutting_the_padding_changes_nothing_but_rounding(
    mixture: Make, tokens: Tensor, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = mixture(text_router_token=token)
    cut = model.encode_text(tokens, 0)
    monkeypatch.setattr(towers, "cut_padding", lambda whole: whole)
    whole = model.encode_text(tokens, 0)
    torch.testing.assert_close(cut.features, whole.features, rtol=0, atol=1e-5)
    for block, routing in cut.routings.items():
        assert torch.equal(routing.experts, whole.routings[block].experts)


@torch.no_grad()
def test_prompts_share_one_route_by_the_start_token_and_not_by_the_end_token(
    mixture: Make, tokens: Tensor
) -> None:
    by_start = mixture(text_router_token="start").encode_text(tokens, 0).routings
    by_end = mixture(text_router_token="end").encode_text(tokens, 0).routings
    for block in (0, 1):
        assert by_start[block].gates.shape == (10, 6)
        assert (by_start[block].gates == by_start[block].gates[0]).all()
        assert len(by_end[block].experts.unique(dim=0)) > 1


@torch.no_grad()
def test_the_shared_route_is_the_one_that_every_prompt_would_take(mixture: Make, tokens: Tensor) -> None:
    model = mixture(noise=False)
    shared = model.encode_text(tokens, 0)
    each = model.train().encode_text(
        tokens, 0
    )  # without noise and dropout training routes alike, prompt by prompt
    torch.testing.assert_close(shared.features, each.features, rtol=0, atol=1e-5)
    for block, routing in shared.routings.items():
        torch.testing.assert_close(routing.gates, each.routings[block].gates)
        assert torch.equal(routing.counts, each.routings[block].counts)
        assert torch.equal(routing.load, each.routings[block].load)


@torch.no_grad()
def test_a_samples_route_and_features_do_not_depend_on_its_batch_mates(mixture: Make, images: Tensor) -> None:
    model = mixture()
    whole, alone = model.encode_image(images, 1), model.encode_image(images[3:4], 1)
    torch.testing.assert_close(alone.features[0], whole.features[3], rtol=0, atol=1e-5)
    turned = model.encode_image(images.flip(0), 1)
    torch.testing.assert_close(turned.features.flip(0), whole.features, rtol=0, atol=1e-5)
    for block, routing in whole.routings.items():
        assert torch.equal(alone.routings[block].experts[0], routing.experts[3])
        assert torch.equal(turned.routings[block].experts.flip(0), routing.experts)


@pytest.mark.parametrize("changes", [{"noise": True}, {"noise": False, "dropout": 0.5}])
def test_noise_and_dropout_act_in_training_only(mixture: Make, images: Tensor, changes: dict) -> None:
    model = mixture(**changes)
    assert torch.equal(model.encode_image(images, 0).features, model.encode_image(images, 0).features)
    model.train()
    assert not torch.equal(model.encode_image(images, 0).features, model.encode_image(images, 0).features)
    assert not any(part.training for part in model.clip.modules())


def test_a_task_trains_all_experts_and_its_own_routers_only(
    mixture: Make, images: Tensor, tokens: Tensor
) -> None:
    model = mixture(tasks=3)
    names = [name for name, _ in model.trainable_parameters(2)]
    before = copies(model)
    learn(model, images, tokens, 2, steps=6)
    after = model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name]) and ".counts" not in name}
    assert moved == set(names)
    assert {name.split(".")[2] + "." + name.split(".")[3] for name in names} == {
        *("experts.down", "experts.down_bias", "experts.up", "experts.up_bias"),
        "routers.2",
    }
    assert all(p.grad is None for p in model.clip.parameters())


def test_earlier_routers_stay_bit_for_bit_and_ask_for_no_gradient(
    mixture: Make, images: Tensor, tokens: Tensor
) -> None:
    model = mixture(tasks=1)
    learn(model, images, tokens, 0)
    before = copies(model)
    task = model.add_task()
    learn(model, images, tokens, task)
    earlier = [name for name in before if ".routers.0." in name]
    assert len(earlier) == 8
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in earlier)
    flags = {p.requires_grad for name, p in model.named_parameters() if ".routers.0." in name}
    assert flags == {False}


def test_frozen_experts_stay_bit_for_bit_while_the_others_learn(
    mixture: Make, images: Tensor, tokens: Tensor
) -> None:
    model = mixture(tasks=1, freeze_count=2)
    learn(model, images, tokens, 0)
    model.freeze_most_used(0)
    before = copies(model)
    learn(model, images, tokens, model.add_task(), steps=6)
    for name, adapter in model.adapters().items():
        assert adapter.frozen.sum() == 2
        most = adapter.counts[0].sort(descending=True).values[:2]
        assert adapter.counts[0][adapter.frozen].sort(descending=True).values.tolist() == most.tolist()
        for key, parameter in adapter.experts.named_parameters():
            same = (parameter == before[f"{name}.experts.{key}"]).flatten(1).all(dim=1)
            assert same[adapter.frozen].all(), (name, key)
            assert not same[~adapter.frozen].any(), (name, key)


def test_frozen_experts_are_still_chosen(mixture: Make, images: Tensor) -> None:
    model = mixture()
    before = model.encode_image(images, 0)
    for adapter in model.adapters().values():
        adapter.frozen[:] = True
    assert torch.equal(model.encode_image(images, 0).features, before.features)


def test_freezing_can_be_switched_off(mixture: Make) -> None:
    model = mixture(freeze_count=0)
    model.freeze_most_used(1)
    assert not any(adapter.frozen.any() for adapter in model.adapters().values())


@pytest.mark.parametrize("noise", [True, False])
def test_counts_are_one_for_each_picture_and_each_prompt(
    mixture: Make, images: Tensor, tokens: Tensor, noise: bool
) -> None:
    model = mixture(noise=noise).train()
    for _ in range(3):
        loss_of(model, images, tokens, 1)
    for name, adapter in model.adapters().items():
        samples = 3 * (8 if name.startswith("image") else 10)
        assert adapter.counts[1].sum() == 2 * samples
        assert adapter.counts[0].sum() == 0


def test_one_expert_is_an_adapter_without_routers(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = mixture(experts=1, top_k=1, freeze_count=0)
    assert model.num_tasks == 2
    assert not any(".routers." in name for name, _ in model.named_parameters())
    assert torch.equal(model.encode_image(images, 0).features, model.encode_image(images, 1).features)
    routing = model.encode_text(tokens, 0).routings[0]
    assert routing.gates.tolist() == [[1.0]] * 10
    learn(model, images, tokens, 1)
    assert [a.counts.flatten().tolist() for a in model.adapters().values()] == [
        [0, 24],
        [0, 24],
        [0, 30],
        [0, 30],
    ]


@pytest.mark.parametrize(
    ("image_blocks", "text_blocks", "expected"),
    [
        ("all", "none", ["image_adapters.0", "image_adapters.1"]),
        ("first", "last", ["image_adapters.0", "text_adapters.1"]),
        ([1], [0, 0, 1], ["image_adapters.1", "text_adapters.0", "text_adapters.1"]),
    ],
)
def test_adapters_sit_where_the_config_says(
    mixture: Make, images: Tensor, image_blocks: object, text_blocks: object, expected: list[str]
) -> None:
    model = mixture(image_blocks=image_blocks, text_blocks=text_blocks)
    assert list(model.adapters()) == expected
    assert [f"image_adapters.{block}" for block in model.encode_image(images, 0).routings] == [
        name for name in expected if name.startswith("image")
    ]


def test_a_model_that_is_no_plain_clip_is_an_error() -> None:
    with pytest.raises(ValueError, match="the model is a Identity, not open_clip's CLIP"):
        MoECLIP(nn.Identity(), MoEConfig())  # type: ignore[arg-type]


def test_a_block_that_the_tower_has_not_is_an_error(mixture: Make) -> None:
    with pytest.raises(ValueError, match="text_blocks has 2; the tower's blocks are 0 to 1"):
        mixture(text_blocks=[0, 2])


@pytest.mark.parametrize("task", [-1, 2])
def test_a_task_that_was_never_added_is_an_error(mixture: Make, images: Tensor, task: int) -> None:
    with pytest.raises(ValueError, match=rf"there is no task {task}; tasks so far: 0 to 1"):
        mixture().encode_image(images, task)
    with pytest.raises(ValueError, match="tasks so far: none"):
        mixture(tasks=0).encode_image(images, task)


def test_the_papers_trainable_parameters_are_counted_not_quoted() -> None:
    with torch.device("meta"):
        clip: Any = open_clip.create_model("ViT-B-16-quickgelu", device="meta")
        model = MoECLIP(clip, MoEConfig())
        for _ in range(11):
            model.add_task()
    ours = {name: p.numel() for name, p in model.named_parameters() if not name.startswith("clip.")}
    assert sum(n for name, n in ours.items() if ".experts." in name) == 43_625_472
    assert sum(n for name, n in ours.items() if ".routers." in name) == 7_434_240
    assert sum(ours.values()) == 51_059_712


def test_a_state_goes_into_a_new_model_with_all_its_tasks(
    mixture: Make, images: Tensor, tokens: Tensor
) -> None:
    model = mixture(tasks=3)
    learn(model, images, tokens, 2)
    model.freeze_most_used(2)
    state = model.adapter_state()
    assert not any(name.startswith("clip.") for name in state)
    again = mixture(tasks=0, stirred=False)
    again.load_adapter_state(state)
    assert again.num_tasks == 3
    assert again.adapter_state().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.adapter_state().items())
    for task in range(3):
        assert torch.equal(
            again.encode_image(images, task).features, model.encode_image(images, task).features
        )
    assert {n for n, p in again.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }
    again.load_adapter_state(mixture(tasks=1).adapter_state())  # and back to fewer
    assert again.num_tasks == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts": 5}, r"image_adapters\.0\.frozen is \(6,\) in the adapter state, \(5,\) here"),
        ({"bottleneck": 4}, r"image_adapters\.0\.experts\.down is \(6, 64, 8\) .*, \(6, 64, 4\) here"),
        ({"top_k": 3}, "top_k is 2 in the adapter state, 3 here"),
        (
            {"noise": False},
            r"has image_adapters\.0\.routers\.0\.noise_weight, which this model has no place for",
        ),
        ({"image_blocks": "last"}, r"has image_adapters\.0\.frozen, which this model has no place for"),
    ],
)
def test_a_state_that_does_not_fit_is_an_error_and_changes_nothing(
    mixture: Make, changes: dict, message: str
) -> None:
    state, model = copies_of_adapters(mixture()), mixture(tasks=1, **changes)
    before = copies(model)
    with pytest.raises(ValueError, match=message):
        model.load_adapter_state(state)
    assert model.num_tasks == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def copies_of_adapters(model: MoECLIP) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.adapter_state().items()}


def test_a_state_with_a_gap_or_of_another_width_is_an_error(mixture: Make) -> None:
    model = mixture()
    state = copies_of_adapters(model)
    gap = "text_adapters.1.routers.1.weight"
    with pytest.raises(ValueError, match=rf"lacks {gap}; make the model with the config"):
        model.load_adapter_state({name: tensor for name, tensor in state.items() if name != gap})
    name = "text_adapters.0.experts.up"
    with pytest.raises(ValueError, match=r"text_adapters\.0\.experts\.up is \(6, 8, 32\)"):
        model.load_adapter_state(state | {name: state[name][..., :32]})
    with pytest.raises(ValueError, match="the adapter state lacks"):
        model.load_adapter_state({})
