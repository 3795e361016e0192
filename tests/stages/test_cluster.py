"""The cluster that a coordinator reaches or starts: who answers, what it is sent, what ends with it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lib.study.studies import ROOT
from tests.support.loopback import SLEEPER, has_ended, seen, until
from tools.stages import cluster, engine
from tools.stages.cluster import ClusterError
from tools.stages.processes import SCHEDULER

# a coordinator with a local cluster of one worker, which runs a command
COORDINATOR = """
import signal, sys
from tools.stages import cluster
cluster.DASHBOARD = 0
signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background it is ignored
if __name__ == "__main__":
    with cluster.ready("local", 1) as address:
        cluster.run_on_worker(address, "stage", [sys.executable, "-c", *sys.argv[1:]])
"""


def test_a_notebook_is_sent_as_the_command_that_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(cluster, "run_on_worker", lambda *given: sent.append(given) or 7)
    monkeypatch.setenv(SCHEDULER, "tcp://there:8786")
    arguments = ["notebooks/05_learn.ipynb", "reports/notebooks/short/05_learn--one.ipynb", "--engine", "study"]
    monkeypatch.setattr(sys, "argv", ["papermill", *arguments])
    with pytest.raises(SystemExit) as ended:
        engine._run_on_cluster(Path(arguments[1]))
    assert ended.value.code == 7
    assert sent == [("tcp://there:8786", "short--05_learn--one", [sys.executable, "-m", "papermill", *arguments])]


@pytest.mark.parametrize(
    ("where", "message"),
    [("slrum", "'slrum'; it must be local or an address"), ("tcp://127.0.0.1:1", "no scheduler answers at tcp")],
)
def test_a_scheduler_that_is_not_there(where: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 0.5)
    with pytest.raises(ClusterError, match=message), cluster.ready(where, 1):
        pytest.fail("there is none")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_a_local_cluster_ends_with_its_coordinator(tmp_path: Path, number: signal.Signals) -> None:
    file, script = tmp_path / "processes", tmp_path / "coordinator.py"
    script.write_text(COORDINATOR)
    command = [sys.executable, str(script), SLEEPER, str(file), "9"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as coordinator:
        until(lambda: seen(file))
        if number == signal.SIGKILL:
            coordinator.kill()
        else:
            os.killpg(coordinator.pid, number)  # as a terminal does it
        output, errors = coordinator.communicate(timeout=60)
    assert "dashboard http://127.0.0.1:" in output
    assert errors.count("Traceback") <= 1, f"a worker prints something too: {errors}"
    until(lambda: all(has_ended(process) for process in seen(file)[0]))
