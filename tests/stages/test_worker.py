"""A stage's command on a worker: its words, its end, and the end of whoever asked for it or ran it; all on loopback."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lib.study.studies import ROOT
from tests.support.loopback import DASK, LOOPBACK, SLEEPER, has_ended, scheduler, seen, sender, until
from tools.stages import cluster
from tools.stages.cluster import ClusterError
from tools.stages.processes import SCHEDULER
from tools.stages.worker import PLACE


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler by itself."""
    process, where = scheduler(tmp_path_factory.mktemp("scheduler"))
    with process:
        yield where
        process.terminate()


@pytest.fixture(scope="module")
def workers(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], None]]:
    """Has so many workers at hand, one stage at a time each, far from the project; ends those that are left."""
    started: list[subprocess.Popen] = []

    def at_hand(number: int) -> None:
        alive = [process for process in started if process.poll() is None]
        for _ in range(number - len(alive)):
            command = [*DASK, "worker", address, "--nthreads", "1", "--no-nanny", *LOOPBACK]
            far = tmp_path_factory.mktemp("far")
            started.append(subprocess.Popen(command, cwd=far, stderr=subprocess.DEVNULL))

    yield at_hand
    for process in started:
        process.terminate()
    for process in started:
        process.wait(60)


# --- a command


def test_what_a_command_prints_and_its_exit_status_come_back(
    address: str, workers: Callable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers(1)
    monkeypatch.setenv(SCHEDULER, address)
    source = f"""
import os, sys
print("first")
print(os.getcwd() == {str(ROOT)!r}, os.getpgid(0) == os.getpid(), repr(os.environ[{SCHEDULER!r}]))
print("last words", file=sys.stderr)
sys.exit(3)
"""
    assert cluster.run_on_worker(address, "stage", [sys.executable, "-c", source]) == 3
    place, *said = capsys.readouterr().out.splitlines()
    assert place.startswith(PLACE)
    assert "(tcp://127.0.0.1:" in place
    assert said == ["first", "True True ''", "last words"]
    assert (
        cluster.run_on_worker(address, "stage", [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == 128 + 9
    )


def test_a_killed_worker_leaves_no_orphan_and_the_command_is_run_elsewhere(
    address: str, workers: Callable, tmp_path: Path
) -> None:
    workers(2)
    file = tmp_path / "processes"
    with sender(address, SLEEPER, str(file), "2") as asking:
        until(lambda: seen(file))
        process, its_worker = seen(file)[0]
        os.kill(its_worker, signal.SIGKILL)
        said, _ = asking.communicate(timeout=60)
    assert asking.returncode == 5
    assert "its worker was lost; running on" in said
    assert seen(file)[1][1] != its_worker
    until(lambda: has_ended(process))


def test_more_lost_workers_than_are_allowed_is_an_error(address: str, workers: Callable, tmp_path: Path) -> None:
    workers(2)
    file = tmp_path / "processes"
    with sender(address, SLEEPER, str(file), "9") as asking:
        for lost in (1, 2):
            until(lambda lost=lost: len(seen(file)) == lost)
            os.kill(seen(file)[-1][1], signal.SIGKILL)
        _, error = asking.communicate(timeout=60)
    assert asking.returncode == 1
    assert "error: 2 workers were lost while they ran this, the last at tcp://127.0.0.1:" in error
    until(lambda: all(has_ended(process) for process, _ in seen(file)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_a_command_ends_with_whoever_asked_for_it(
    address: str, workers: Callable, tmp_path: Path, number: signal.Signals
) -> None:
    workers(1)
    file = tmp_path / "processes"
    with sender(address, SLEEPER, str(file), "9") as asking:
        until(lambda: seen(file))
        asking.send_signal(number)
        asking.communicate(timeout=60)
    assert asking.returncode == -number
    until(lambda: has_ended(seen(file)[0][0]))


def test_a_worker_without_the_projects_folder_is_named(
    address: str, workers: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers(1)
    cluster.inspect(address)
    monkeypatch.setattr(cluster, "ROOT", Path("/nowhere"))
    with pytest.raises(ClusterError, match=r"worker tcp://127.0.0.1:\d+: it lacks /nowhere"):
        cluster.inspect(address)
    with pytest.raises(ClusterError, match="/nowhere"):
        cluster.run_on_worker(address, "stage", [sys.executable, "-c", "print('never')"])
