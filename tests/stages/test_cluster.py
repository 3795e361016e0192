"""The cluster that a coordinator reaches or starts: who answers, what ends with it, what SLURM and the settings say."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from lib.settings import ParamsError
from lib.study.paths import ROOT
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
    with cluster.ready("local", cluster.load(), 1) as address:
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


def test_without_workers_yet_it_is_said_how_to_start_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = SimpleNamespace(dashboard_link="there", run=lambda *_: {})
    monkeypatch.setattr(cluster, "connected", lambda _: nullcontext(client))
    cluster.inspect("tcp://host:1")
    assert "`dask worker tcp://host:1 --nthreads 1`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("where", "message"),
    [("slrum", "'slrum'; it must be local, slurm or an address"), ("tcp://127.0.0.1:1", "no scheduler answers at tcp")],
)
def test_a_scheduler_that_is_not_there(where: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 0.5)
    with pytest.raises(ClusterError, match=message), cluster.ready(where, cluster.load(), 1):
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


def test_a_job_of_slurm_asks_for_what_the_settings_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster, "DASHBOARD", 0)
    monkeypatch.setattr(cluster, "ROOT", tmp_path)
    settings = cluster.load()
    more = {"queue": "gpu", "interface": "lo", "job_script_prologue": ["module load cuda"]}
    with cluster.slurm(replace(settings, slurm=settings.slurm | more, lost_workers=5)) as made:
        script = made.job_script().splitlines()
        assert made.scheduler.allowed_failures == 5
    for line in ("-p gpu", "--cpus-per-task=8", "--mem=30G", "-t 24:00:00", "--gres=gpu:1"):
        assert f"#SBATCH {line}" in script
    assert "module load cuda" in script
    assert "--nthreads 1" in script[-1]
    assert sys.executable in script[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages_at_once": 0}, "stages_at_once.*0"),
        ({"lost_workers": "some"}, "lost_workers.*some"),
        ({"workers": 3}, "workers"),
        ({"slurm": 3}, "slurm.*3"),
        ({"minimum": 4, "maximum": 3}, "maximum is 3; it must be 4 or more"),
    ],
)
def test_settings_are_read_strictly(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load((ROOT / "cluster.yaml").read_text()) | change))
    with pytest.raises(ParamsError, match=f"cluster.yaml.*{message}"):
        cluster.load(file)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Dask's own, of half a cluster
def test_an_unknown_argument_of_slurm_is_named() -> None:
    settings = cluster.load()
    with pytest.raises(ClusterError, match="colour"):
        cluster.slurm(replace(settings, slurm=settings.slurm | {"colour": "red"}))
