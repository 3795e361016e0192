"""What the frozen CLIP computes for a task: open_clip's own answers and features, their files, when they are made."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lib.clip.backbone import Backbone
from lib.data import frozen
from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.selector.features import ClsToken, extract
from lib.study.opened import REFERENCE
from tests.support import small_study

WIDTH = small_study.CONFIG["width"]


@torch.no_grad()
def answers(backbone: Backbone, task: Task) -> torch.Tensor:
    """The test answers (N,), with open_clip's functions alone."""
    model, names = backbone.model, torch.zeros(len(task.classes), small_study.CONFIG["embed"])
    for template in task.templates:
        names += model.encode_text(backbone.tokenizer([template.format(name) for name in task.classes]), normalize=True)
    images = model.encode_image(task.test.images.float() / 127.5 - 1, normalize=True)
    return (images @ names.T / names.norm(dim=1)).argmax(dim=1)


def equal(one: Features, two: Features) -> bool:
    return all(torch.equal(tensor, getattr(two, part)) for part, tensor in vars(one).items())


def test_zero_shot_answers_are_open_clips_own() -> None:
    backbone, task = small_study.backbone(), small_study.task(0, test=20)
    expected = answers(backbone, task)
    assert torch.equal(frozen.compute(backbone, task, "clip").zero_shot, expected)
    assert len(expected.unique()) > 1


@torch.no_grad()
def test_features_are_open_clips_own() -> None:
    backbone, task = small_study.backbone(), small_study.task(2)
    projection: Any = backbone.model.visual.proj
    features = frozen.compute(backbone, task, "clip")
    for split, token, image in (
        (task.train, features.train, features.image_train),
        (task.test, features.test, features.image_test),
    ):
        pictures = split.images.float() / 127.5 - 1
        torch.testing.assert_close(image, backbone.model.encode_image(pictures, normalize=True))
        torch.testing.assert_close(token @ projection, backbone.model.encode_image(pictures))
        assert token.shape == (len(split), WIDTH)


def test_alexnet_changes_the_selectors_features_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.selector.features.AlexNetFeatures", torch.nn.Flatten)
    backbone, task = small_study.backbone(), small_study.task(0)
    clip, alexnet = (frozen.compute(backbone, task, kind) for kind in ("clip", "alexnet"))
    for part in ("zero_shot", "image_train", "image_test"):
        assert torch.equal(getattr(alexnet, part), getattr(clip, part))
    torch.testing.assert_close(alexnet.test, (task.test.images.float() / 127.5 - 1).flatten(1))
    assert alexnet.train.shape == (18, 3 * 32 * 32)


def test_round_trip_and_damage(tmp_path: Path) -> None:
    features, file = small_study.sequence()[1][0], tmp_path / "deep" / "red.safetensors"
    frozen.save(features, file)
    assert equal(frozen.load(file), features)
    with pytest.raises(ValueError, match=f"{file} holds no features"):
        frozen.load_reference(file)
    file.write_bytes(file.read_bytes()[:-3])
    for bad in (file, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=f"{bad} holds no features"):
            frozen.load(bad)


def test_missing_features_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_study.prepare(tmp_path)
    for file in (tmp_path / "data" / "tiny" / "features").iterdir():
        file.unlink()
    features = small_study.open_at(tmp_path).features
    assert all(equal(one, two) for one, two in zip(features, small_study.sequence()[1], strict=True))
    monkeypatch.setattr(frozen, "compute", None)
    assert equal(small_study.open_at(tmp_path).features[2], features[2])


def test_features_of_the_reference_set_are_made_where_the_selector_needs_them(tmp_path: Path) -> None:
    small_study.prepare(tmp_path)
    opened = small_study.open_at(tmp_path)
    opened.prepare_features()
    assert not opened.feature_file(REFERENCE).exists()
    wanting = small_study.open_at(tmp_path, small_study.study({"selector.reference": True}))
    wanting.ensure()  # the tasks' features are there already
    backbone, others = small_study.backbone(), small_study.others().images
    features = wanting.context().reference_features()
    assert torch.equal(features, extract(ClsToken(backbone), others, backbone))
    assert features.shape == (8, WIDTH)
