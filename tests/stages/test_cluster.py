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
from tools.stages import cluster, notebooks
from tools.stages.cluster import ClusterError
from tools.stages.slots import SCHEDULER

# a coordinator with a local cluster of one worker, which runs a command
COORDINATOR = """
import signal, sys
from pathlib import Path
from lib import cluster
cluster.LOCK, cluster.DASHBOARD = Path(sys.argv[1]), 0
signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background it is ignored
if __name__ == "__main__":
    with cluster.ready("local", cluster.load(), 1) as address:
        cluster.send(address, "stage", ["-c", *sys.argv[2:]])
"""


def test_a_notebook_is_sent_as_the_command_that_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(cluster, "send", lambda *given: sent.append(given) or 7)
    monkeypatch.setattr(notebooks, "end_with_parent", lambda: None)
    monkeypatch.setattr(notebooks.signal, "signal", lambda *_: None)
    monkeypatch.setenv(SCHEDULER, "tcp://there:8786")
    given = ["-p", "params", "studies/short/params.yaml", "-p", "item", "one"]
    arguments = ["run", "notebooks/05_learn.ipynb", *given]
    assert notebooks.main(arguments) == 7
    assert sent == [("tcp://there:8786", "short--05_learn--one", ["-m", "tools.stages.notebooks", *arguments])]


def test_without_workers_yet_it_is_said_how_to_start_one(
    note: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = SimpleNamespace(dashboard_link="there", run=lambda *_: {})
    monkeypatch.setattr(cluster, "connected", lambda _: nullcontext(client))
    cluster.inspect("tcp://host:1")
    said = capsys.readouterr().out
    assert "0 workers; stages wait until there is one: " in said
    assert "`dask worker tcp://host:1 --nthreads 1`" in said


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("slrum", "the cluster is 'slrum'; it must be local, slurm or an address as tcp://HOST:8786"),
        ("tcp://127.0.0.1:1", "no scheduler answers at tcp://127.0.0.1:1: start one .dask scheduler."),
    ],
)
def test_a_scheduler_that_is_not_there(where: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 0.5)
    with pytest.raises(ClusterError, match=message), cluster.ready(where, cluster.load(), 1):
        pytest.fail("there is none")


# --- a cluster of its own


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_a_local_cluster_ends_with_its_coordinator(note: Path, tmp_path: Path, number: signal.Signals) -> None:
    file, script = tmp_path / "processes", tmp_path / "coordinator.py"
    script.write_text(COORDINATOR)
    command = [sys.executable, str(script), str(note), SLEEPER, str(file), "9"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as coordinator:
        until(lambda: seen(file))
        if number == signal.SIGKILL:
            coordinator.kill()
        else:
            os.killpg(coordinator.pid, number)  # as a terminal does it
        said, errors = coordinator.communicate(timeout=60)
    assert "dashboard http://127.0.0.1:" in said
    assert errors.count("Traceback") <= 1, f"a worker says something too: {errors}"
    until(lambda: all(has_ended(process) for process in seen(file)[0]))


def test_workers_of_a_local_cluster_share_cores_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SpecCluster", lambda workers, *_, **__: workers)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    made: Any = cluster.local(cluster.load(), 2, ["0,1", "2,3"])
    assert [made[i]["options"]["env"] for i in (0, 1)] == [
        {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "0,1"},
        {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "2,3"},
    ]
    assert all(made[i]["options"]["nthreads"] == 1 for i in made)


def test_a_job_of_slurm_asks_for_what_the_settings_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster, "DASHBOARD", 0)
    monkeypatch.setattr(cluster, "LOCK", tmp_path / "study.lock")
    settings = cluster.load()
    jobs = replace(settings.slurm, queue="gpu", interface="lo", prologue=["module load cuda"])
    with cluster.slurm(replace(settings, slurm=jobs, lost_workers=5)) as made:
        script = made.job_script().splitlines()
        assert made.scheduler.allowed_failures == 5
    for line in ("-p gpu", "--cpus-per-task=8", "--mem=30G", "-t 24:00:00", "--gres=gpu:1"):
        assert f"#SBATCH {line}" in script
    assert {"export OMP_NUM_THREADS=8", "module load cuda"} <= set(script)
    assert "--nthreads 1" in script[-1]
    assert sys.executable in script[-1]


# --- settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages_at_once": 0}, "cluster.yaml: stages_at_once is 0"),
        ({"lost_workers": "some"}, "cluster.yaml: lost_workers is 'some'"),
        ({"workers": 3}, "cluster.yaml: unknown key workers"),
        ({"slurm": {}}, "cluster.yaml: missing key slurm.queue"),
        ({"slurm.walltime": 86400}, "slurm.walltime is 86400"),
        ({"slurm.minimum": 4, "slurm.maximum": 3}, "slurm: maximum is 3; it must be 4 or more"),
    ],
)
def test_settings_are_read_strictly(change: dict, message: str, tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    for key, value in change.items():
        place, _, name = key.rpartition(".")
        (raw[place] if place else raw)[name] = value
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(raw))
    with pytest.raises(ParamsError, match=message):
        cluster.load(file)


def test_missing_settings_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="cluster.yaml cannot be read"):
        cluster.load(tmp_path / "cluster.yaml")
