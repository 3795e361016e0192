"""iCaRL: herding against brute force, the budget of exemplars, the replay's loss, the nearest mean."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.clip import backbone as clip
from lib.clip.towers import image_tower, text_tower
from lib.methods import icarl
from lib.methods.finetune import FineTune
from lib.methods.icarl import herding
from lib.settings import ParamsError
from tests.support import small_lessons, small_study


def begun(count: int, **settings: Any) -> Any:
    """A method that has just begun its next task after some, which were learned with the usual settings."""
    method = small_study.method("icarl", **settings)
    method.restore(small_study.learned("icarl", count).state())
    method.begin_task(small_study.lessons()[count])
    return method


def replayed(method: Any) -> Tensor:
    return method.extra_loss(torch.zeros(0), torch.zeros(0))


@torch.no_grad()
def unit(model: Any, images: Tensor) -> Tensor:
    return F.normalize(image_tower(model, small_study.backbone().pixels(images)))


def test_herding_by_hand_and_no_more_than_there_are() -> None:
    assert herding(torch.ones(3, 2), 5).tolist() == [0, 1, 2]
    # mean 2: nearest is 1; then (1 + 5) / 2 = 3 is nearer to 2 than (1 + 0) / 2; then what is left
    assert herding(torch.tensor([[0.0], [1.0], [5.0]]), 3).tolist() == [1, 2, 0]


@pytest.mark.parametrize("seed", range(5))
def test_herding_equals_a_brute_force_pick(seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(12, 4))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    picked: list[int] = []
    for _ in range(8):
        left = [i for i in range(12) if i not in picked]
        miss = [np.linalg.norm(features.mean(0) - features[[*picked, i]].mean(0)) for i in left]
        picked.append(left[int(np.argmin(miss))])
    assert herding(torch.from_numpy(features), 8).tolist() == picked


def test_the_budget_is_shared_by_all_classes_and_lists_are_cut_from_the_end() -> None:
    method = small_study.method("icarl", exemplars=20)
    held: dict[int, Tensor] = {}
    for number, each in ((0, 6), (1, 3), (2, 2)):  # 20 // 3, 20 // 6, 20 // 9
        small_study.teach(method, number)
        assert torch.bincount(method.labels).tolist() == [each] * 3 * (number + 1)
        for label, earlier in held.items():
            assert torch.equal(method.images[method.labels == label], earlier[:each])
        held = {label: method.images[method.labels == label] for label in range(3 * number + 3)}


def test_exemplars_are_herded_by_the_model_after_the_task() -> None:
    method = small_study.teach(small_study.method("icarl", exemplars=12), 0, 1)
    train = small_study.sequence()[0][1].train
    phi = unit(method.model, train.images)
    for label in range(3):
        own = train.images[train.labels == label]
        expected = own[herding(phi[train.labels == label], 2)]
        assert torch.equal(method.images[method.labels == 3 + label], expected)


def test_the_replay_is_by_hand_the_mean_over_the_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(icarl, "random_crop", lambda images, smallest, rng: images)
    method = begun(2, weight=3.0, temperature=4.0, replay=7)
    small_lessons.stir(method)
    drawn = np.random.default_rng([0, 2, 5]).choice(len(method.labels), 7, replace=False)
    assert set((method.labels[drawn] // 3).tolist()) == {0, 1}  # of both tasks
    terms = []
    for index in drawn:
        task, right = divmod(int(method.labels[index]), 3)
        prompts = method.tokens(small_study.lessons()[task].task)
        student, teacher = (
            model.logit_scale.exp()
            * F.normalize(image_tower(model, method.backbone.pixels(method.images[index : index + 1])))
            @ F.normalize(text_tower(model, prompts)).T
            for model in (method.model, method.teacher)
        )
        smooth = torch.full((3,), 0.2 / 3)
        smooth[right] += 0.8
        new = -(smooth * student.log_softmax(dim=1)).sum()
        p, q = ((logits / 4).softmax(dim=1) for logits in (teacher, student))
        terms.append(new + 3 * 16 * (p * (p / q).log()).sum())
    torch.testing.assert_close(replayed(method), torch.stack(terms).mean(), rtol=1e-4, atol=1e-5)


def test_the_replay_teaches_both_towers_by_the_model_before_the_task() -> None:
    one, two = begun(1, weight=0.0), begun(1, weight=100.0)
    torch.testing.assert_close(replayed(one), replayed(two), rtol=0, atol=1e-4)  # nothing to distil before a step
    assert clip.fingerprint(two.teacher) == clip.fingerprint(two.model)
    replayed(two).backward()
    assert two.model.visual.proj.grad.any()
    assert two.model.text_projection.grad.any()
    assert not any(parameter.requires_grad for parameter in two.teacher.parameters())


def test_a_learned_task_is_answered_by_the_nearest_mean_of_its_exemplars() -> None:
    method, task = small_study.learned("icarl"), small_study.sequence()[0][1]
    seen = unit(method.model, task.test.images)
    means = []
    for label in range(3, 6):
        own = unit(method.model, method.images[method.labels == label])
        means.append(F.normalize(own.mean(dim=0), dim=0))
    answers = method.predict(task, small_study.sequence()[1][1], 1).classes["sample"]
    assert torch.equal(answers, (seen @ torch.stack(means).T).argmax(dim=1))


def test_a_task_not_learned_is_answered_by_the_models_own_text() -> None:
    method, task, features = small_study.learned("icarl"), small_study.sequence()[0][2], small_study.sequence()[1][2]
    expected = FineTune.predict(method, task, features, 2).classes["sample"]
    assert torch.equal(method.predict(task, features, 2).classes["sample"], expected)


def test_among_all_classes_only_the_learned_ones_have_means() -> None:
    method, (tasks, features) = small_study.learned("icarl"), small_lessons.views()["union_"]
    for number in range(3):
        answers = method.predict(tasks[number], features[number], number).classes
        names = method.classes(tasks[number], torch.arange(12))
        nearest: Any = tasks[number].nearest_task
        learned = nearest < 2
        assert (answers["sample"][learned] < 5).all()
        assert torch.equal(answers["sample"][~learned], names[~learned])
        assert (answers["oracle"] < 5).all() if number < 2 else torch.equal(answers["oracle"], names)


def test_fewer_exemplars_than_classes_are_refused_before_training() -> None:
    method = small_study.teach(small_study.method("icarl", exemplars=5), 0)
    with pytest.raises(ParamsError, match="exemplars is 5.*at least 6"):
        method.begin_task(small_study.lessons()[1])
