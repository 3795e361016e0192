"""What a stage of the study refuses before any training: bad input, foreign and damaged progress; and bad losses."""

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
from tests.support.small_run import KEY, interrupt, learn, result, study, untouched


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(lambda: learn(home), 1)
    good = progress(home).joinpath("state.safetensors").read_bytes()
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(MoEAdapters, "loss", lambda *_: nan)
    with pytest.raises(TrainingError, match="step 0 of task green"):
        learn(home)
    assert progress(home).joinpath("state.safetensors").read_bytes() == good
    assert not result(home).exists()


def progress(home: Path, seed: int = 0) -> Path:
    """The checkpoint of an interrupted run after its first task."""
    return next(home.glob(f"data/tiny/scratch/moe_adapters--I--s{seed}/*/0"))


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


def test_damaged_or_foreign_progress_is_refused_before_training(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (0, 1):
        interrupt(lambda seed=seed: learn(home, f"moe_adapters--I--s{seed}"), 1)
    first, other = progress(home), progress(home, 1)
    untouched(monkeypatch)
    foreign = small_study.open_at(home, study())
    stage = foreign.stage(KEY)
    for about, words in (
        (dataclasses.replace(stage.about, settings={"lr": 0.5}), "'lr': 0.01.* not .*'lr': 0.5"),
        (dataclasses.replace(stage.about, backbone="f" * 64), "another backbone .*, not ffffffffffff"),
        (dataclasses.replace(stage.about, order="II"), "'I', 0, .* not .*'II', 0,"),
    ):
        with pytest.raises(CheckpointError, match=words):
            dataclasses.replace(stage, about=about)._restored(first, ["red"])
    with pytest.raises(CheckpointError, match=r"\['red'\]\), not .*\['red', 'green'\]\)"):
        stage._restored(first, ["red", "green"])
    state = first / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="state.safetensors is damaged"):
        learn(home)
    shutil.rmtree(first)
    shutil.copytree(other, first)
    with pytest.raises(CheckpointError, match="'I', 1, .* not .*'I', 0,"):
        learn(home)


def test_a_clip_with_other_weights_than_the_study_began_with(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "load_clip", lambda *_: small_study.backbone())
    noted = home / "data" / "tiny" / "backbone.json"
    noted.write_text(json.dumps({"model": "tiny", "fingerprint": "0123456789abcdef"}))
    with pytest.raises(ValueError, match="tiny has other weights .*0123456789ab"):
        opened.OpenStudy(study(), home).learn(KEY)
