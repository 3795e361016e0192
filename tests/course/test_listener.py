"""The transformer on sounds: its pass, and what each way of learning changes and keeps."""

from typing import Any

import pytest
import torch
from torch import nn

from lib.moe import MoEConfig
from lib.moe.mixture import TowerMixtures
from lib.selector import CLIP, DDAS, SelectorSettings
from tools.course.listener import ExpertGate, FineTuned, Heard, Learner, Listener, Mas, hear, pretrained
from tools.course.places import FIRST, TASKS
from tools.course.sounds import BINS, FRAMES

SELECTOR = SelectorSettings("clip", 8, 20, 16, 0.01, 0.0001, "quantile", 0.95, 0.1, False, 8)
FIRST_HEARD = hear(FIRST, 3, [0])
LESSONS = [hear(place, 4, [0, number]) for number, place in enumerate(TASKS.values())][:2]
START = pretrained(FIRST_HEARD, 4, 0.003, 0)


def weights(module: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def test_sounds_are_heard_as_frames_with_labels() -> None:
    heard = hear(TASKS["drum"], 2, [0])
    assert heard.frames.shape == (10, FRAMES, BINS)
    assert heard.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_pass_is_open_clips_transformer_read_at_the_class_token() -> None:
    torch.manual_seed(0)
    listener = Listener(16, 2, 2).eval()
    frames = torch.randn(3, FRAMES, BINS)
    whole = listener.ln_post(listener.transformer(listener.tower(frames).x))
    torch.testing.assert_close(listener(frames), whole[:, 0])


def test_new_mixtures_change_nothing() -> None:
    listener, _ = START
    mixtures: Any = TowerMixtures("image", listener.transformer, MoEConfig(6, 2, 4)).eval()
    for mixture in mixtures.values():
        mixture.add_task()
    frames = LESSONS[0].frames
    with torch.no_grad():  # with gradients torch takes another way through attention
        encoded = mixtures.finish(mixtures.start(listener.tower(frames)), 0)
        assert torch.equal(encoded.features, listener(frames))
    assert len(encoded.routings) == 3


def test_pre_training_is_frozen_and_the_same_for_the_same_seed() -> None:
    listener, head = START
    assert not any(p.requires_grad for p in [*listener.parameters(), *head.parameters()])
    # Not against START: torch may use another number of threads now than when it was made, and sums differ by it.
    one, again, other = (weights(pretrained(FIRST_HEARD, 4, 0.003, seed)[0]) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_pre_training_lowers_the_loss() -> None:
    def loss(steps: int) -> float:
        listener, head = pretrained(FIRST_HEARD, steps, 0.003, 0)
        return nn.functional.cross_entropy(head(listener(FIRST_HEARD.frames)), FIRST_HEARD.labels).item()

    assert loss(40) < 0.8 * loss(1)


def taught(way: Learner) -> Learner:
    for task, lesson in enumerate(LESSONS):
        way.learn(task, lesson)
    return way


def test_the_frozen_way_learns_heads_alone_and_fine_tuning_a_copy() -> None:
    listener, before = START[0], weights(START[0])
    frozen, tuned = taught(Learner(*START, 3, 0.1, 0)), taught(FineTuned(*START, 3, 0.001, 0))
    assert torch.equal(weights(listener), before)
    assert torch.equal(weights(frozen.listener), before)
    assert not torch.equal(weights(tuned.listener), before)
    assert set(frozen.heads) == set(tuned.heads) == {CLIP, 0, 1}


def test_the_same_seed_learns_the_same() -> None:
    first, again, other = (taught(FineTuned(*START, 3, 0.001, seed)) for seed in (0, 0, 1))
    assert torch.equal(weights(first.listener), weights(again.listener))
    assert not torch.equal(weights(first.listener), weights(other.listener))


def test_answers_are_those_of_the_head_that_is_asked() -> None:
    way = Learner(*START, 1, 0.1, 0)
    way.heads[0] = nn.Linear(48, 5)
    nn.init.zeros_(way.heads[0].weight)
    way.heads[0].bias.data = torch.tensor([0.0, 0, 1, 0, 0])  # it says 2 to everything
    assert torch.equal(way.named(LESSONS[0], 0), LESSONS[0].labels == 2)
    first = START[1](START[0](FIRST_HEARD.frames)).argmax(dim=1) == FIRST_HEARD.labels
    assert torch.equal(way.named(FIRST_HEARD, CLIP), first)


def test_mas_has_no_penalty_in_the_first_task_and_holds_back_in_the_second() -> None:
    loose, held = Mas(*START, 3, 0.002, 0, weight=0.0), Mas(*START, 3, 0.002, 0, weight=1e6)
    for way in (loose, held):
        way.learn(0, LESSONS[0])
    assert torch.equal(loose.weights(), held.weights())
    assert held.omega is not None
    assert (held.omega >= 0).all()
    assert held.omega.max() > 0
    start = held.weights().detach()
    held.before = start + 1
    penalty = torch.as_tensor(held.extra_loss()).item()
    assert penalty == pytest.approx(1e6 * held.omega.sum().item(), rel=1e-4)
    important = held.omega > held.omega.quantile(0.9)
    for way in (loose, held):
        way.learn(1, LESSONS[1])
    moved = [(way.weights() - start).abs()[important].mean().item() for way in (loose, held)]
    assert moved[1] < moved[0]


def test_expert_gate_starts_from_the_most_related_expert_and_keeps_every_one() -> None:
    selector = DDAS(48, SELECTOR)
    way = ExpertGate(*START, 3, 0.002, 0, selector)
    for task, lesson in enumerate((*LESSONS, Heard(LESSONS[0].frames, LESSONS[0].labels))):
        selector.learn(START[0](lesson.frames), lesson.labels, [0, task])
        kept = weights(way.experts[0]) if task else None
        way.learn(task, lesson)
        assert kept is None or torch.equal(weights(way.experts[0]), kept)
    assert way.started == [CLIP, 0, 0]  # the third task is the first one again
    assert not torch.equal(weights(way.experts[1]), weights(way.experts[0]))
    assert torch.equal(weights(way.experts[CLIP]), weights(START[0]))
