"""The vote: before a task it is CLIP, with few tasks all vote, and its mean of logits is computed as written down."""

from typing import Any

import torch
import torch.nn.functional as F

from lib.clip import zero_shot_classifier
from lib.methods.adapter import RoutedTower
from lib.methods.scoring import encode_images
from lib.selector import CLIP
from tests.support import small_study

TASKS, FEATURES = small_study.sequence()


def expected(method: Any, number: int, voters: list[list[int]]) -> torch.Tensor:
    """The vote of these learned tasks for each picture, one model after another."""
    task, backbone, total = TASKS[number], small_study.backbone(), []
    for model in (CLIP, 0, 1):
        if model == CLIP:
            image, encode = FEATURES[number].image_test, backbone.model.encode_text
        else:
            method.load(model)
            encode = RoutedTower(method.model, "text", 0)
            image = encode_images(RoutedTower(method.model, "image", 0), backbone, task.test.images)
        names = zero_shot_classifier(encode, backbone.tokenizer, task.classes, task.templates)
        total.append(F.normalize(image, dim=1) @ names.T)
    votes = [torch.stack([total[v + 1][i] for v in [CLIP, *mine]]) for i, mine in enumerate(voters)]
    return torch.stack([each.sum(dim=0) for each in votes]).argmax(dim=1)


@torch.no_grad()
def answers(method: Any, number: int) -> torch.Tensor:
    return method.answer(TASKS[number], FEATURES[number], [torch.full((12,), CLIP)])[0]


def test_with_few_tasks_all_vote() -> None:
    method = small_study.learned("vote")
    with torch.no_grad():
        assert torch.equal(answers(method, 2), expected(method, 2, [[0, 1]] * 12))


def test_the_tasks_with_the_most_similar_prototype_vote() -> None:
    method = small_study.teach(small_study.method("vote", voters=1), 0, 1)
    similar = [(FEATURES[0].image_test @ own.T).amax(dim=1) for own in method.prototypes]
    nearest = (similar[1] > similar[0]).long().tolist()
    with torch.no_grad():
        assert torch.equal(answers(method, 0), expected(method, 0, [[n] for n in nearest]))


def test_what_the_selector_claims_is_answered_by_its_adapter() -> None:
    method, control = small_study.learned("vote"), small_study.learned("adapter_per_task")
    for number in (0, 1):
        mine, plain = (each.predict(TASKS[number], FEATURES[number], number) for each in (method, control))
        assert torch.equal(mine.routes["sample"], plain.routes["sample"])
        claimed = mine.routes["sample"] != CLIP
        assert torch.equal(mine.classes["sample"][claimed], plain.classes["sample"][claimed])
        assert torch.equal(mine.classes["oracle"], plain.classes["oracle"])


def test_prototypes_are_halfway_between_pictures_and_names() -> None:
    method, task, held = small_study.learned("vote"), TASKS[0], small_study.lessons()[0].features
    names = zero_shot_classifier(
        small_study.backbone().model.encode_text, small_study.backbone().tokenizer, task.classes, task.templates
    )
    for label in range(3):
        mean = held.image_train[task.train.labels == label].mean(dim=0)
        torch.testing.assert_close(
            method.prototypes[0][label], F.normalize(mean + names[label], dim=0), atol=1e-5, rtol=0
        )
