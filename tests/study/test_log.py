"""Where numbers come from: what notebooks print and cost files keep."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from lib.study import log


def test_cost_files_keep_machine_versions_and_revision() -> None:
    origin = log.origin()
    assert set(origin) == {"machine", "versions", "revision"}
    assert set(origin["machine"]) == {"system", "processor", "cores"}  # nothing that names it or its user
    assert origin["machine"]["cores"] == os.cpu_count()
    assert set(origin["versions"]) == {"python", *log.PACKAGES}


def test_the_revision_is_the_commit_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "ROOT", tmp_path)
    assert log.revision() == "unknown"  # no checkout, as when unpacked from an archive
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    commits = subprocess.run([*git, "log", "--format=%H"], capture_output=True, text=True, check=True)
    assert log.revision() == commits.stdout.strip()
    monkeypatch.setenv("PATH", "")  # no git
    assert log.revision() == "unknown"


def test_costs_of_a_runs_tasks_gather_in_one_file(tmp_path: Path) -> None:
    file, seconds = tmp_path / "cost.json", {"training": 1.234, "evaluation": 0.5}
    spent: dict[str, float | None] = {"peak_memory_mb": 100.4, "peak_gpu_memory_mb": None}
    log.write_cost(file, "red", seconds, spent | {"encoded_pictures": 7})
    log.write_cost(file, "green", seconds, spent | {"peak_memory_mb": 101.0})
    cost = json.loads(file.read_text())
    assert cost["seconds"] == {task: {"training": 1.23, "evaluation": 0.5} for task in ("red", "green")}
    assert cost["peak_memory_mb"] == {"red": 100, "green": 101}
    assert cost["encoded_pictures"] == {"red": 7}
    assert set(cost) == {"seconds", "peak_memory_mb", "encoded_pictures", *log.origin()}
    assert log.peak_memory_mb() > 50
