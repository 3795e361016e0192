"""MoE-Confidence: new adapters change nothing, weights and scores are as written down, confident logits are divided."""

import torch
import torch.nn.functional as F

from lib.methods.confidence import distance
from lib.methods.scoring import logits
from tests.support import small_study
from tests.support.small_lessons import begun, predicted, views

LESSONS = small_study.lessons()


@torch.no_grad()
def test_a_new_adapter_leaves_the_features_as_they_are() -> None:
    method = begun("moe_confidence")
    pixels, _ = small_study.shown(0)
    clip = small_study.backbone().model
    assert torch.equal(method.model.encode_image(pixels, 0).features, clip.encode_image(pixels))


def test_the_mean_squared_distance_of_the_fitted_pictures_is_the_width() -> None:
    features = torch.randn(50, 6, dtype=torch.float64)
    factor = torch.linalg.cholesky(features.T.cov())
    mean = distance(features, features.mean(dim=0), factor).square().mean()
    torch.testing.assert_close(mean, torch.tensor(6 * 49 / 50).double())


def test_weights_sum_to_one_and_a_single_task_has_all() -> None:
    one, two = (small_study.learned("moe_confidence", count) for count in (1, 2))
    task = LESSONS[2].task
    assert torch.equal(one._weights(task, 1), torch.ones(12, 1).double())
    torch.testing.assert_close(two._weights(task, 2).sum(dim=1), torch.ones(12).double())


def test_scores_are_the_weighted_beliefs_of_each_tasks_adapter_and_clips_for_other_names() -> None:
    method = small_study.learned("moe_confidence")
    tasks, features = views()["union_"]
    given = method.predict(tasks[2], features[2], 2).classes["sample"]
    task, backbone = tasks[2], small_study.backbone()
    weights, scores = method._weights(task, 2), torch.zeros(12, len(task.classes)).double()
    others = sorted(set(range(len(task.classes))) - set(torch.cat([task.places[0], task.places[1]]).tolist()))
    for t in range(2):
        with torch.no_grad():
            scores[:, task.places[t]] = weights[:, t, None] * method._answers(task, t)[:, task.places[t]]
    names = method._names(task, -1)
    clip = logits(features[2].image_test, names, backbone.model.logit_scale).softmax(dim=1)
    scores[:, others] = clip[:, others].double()
    assert torch.equal(given, scores.argmax(dim=1))


def test_among_its_own_names_a_learned_task_is_answered_by_its_adapter() -> None:
    method = small_study.learned("moe_confidence")
    for number in (0, 1):
        own, task = predicted(method, number).classes, LESSONS[number].task
        assert torch.equal(own["sample"], method._answers(task, number).argmax(dim=1))
        assert torch.equal(own["sample"], own["oracle"])
    assert torch.equal(predicted(method, 2).classes["sample"], LESSONS[2].features.zero_shot)


def test_the_logits_of_confident_pictures_are_divided() -> None:
    method = begun("moe_confidence", 0)
    assert set(method.divisors.tolist()) == {torch.tensor(0.9).item(), 1.0}
    assert (method.divisors < 1).sum() == 2  # of 18, above the quantile 0.9
    pixels, labels = small_study.shown(1)
    method.batch = torch.arange(18).numpy()
    method.model.eval()
    image, text = method.model.encode_image(pixels, 0, whole=False), method.model.encode_text(method.prompts, 0)
    scores = logits(image.features, text.features, small_study.backbone().model.logit_scale)
    expected = F.cross_entropy(scores / method.divisors[:, None], labels, label_smoothing=0.2)
    torch.testing.assert_close(method.loss(pixels, labels), expected)
