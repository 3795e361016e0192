"""What a stage of the study refuses before any training: bad input, foreign and damaged parents; and bad losses."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.methods.moe_adapters import MoEAdapters
from lib.study import opened
from lib.study.checkpoint import CheckpointError
from lib.study.train import TrainingError
from tests.support import small_study
from tests.support.small_run import KEY, chain, held, learn, result, study, untouched


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = study(by_task=True)
    learn(home, chain()[0], made)
    good = held(home, chain()[0])
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(MoEAdapters, "loss", lambda *_: nan)
    with pytest.raises(TrainingError, match="step 0 of task green"):
        learn(home, chain()[1], made)
    assert held(home, chain()[0]) == good
    assert not (home / "data" / "tiny" / "runs" / chain()[1]).exists()
    assert not list((home / "data" / "tiny" / "scratch").rglob("*.safetensors"))
    assert not result(home).exists()


def run_with(**settings: int) -> dict[str, Any]:
    """The changes that give the run these settings."""
    return {"runs": {"moe_adapters": {"seeds": [0], "set": settings}}}


WRONG = {
    "an unknown stage": ("moe_adapters--I--s7", {}, "'moe_adapters--I--s7'; it has: moe_adapters--I--s0"),
    "a block that is not there": (KEY, {"methods.moe_adapters": small_study.MOE | {"image_blocks": [7]}}, "7.* 0 to 1"),
    "a task without a rate": (KEY, {"methods.moe_adapters": small_study.MOE | {"lr": {"red": 0.1}}}, "green.*red"),
    "no settings": (KEY, {"methods.moe_adapters": {"lr": 0.1}}, "missing key"),
    "a task without pictures": (KEY, {"tasks.orders": {"I": ["rot"]}}, "rot/train is missing"),
    "more pictures than there are": (KEY, run_with(shots=7), "red: class across has 6 .*7"),
    "a cut too fine": (KEY, run_with(cut=2), "red has 3 classes"),
}


@pytest.mark.parametrize(("key", "changes", "words"), WRONG.values(), ids=WRONG)
def test_bad_input_is_refused_before_training(
    home: Path, monkeypatch: pytest.MonkeyPatch, key: str, changes: dict[str, Any], words: str
) -> None:
    untouched(monkeypatch)
    with pytest.raises(ValueError, match=words):
        learn(home, key, study(changes=changes))


def test_a_missing_damaged_or_foreign_parent_is_refused_before_training(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(by_task=True)
    with pytest.raises(CheckpointError, match=f"no checkpoint .*{chain()[0]}"):
        learn(home, chain()[1], made)
    for seed in (0, 1):
        learn(home, chain(seed)[0], study(by_task=True, seeds=[seed]))
    untouched(monkeypatch)
    first, other = (home / "data" / "tiny" / "runs" / chain(seed)[0] for seed in (0, 1))
    with pytest.raises(CheckpointError, match="'lr': 0.01.* not .*'lr': 0.5"):
        learn(home, chain()[1], study(by_task=True, set={"lr": 0.5}))
    shutil.copytree(first, first.with_name(chain()[1]))
    with pytest.raises(CheckpointError, match=r"\['red'\]\), not .*\['red', 'green'\]\)"):
        learn(home, chain()[2], made)
    foreign = small_study.open_at(home, made)
    foreign.backbone = dataclasses.replace(small_study.backbone(), fingerprint="f" * 64)
    with pytest.raises(CheckpointError, match="another backbone .*, not ffffffffffff"):
        foreign.learn(chain()[1])
    state = first / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="state.safetensors is damaged"):
        learn(home, chain()[1], made)
    shutil.rmtree(first)
    shutil.copytree(other, first)
    with pytest.raises(CheckpointError, match="'I', 1, .* not .*'I', 0,"):
        learn(home, chain()[1], made)


def test_a_clip_with_other_weights_than_the_study_began_with(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "load_clip", lambda *_: small_study.backbone())
    noted = home / "data" / "tiny" / "backbone.json"
    noted.write_text(json.dumps({"model": "tiny", "fingerprint": "0123456789abcdef"}))
    with pytest.raises(ValueError, match="tiny has other weights .*0123456789ab"):
        opened.OpenStudy(study(), home).learn(KEY)
