"""The mixtures around CLIP: identity at the start, where they sit, routes, passes that save work, errors."""

from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from lib.clip import hub, towers
from lib.moe import MoECLIP, MoEConfig

Make = Callable[..., MoECLIP]


@torch.no_grad()
def test_a_new_model_equals_open_clip_bit_for_bit(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = mixture(stirred=False)
    full = tokens.clone()
    full[0] = torch.tensor([126, *range(1, 19), 127])  # a prompt of the whole context: nothing to cut
    for task in (0, 1):
        assert torch.equal(model.encode_image(images, task).features, model.clip.encode_image(images))
        assert torch.equal(model.encode_text(full, task).features, model.clip.encode_text(full))


TOWER = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024, "hidden_act": "gelu"}
TINYCLIP = {
    "model_type": "clip",
    "vision_config": TOWER | {"num_hidden_layers": 10, "image_size": 224, "patch_size": 16},
    "text_config": TOWER | {"num_hidden_layers": 3},
}
BACKBONES: dict[str, Callable[[], Any]] = {
    "ViT-B/16": lambda: open_clip.create_model("ViT-B-16-quickgelu"),
    "ViT-B/32": lambda: open_clip.create_model("ViT-B-32"),
    "TinyCLIP": lambda: hub.build(TINYCLIP).eval(),
}


@pytest.mark.parametrize("shape", BACKBONES)
@torch.no_grad()
def test_a_new_mixture_around_a_clip_of_full_size_equals_it_bit_for_bit(shape: str) -> None:
    torch.manual_seed(0)
    clip = BACKBONES[shape]()
    towers.check(clip)
    model = MoECLIP(clip, MoEConfig(experts=3)).eval()
    task, images = model.add_task(), torch.randn(2, 3, 224, 224)
    assert torch.equal(model.encode_image(images, task).features, clip.encode_image(images))
    tokens = open_clip.get_tokenizer("ViT-B-16-quickgelu")(["a photo of a cat.", "a dog", "two birds on a wire."])
    assert torch.equal(model.encode_text(tokens, task).features, towers.text_pass(clip, tokens, whole=True).features())


@torch.no_grad()
def test_task_none_is_the_frozen_clip_bit_for_bit(mixture: Make, images: Tensor, tokens: Tensor) -> None:
    model = mixture()
    image, text = model.clip.encode_image(images), model.clip.encode_text(tokens)
    for encoded, expected in (
        (model.encode_image(images, None), image),
        (model.encode_text(tokens, None), text),
        (model.encode_text(model.prepare(tokens), None), text),
    ):
        assert torch.equal(encoded.features, expected)
        assert encoded.routings == {}
    assert not torch.equal(model.encode_image(images, 0).features, image)


@pytest.mark.parametrize("token", ["start", "end"])
@pytest.mark.parametrize("text_blocks", ["all", "first", "last", "none"])
@pytest.mark.parametrize("worth", [1, 1000])  # tokens: all in groups, or all together
def test_passes_that_save_work_change_nothing_but_rounding(
    mixture: Make,
    images: Tensor,
    tokens: Tensor,
    token: str,
    text_blocks: str,
    worth: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(towers.WORTH, "cpu", worth)
    model = mixture(text_router_token=token, text_blocks=text_blocks).train()
    noise = {block: torch.randn(10, 6) for block in (0, 1)}
    results: list[list[Tensor]] = []
    for whole in (True, False):
        image = model.encode_image(images, 1, {b: n[:8] for b, n in noise.items()}, whole)
        text = model.encode_text(tokens if whole else model.prepare(tokens), 1, noise)
        model.zero_grad()
        (image.features.sin().sum() + text.features.sin().sum()).backward()
        routings = [*image.routings.values(), *text.routings.values()]
        gradients = [p.grad.clone() for _, p in model.trainable_parameters(1) if p.grad is not None]
        results.append([image.features, text.features, *(part for r in routings for part in r), *gradients])
    assert len(results[0]) == 2 + 3 * len(model.adapters()) + len(model.trainable_parameters(1))
    for whole, short in zip(*results, strict=True):
        torch.testing.assert_close(short, whole, rtol=0, atol=1e-4)


@torch.no_grad()
def test_by_the_start_token_prompts_share_the_route_that_each_would_take(mixture: Make, tokens: Tensor) -> None:
    model = mixture(noise=False)
    shared = model.encode_text(tokens, 0)
    each = model.train().encode_text(tokens, 0)  # without noise and dropout training routes alike, prompt by prompt
    torch.testing.assert_close(shared.features, each.features, rtol=0, atol=1e-5)
    for block, routing in shared.routings.items():
        assert (routing.gates == routing.gates[0]).all()
        for one, other in zip(routing, each.routings[block], strict=True):
            torch.testing.assert_close(one, other)
    by_end = mixture(text_router_token="end").encode_text(tokens, 0).routings
    assert all(len(routing.experts.unique(dim=0)) > 1 for routing in by_end.values())


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch_mates(mixture: Make, images: Tensor) -> None:
    model = mixture()
    together, alone = model.encode_image(images, 1), model.encode_image(images[3:4], 1)
    torch.testing.assert_close(alone.features[0], together.features[3], rtol=0, atol=1e-5)
    for block, routing in together.routings.items():
        assert torch.equal(alone.routings[block].experts[0], routing.experts[3])


@pytest.mark.parametrize(
    ("image_blocks", "text_blocks", "expected"),
    [
        ("all", "none", ["image_adapters.0", "image_adapters.1"]),
        ("first", "last", ["image_adapters.0", "text_adapters.1"]),
        ([1], [0, 0, 1], ["image_adapters.1", "text_adapters.0", "text_adapters.1"]),
    ],
)
def test_mixtures_sit_where_the_config_says(
    mixture: Make, images: Tensor, image_blocks: object, text_blocks: object, expected: list[str]
) -> None:
    model = mixture(image_blocks=image_blocks, text_blocks=text_blocks)
    assert list(model.adapters()) == expected
    routed = [f"image_adapters.{block}" for block in model.encode_image(images, 0).routings]
    assert routed == [name for name in expected if name.startswith("image")]


@pytest.mark.parametrize(("task", "tasks", "allowed"), [(-1, 2, "0 to 1"), (2, 2, "0 to 1"), (0, 0, "none")])
def test_a_task_that_was_never_added_is_an_error(
    mixture: Make, images: Tensor, tokens: Tensor, task: int, tasks: int, allowed: str
) -> None:
    model = mixture(tasks=tasks)
    for encode in (lambda: model.encode_image(images, task), lambda: model.encode_text(model.prepare(tokens), task)):
        with pytest.raises(ValueError, match=f"there is no task {task}; tasks so far: {allowed}"):
            encode()


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
