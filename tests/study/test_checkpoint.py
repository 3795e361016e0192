"""Checkpoints and small JSONs: whole or not there, and the same bytes for the same content.

Which ones are refused stands in one table, tests/project/test_bad_input.py.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lib.study import checkpoint
from lib.study.checkpoint import About
from lib.study.train import Row

STATE = {"experts": torch.arange(6.0).view(2, 3).T, "count": torch.tensor(3), "frozen": torch.tensor([True, False])}
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


def load(folder: Path) -> tuple[About, dict[str, Tensor]]:
    return checkpoint.load(folder, "ab" * 32, "adapter", SETTINGS)


def test_what_is_written_is_read(folder: Path) -> None:
    read, state = load(folder)
    assert read == about(tensors=read.tensors, itself=read.itself)
    assert isinstance(read.rows[0], Row)
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
    read, state = load(folder)
    assert read.tasks == ["red", "green"]
    assert list(state) == ["other"]
    assert [p.name for p in folder.parent.iterdir()] == ["first"]


def test_a_kill_while_writing_leaves_the_last_whole_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(folder, about(tasks=["red", "green"]), STATE)
    assert load(folder)[0].tasks == ["red"]
