"""Checkpoints: whole or not there, and refused where they do not belong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lib.study import checkpoint
from lib.study.checkpoint import About, CheckpointError
from lib.study.evaluate import Row

STATE = {
    "experts": torch.arange(6.0).view(2, 3).T,
    "count": torch.tensor(3),
    "frozen": torch.tensor([True, False]),
}
SETTINGS = {"lr": 0.001, "blocks": [0, 1]}


def about(**changes: object) -> About:
    rows = [Row({"sample": [50.0, 25.0]}, {"sample": [[3, 1], [0, 4]]})]
    given = {"study": "tiny", "run": "adapter", "order": "I", "seed": 0, "backbone": "ab" * 32}
    given |= {"settings": SETTINGS, "tasks": ["red"], "rows": rows, "losses": [[2.5, 1.25]]} | changes
    return About(**given)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "runs" / "first", about(), STATE)
    return tmp_path / "runs" / "first"


def load(folder: Path, backbone: str = "ab" * 32, run: str = "adapter") -> tuple[About, dict[str, Tensor]]:
    return checkpoint.load(folder, backbone, run, SETTINGS)


def test_round_trip(folder: Path) -> None:
    found, state = load(folder)
    assert found == about(tensors=found.tensors, itself=found.itself)
    assert isinstance(found.rows[0], Row)
    assert set(state) == set(STATE)
    assert all(torch.equal(state[name], tensor) for name, tensor in STATE.items())


def test_same_content_same_bytes(folder: Path, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "second", about(), STATE)
    for name in ("about.json", "state.safetensors"):
        assert (tmp_path / "second" / name).read_bytes() == (folder / name).read_bytes()
    assert sorted(p.name for p in folder.iterdir()) == ["about.json", "state.safetensors"]  # nothing pickled


def test_an_older_one_is_replaced_and_nothing_partial_stays(folder: Path) -> None:
    (folder.with_name("first.partial")).mkdir()
    (folder.with_name("first.partial") / "rest").write_text("of a killed run")
    checkpoint.save(folder, about(tasks=["red", "green"]), {"other": torch.ones(1)})
    found, state = load(folder)
    assert found.tasks == ["red", "green"]
    assert list(state) == ["other"]
    assert [p.name for p in folder.parent.iterdir()] == ["first"]


def test_a_kill_while_writing_leaves_the_last_whole_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(folder, about(tasks=["red", "green"]), STATE)
    assert load(folder)[0].tasks == ["red"]


def test_a_missing_one_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"no checkpoint {tmp_path}/gone; the stages before this one make it"):
        load(tmp_path / "gone")


def cut_tensors(folder: Path) -> None:
    file = folder / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def cut_about(folder: Path) -> None:
    file = folder / "about.json"
    file.write_text(file.read_text()[:-20])


def without_tensors(folder: Path) -> None:
    (folder / "state.safetensors").unlink()


def binary(folder: Path) -> None:
    (folder / "about.json").write_bytes(b"\xff\xfe\x00")


def listed(folder: Path) -> None:
    (folder / "about.json").write_text("[1]")


def without_rows(folder: Path) -> None:
    file = folder / "about.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "rows"}))


def newer(folder: Path) -> None:
    file = folder / "about.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 99}))


DAMAGE = [
    (cut_tensors, "state.safetensors is damaged: its hash is not"),
    (cut_about, "is no whole checkpoint"),
    (without_tensors, "is no whole checkpoint"),
    (binary, "is no whole checkpoint"),
    (listed, "is no whole checkpoint"),
    (without_rows, "is no whole checkpoint"),
    (newer, "has version 99, this code reads 2"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_damaged_one_is_refused(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=f"{folder}.*{message}.*; delete it and run the study again"):
        load(folder)


def test_another_backbones_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{folder} belongs to another backbone .abababababab, not cccccccccccc."):
        load(folder, backbone="c" * 64)


def test_another_runs_or_other_settings_are_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="belongs to run adapter with .* not finetune with"):
        load(folder, run="finetune")
    with pytest.raises(CheckpointError, match="belongs to run adapter with .*0.001.* not adapter with .*0.5"):
        checkpoint.load(folder, "ab" * 32, "adapter", SETTINGS | {"lr": 0.5})
