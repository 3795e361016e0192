"""Where numbers come from: what notebooks print and cost files keep."""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from lib.study import log


def test_a_notebook_says_its_versions_and_parameters() -> None:
    text = log.provenance(seed=3, params="params.yaml")
    for part in (f"torch {version('torch')}", f"open_clip {version('open_clip_torch')}", log.revision()[:12]):
        assert part in text
    assert text.endswith("seed = 3, params = params.yaml")


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
