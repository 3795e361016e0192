"""Result files: what they hold, and that they are written whole or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest

from lib import files
from lib.files import write_json
from lib.study.checkpoint import About
from lib.study.stage import result
from lib.study.train import Row

ROWS = [
    Row({"sample": [90.0, 40.0], "oracle": [92.0, 40.0]}, {"sample": [[3, 1], [0, 4]]}),
    Row({"sample": [70.0, 80.0], "oracle": [91.0, 85.0]}, {"sample": [[3, 1, 0], [0, 4, 0]]}),
]


def content(run: str = "moe_adapters+no_freeze", seed: int = 0, rows: int = 2) -> dict[str, Any]:
    tasks = ["red", "green"][:rows]
    about = About("tiny", run, "I", seed, "ab", {}, tasks, ROWS[:rows], [[2.0], [1.0]][:rows])
    size = {"trainable_parameters": 5, "stored_bytes": 20}
    return result(about, [3, 4], size, {"experts": {}}, None)


def test_a_result_by_hand() -> None:
    made = content()
    assert (made["method"], made["variant"], made["classes"]) == ("moe_adapters", "no_freeze", [3, 4])
    assert made["accuracy"]["sample"] == [[90.0, 40.0], [70.0, 80.0]]
    assert made["transfer"] == {"sample": 40.0, "oracle": 40.0}
    assert made["average"] == {"sample": 70.0, "oracle": 77.0}
    assert made["last"] == {"sample": 75.0, "oracle": 88.0}
    assert made["forgetting"] == {"sample": 20.0, "oracle": 1.0}
    assert made["routed"] == {"sample": [[[3, 1], [0, 4]], [[3, 1, 0], [0, 4, 0]]]}
    assert (made["trainable_parameters"], made["losses"], made["experts"]) == (5, [[2.0], [1.0]], {})


def test_in_the_middle_of_a_sequence_the_learned_tasks_count() -> None:
    made = content(rows=1)
    assert made["last"] == {"sample": 90.0, "oracle": 92.0}
    assert made["accuracy"]["sample"] == [[90.0, 40.0]]
    assert made["transfer"]["sample"] is None  # nan is no JSON


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "one.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": 1}
    write_json(file, {"a": 2})
    assert file.read_text() == '{\n "a": 2\n}\n'
    assert [p.name for p in file.parent.iterdir()] == ["one.json"]


def test_a_kill_before_the_renaming_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    write_json(tmp_path / "one.json", {"a": 1})
    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_json(tmp_path / "one.json", {"a": 2})
    assert json.loads((tmp_path / "one.json").read_text()) == {"a": 1}
