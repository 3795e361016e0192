"""What a stage of the study refuses, before any training: bad input, foreign and damaged parents; and bad losses."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.methods.moe_adapters import MoEAdapters
from lib.study import stage as learn
from lib.study.checkpoint import CheckpointError
from lib.study.train import TrainingError
from tests.support import small_study
from tests.support.small_run import chain, held, result, study, untouched


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_study.move(monkeypatch, tmp_path)
    small_study.prepare(tmp_path)
    return tmp_path


def test_a_loss_that_is_not_a_number_keeps_the_last_good_state(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learn.learn(study(by_task=True), chain()[0])
    good = held(home, chain()[0])
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(MoEAdapters, "loss", lambda *_: nan)
    with pytest.raises(TrainingError, match="not a number at step 0 of task green"):
        learn.learn(study(by_task=True), chain()[1])
    assert held(home, chain()[0]) == good
    assert not (home / "data" / "tiny" / "runs" / chain()[1]).exists()
    assert not list((home / "data" / "tiny" / "scratch").rglob("*.safetensors"))
    assert not result(home).exists()


WRONG = [
    ("moe_adapters--I--s7", {}, "study tiny has no stage 'moe_adapters--I--s7'; it has: moe_adapters--I--s0"),
    (
        "moe_adapters--I--s0",
        {"methods.moe_adapters": small_study.MOE | {"top_k": 9}},
        "top_k is 9; choose 1 to 4",
    ),
    (
        "moe_adapters--I--s0",
        {"methods.moe_adapters": small_study.MOE | {"lr": {"red": 0.1, "green": 0.1}}},
        "lr has no entry for task blue; it has: red, green",
    ),
    ("moe_adapters--I--s0", {"methods.moe_adapters": {"lr": 0.1}}, "missing key balance, bottleneck"),
    ("moe_adapters--I--s0", {"tasks.orders": {"I": ["red", "rot"]}}, "rot.safetensors is no prepared task"),
    (
        "magic--I--s0",
        {"methods.magic": {}, "runs": {"magic": {"seeds": [0], "set": {}}}},
        "run magic: there is no method 'magic'; there are: zero_shot,",
    ),
    (
        "moe_adapters--I--s0",
        {"runs": {"moe_adapters": {"seeds": [0], "set": {"shots": 7}}}},
        "task red: class across has 6 training pictures, fewer than 7",
    ),
    (
        "moe_adapters--I--s0",
        {"runs": {"moe_adapters": {"seeds": [0], "set": {"cut": 2}}}},
        "task red has 3 classes: too few to cut it into 2 tasks",
    ),
]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("key", "changes", "message"), WRONG)
def test_bad_input_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, key: str, changes: dict[str, Any], message: str
) -> None:
    untouched(monkeypatch)
    with pytest.raises(ValueError, match=message):
        learn.learn(study(changes=changes), key)


def test_a_missing_damaged_or_foreign_parent_is_refused_before_training(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        untouched(patch)
        with pytest.raises(CheckpointError, match=f"no checkpoint .*{chain()[0]}; the stages before this one"):
            learn.learn(study(by_task=True), chain()[1])
    for seed in (0, 1):
        learn.learn(study(by_task=True, seeds=[seed]), chain(seed)[0])
    untouched(monkeypatch)
    first, other = (home / "data" / "tiny" / "runs" / chain(seed)[0] for seed in (0, 1))
    with pytest.raises(CheckpointError, match="belongs to run moe_adapters with .*'lr': 0.01.* not .*'lr': 0.5"):
        learn.learn(study(by_task=True, set={"lr": 0.5}), chain()[1])
    shutil.copytree(first, first.with_name(chain()[1]))
    with pytest.raises(CheckpointError, match=r"'I', 0, \['red'\]\), not .*'I', 0, \['red', 'green'\]\)"):
        learn.learn(study(by_task=True), chain()[2])
    with monkeypatch.context() as patch:
        foreign = dataclasses.replace(small_study.backbone(), fingerprint="f" * 64)
        patch.setattr(learn, "load_clip", lambda model, pretrained: foreign)
        with pytest.raises(CheckpointError, match="belongs to another backbone .*, not ffffffffffff"):
            learn.learn(study(by_task=True), chain()[1])
    (first / "state.safetensors").write_bytes((first / "state.safetensors").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="state.safetensors is damaged"):
        learn.learn(study(by_task=True), chain()[1])
    shutil.rmtree(first)
    shutil.copytree(other, first)
    with pytest.raises(CheckpointError, match=r"\(study, order, seed, tasks\) .*'I', 1, .* not .*'I', 0,"):
        learn.learn(study(by_task=True), chain()[1])


def test_a_clip_with_other_weights_than_the_study_began_with(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    untouched(monkeypatch)
    noted = home / "data" / "tiny" / "backbone.json"
    noted.write_text(json.dumps({"model": "tiny", "fingerprint": "0123456789abcdef"}))
    with pytest.raises(ValueError, match="tiny has other weights .* than when the study began .0123456789ab"):
        learn.learn(study(), "moe_adapters--I--s0")
