"""What the frozen CLIP says of a task: answers as open_clip itself gives them, features, files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.clip import Backbone, preprocess
from lib.data import frozen as features
from lib.data.frozen import AlexNetFeatures, ClsToken, Features
from tests.support import small_study

SELECTOR = small_study.study().selector


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_study.move(monkeypatch, tmp_path)
    return tmp_path


@torch.no_grad()
def test_zero_shot_answers_are_open_clips_own() -> None:
    backbone, task = small_study.backbone(), small_study.task(0, test=20)
    model = backbone.model
    names = torch.zeros(3, small_study.CONFIG["embed"])
    for template in task.templates:
        tokens = backbone.tokenizer([template.format(name) for name in task.classes])
        names += model.encode_text(tokens, normalize=True)
    pictures = task.test.images.float() / 127.5 - 1
    images = model.encode_image(pictures, normalize=True)
    answers = (images @ names.T / names.norm(dim=1)).argmax(dim=1)
    found = features.compute(backbone, task, SELECTOR)
    assert torch.equal(found.zero_shot, answers)
    assert len(answers.unique()) > 1


@torch.no_grad()
def test_the_cls_token_is_what_open_clip_projects() -> None:
    backbone, task = small_study.backbone(), small_study.task(1)
    pictures = preprocess(task.train.images, backbone.mean, backbone.std)
    found = ClsToken(backbone)(pictures)
    projection: Any = backbone.model.visual.proj
    assert found.shape == (18, small_study.CONFIG["width"])
    assert torch.equal(found @ projection, backbone.model.encode_image(pictures))
    known = features.compute(backbone, task, SELECTOR)
    torch.testing.assert_close(known.train, found)
    assert known.test.shape == (12, small_study.CONFIG["width"])


def test_batches_change_nothing_but_rounding() -> None:
    backbone, task = small_study.backbone(), small_study.task(1)
    whole, parts = (features.extract(ClsToken(backbone), task.train, backbone, batch) for batch in (256, 5))
    torch.testing.assert_close(whole, parts)
    assert torch.equal(features.extract(ClsToken(backbone), task.train.images, backbone), whole)


def test_alexnet_features_are_those_of_the_fifth_convolution() -> None:
    torch.manual_seed(0)
    module = AlexNetFeatures(pretrained=False)
    images = torch.rand(2, 3, 224, 224)
    found = module(images)
    assert found.shape == (2, 43264)
    assert not found.requires_grad
    assert found.min() < 0  # before the ReLU
    assert torch.equal(found, module.convolutions(images).flatten(1))
    assert module(torch.rand(1, 3, 32, 32)).shape == (1, 43264)


def test_alexnet_without_a_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models.alexnet", refuse)
    with pytest.raises(OSError, match="could not be downloaded .no route to host.; use selector.features: clip"):
        features.selector_features(small_study.backbone(), "alexnet")


def test_alexnet_changes_the_selectors_features_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "AlexNetFeatures", lambda: torch.nn.Flatten())
    backbone, task = small_study.backbone(), small_study.task(0)
    plain = features.compute(backbone, task, SELECTOR)
    other = features.compute(backbone, task, replace(SELECTOR, features="alexnet"))
    assert torch.equal(other.zero_shot, plain.zero_shot)
    assert torch.equal(other.test, preprocess(task.test.images, backbone.mean, backbone.std).flatten(1))
    assert other.train.shape == (18, 3 * 32 * 32)


def equal(one: Features, two: Features) -> bool:
    return all(torch.equal(tensor, getattr(two, part)) for part, tensor in vars(one).items())


def test_round_trip_and_damage(tmp_path: Path) -> None:
    known, file = small_study.sequence()[1][0], tmp_path / "deep" / "red.safetensors"
    features.save(known, file)
    assert equal(features.load(file), known)
    file.write_bytes(file.read_bytes()[:-3])
    for gone in (file, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=f"{gone} holds no features .*; the stage `zero_shot` makes them"):
            features.load(gone)


def test_features_that_are_not_there_are_computed_once(home: Path) -> None:
    made, known = small_study.sequence()
    asked = []

    def backbone() -> Backbone:
        asked.append(1)
        return small_study.backbone()

    for _ in range(2):
        torch.set_num_threads(small_study.study().compute.threads + 1)
        found = features.ensure(small_study.study(), backbone, made)
        assert torch.get_num_threads() == small_study.study().compute.threads
        assert all(equal(one, two) for one, two in zip(found, known, strict=True))
    assert len(asked) == 1
    assert features.path("tiny", "blue") == home / "data" / "tiny" / "features" / "blue.safetensors"


def test_image_features_are_clips_own_at_unit_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "AlexNetFeatures", lambda: torch.nn.Flatten())
    backbone, task = small_study.backbone(), small_study.task(2)
    known = features.compute(backbone, task, SELECTOR)
    other = features.compute(backbone, task, replace(SELECTOR, features="alexnet"))
    for split, found in ((task.train, known.image_train), (task.test, known.image_test)):
        with torch.no_grad():
            pictures = preprocess(split.images, backbone.mean, backbone.std)
            expected = backbone.model.encode_image(pictures, normalize=True)
        torch.testing.assert_close(found, expected)
    assert torch.equal(other.image_train, known.image_train)  # whatever the selector's are
    assert torch.equal(other.image_test, known.image_test)
    assert torch.equal(features.zero_shot(backbone, task, known.image_test), known.zero_shot)


def test_features_of_the_reference_pictures_are_made_where_the_selector_wants_them(home: Path) -> None:
    made, wanting = small_study.sequence()[0][:1], small_study.study({"selector.reference": True})
    features.prepare(small_study.study(), small_study.backbone(), made)
    assert not features.path("tiny", features.REFERENCE).exists()
    with pytest.raises(ValueError, match="_reference.safetensors is missing; the stage `tasks` makes it"):
        features.prepare(wanting, small_study.backbone(), made)
    small_study.prepare(home)
    features.ensure(wanting, small_study.backbone, made)  # the tasks' are there, the reference's are not
    backbone, others = small_study.backbone(), small_study.others().images
    expected = features.extract(ClsToken(backbone), others, backbone)
    assert torch.equal(features.load_reference("tiny"), expected)
    assert expected.shape == (8, small_study.CONFIG["width"])


def test_wide_features_are_kept_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, pictures = small_study.backbone(), small_study.task(0).test
    tower = features.ClsToken(backbone)
    exact = features.extract(tower, pictures, backbone)
    monkeypatch.setattr(features, "WIDE", exact.shape[1])
    half = features.extract(tower, pictures, backbone)
    assert half.dtype == torch.float16
    assert torch.equal(half, exact.half())
