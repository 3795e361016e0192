"""MoRAM's memories: identity at zero, gates as written down, only new experts move, attention equals open_clip's."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lib.methods.moram import Memory
from lib.study.train import learn_task
from tests.support import small_study
from tests.support.small_lessons import begun

LESSONS = small_study.lessons()


def memory(experts: int = 5, chosen: int = 3, delta: float = 0.2) -> Memory:
    torch.manual_seed(0)
    made = Memory(chosen, 0.01, delta)
    made.append(torch.randn(experts, 4), torch.randn(experts, 6))
    return made


def both_towers(method: Any) -> list[Tensor]:
    pixels, _ = small_study.shown(0)
    tokens = small_study.backbone().tokenizer(["a photo of red.", "a plain sheet"])
    return [method.image(pixels), method.text(tokens)]


@pytest.mark.parametrize("method", [small_study.method("moram"), begun("moram")])
@torch.no_grad()
def test_without_experts_and_at_zero_values_features_are_clips(method: Any) -> None:
    pixels, _ = small_study.shown(0)
    clip = small_study.backbone().model
    tokens = small_study.backbone().tokenizer(["a photo of red.", "a plain sheet"])
    expected = clip.encode_image(pixels), clip.encode_text(tokens)
    for features, plain in zip(both_towers(method), expected, strict=True):
        torch.testing.assert_close(features, plain, rtol=1e-4, atol=1e-5)


def test_with_a_threshold_above_one_learned_memories_are_silent() -> None:
    method = small_study.teach(small_study.method("moram"), 0)
    loud = both_towers(method)
    for each in method.memories.values():
        each.delta = 1.1
    for one, two, clip in zip(loud, both_towers(method), both_towers(small_study.method("moram")), strict=True):
        torch.testing.assert_close(two, clip)
        assert not torch.allclose(one, clip, atol=1e-4)


def test_gates_are_a_softmax_over_the_largest_scores() -> None:
    made = memory()
    p = torch.tensor([[3.0, 0.0, -4.0, 2.0, 1.0]])
    n = p / p.norm()
    expected = torch.zeros(1, 5)
    expected[0, [0, 3, 4]] = (n[0, [0, 3, 4]] / 0.01).softmax(dim=0)
    torch.testing.assert_close(made.gates(p), expected)
    made.eval()
    assert torch.equal(made.gates(p) > 0, (n >= 0.2) & (expected > 0))
    assert made.gates(p).sum() <= 1
    assert made.gates(torch.zeros(1, 5)).isfinite().all()


@torch.no_grad()
def test_a_memory_scales_with_the_token_and_knows_no_order_and_no_other_tokens() -> None:
    made, z = memory().eval(), torch.randn(7, 4)
    torch.testing.assert_close(made(3 * z), 3 * made(z))
    torch.testing.assert_close(made(z)[2:3], made(z[2:3]))
    order = torch.tensor([4, 2, 0, 1, 3])
    turned = Memory(3, 0.01, 0.2).eval()
    turned.append(made.keys[0][order], made.values[0][order])
    torch.testing.assert_close(turned(z), made(z))
    assert torch.equal(made(torch.zeros(1, 4)), torch.zeros(1, 6))


@torch.no_grad()
def test_appending_experts_of_zero_value_changes_the_answers() -> None:
    made, z = memory(), torch.randn(7, 4)
    before = made(z)
    made.append(torch.randn(5, 4), torch.zeros(5, 6))
    assert not torch.allclose(made(z), before)


def test_only_the_new_experts_move() -> None:
    method = small_study.teach(small_study.method("moram"), 0)
    before = {name: tensor.clone() for name, tensor in method.memories.state_dict().items()}
    learn_task(method, LESSONS[1], method.context.train)
    after = method.memories.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    values = [name for name in after if name.endswith("values.1")]
    assert len(values) == 2 * 2 * 6  # two towers, two blocks, six maps
    assert all(after[name].any() for name in values)


def test_the_loss_from_texts_is_a_sum_over_the_batch_by_the_classes_so_far() -> None:
    method = begun("moram", 0)
    pixels, labels = small_study.shown(1)
    image, text, scale = method.image(pixels), method.text(method.prompts), small_study.backbone().model.logit_scale
    unit = [each / each.norm(dim=1, keepdim=True) for each in (image, text)]
    named = scale.exp() * unit[0] @ unit[1].T
    found = (scale.exp() * unit[1][labels] @ unit[0].T).log_softmax(dim=1).diagonal()
    expected = torch.nn.functional.cross_entropy(named, labels, label_smoothing=0.2) - found.sum() / 6
    torch.testing.assert_close(method.loss(pixels, labels), expected)
