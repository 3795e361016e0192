"""One coordinator at a time: the second is told who runs, and a killed one leaves no lock behind."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lib.study.paths import ROOT
from tools.stages import run as study
from tools.stages.lock import BusyError, alone

HOLDER = """
import sys, time
from pathlib import Path
from tools.stages.lock import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(120)
"""


def holder(path: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLDER, str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_coordinator_is_told_who_runs_where_and_since_when(tmp_path: Path) -> None:
    path = tmp_path / "tmp" / "study.lock"
    with holder(path) as first:
        with pytest.raises(BusyError) as error, alone(path):
            pytest.fail("there are two")
        first.kill()
    assert f"a study runs here already: process {first.pid} on {socket.gethostname()}, since " in str(error.value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_a_killed_coordinator_leaves_no_lock(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "study.lock"
    with holder(path) as first:
        first.send_signal(number)
    with alone(path):
        assert path.read_text().startswith(f"process {os.getpid()} on")
    with alone(path):
        pass  # let go at the end of the block, too


def test_a_study_that_is_second_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, written = tmp_path / "study.lock", []
    monkeypatch.setattr(study, "alone", lambda: alone(path))
    monkeypatch.setattr(study.plan, "write", lambda: written.append("the plan"))
    monkeypatch.setattr(sys, "argv", ["tools.stages.run", "--study", "short"])
    with holder(path) as first:
        assert study.main() == 2
        first.kill()
    assert f"error: a study runs here already: process {first.pid}" in capsys.readouterr().err
    assert written == []
