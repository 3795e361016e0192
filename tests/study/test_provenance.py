"""Where numbers come from: what notebooks print and cost files keep."""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from lib.study import provenance


def test_a_notebook_says_its_versions_and_parameters() -> None:
    found = provenance.provenance(seed=3, params="params.yaml")
    assert f"torch {version('torch')}" in found
    assert f"open_clip {version('open_clip_torch')}" in found
    assert provenance.revision()[:12] in found
    assert found.endswith("seed = 3, params = params.yaml")


def test_cost_files_keep_machine_versions_and_revision() -> None:
    found = provenance.origin()
    assert set(found) == {"machine", "versions", "revision"}
    assert found["machine"]["cores"] == os.cpu_count()
    assert found["revision"] == provenance.revision()
    assert found["versions"]["torch"] == version("torch")
    assert set(found["versions"]) == {"python", *provenance.PACKAGES}


def test_the_revision_is_the_commit_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.revision() == "unknown"  # no checkout, as when unpacked from an archive
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    log = subprocess.run([*git, "log", "--format=%H"], capture_output=True, text=True, check=True)
    assert provenance.revision() == log.stdout.strip()
    assert len(provenance.revision()) == 40


def test_without_git_the_revision_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.revision() == "unknown"
