"""The shortened study on a cluster of two workers, disturbed in every way, beside one machine left in peace.

pytest tests/run_cluster.py        by hand: ten minutes or more on two cores; not among the tests of `make test`
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from lib.study.paths import ROOT
from tools.stages.worker import PLACE

DASK = [sys.executable, "-m", "dask"]
LOOPBACK = ["--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
LONG = 1200  # seconds


@dataclass(frozen=True)
class Clone:
    """A copy of the project, and how to run its shortened study."""

    folder: Path

    def start(self, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "tools.stages.run", "--study", "short", *options]
        environment = os.environ | {"PYTHONPATH": str(self.folder)}
        with (self.folder / "log").open("w") as log:
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def run(self, *options: str) -> int:
        return self.start(*options).wait(LONG)

    def said(self) -> str:
        return (self.folder / "log").read_text()

    def ran(self) -> list[str]:
        """The stages that DVC found something to do for."""
        return re.findall(r"^\[\d+/\d+\] \S*?([\w@+-]+)(?: \(|$)", self.said(), re.MULTILINE)

    def results(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.glob("reports/results/short/*.json")}

    def processes(self) -> list[int]:
        """Those that work in the copy's folder."""
        found = []
        for place in Path("/proc").glob("[0-9]*/cwd"):
            try:
                if place.resolve().is_relative_to(self.folder) and place.parent.name != str(os.getpid()):
                    found.append(int(place.parent.name))
            except OSError:
                continue
        return found


def clone(folder: Path) -> Clone:
    """A clone of the project with what has been changed since the last commit."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True).stdout.split("\0")[:-1]:
        if (ROOT / name).is_file() and not name.startswith((".venv", "reports/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for path in [*folder.glob("reports/*/short"), folder / "studies/short/dvc.lock"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return Clone(folder)


def until(happens: Callable[[], object], seconds: float = LONG) -> None:
    """Waits for something to be so; fails if it is not in time."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler with two workers, which are started again when they are lost."""
    far = tmp_path_factory.mktemp("far")
    file = far / "scheduler.json"
    commands = [
        [*DASK, "scheduler", "--port", "0", "--scheduler-file", str(file), *LOOPBACK],
        *[[*DASK, "worker", "--scheduler-file", str(file), "--nthreads", "1", *LOOPBACK]] * 2,
    ]
    started = []
    for command in commands:
        started.append(subprocess.Popen(command, cwd=far, stderr=subprocess.DEVNULL))
        until(lambda: file.exists() and file.read_text().endswith("}"), 60)
    yield json.loads(file.read_text())["address"]
    for process in reversed(started):
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The study on one machine, one stage after the other."""
    made = clone(tmp_path_factory.mktemp("calm") / "clone")
    assert made.run("--jobs", "1") == 0, made.said()[-3000:]
    return made


def in_a_stage(made: Clone, address: str) -> subprocess.Popen:
    """Starts the study on the cluster, and returns when a stage is in the middle of learning."""
    coordinator = made.start("--cluster", address)
    until(lambda: "step " in made.said() or coordinator.poll() is not None)
    assert coordinator.poll() is None, made.said()[-3000:]
    return coordinator


def kill_the_worker(made: Clone, address: str) -> None:
    """Kills the worker of the stage that learns, and returns when tasks have been learned since."""
    stage = re.findall(r"(\S+) \| .*step \d+/", made.said())[-1]
    place = re.findall(rf"{re.escape(stage)} \| {PLACE}\S+ \((\S+)\)", made.said())[-1]
    with Client(address, set_as_default=False) as client:
        workers: Any = client.run(os.getpid)
    os.kill(workers[place], signal.SIGKILL)
    until(lambda: "its worker was lost" in made.said(), 120)
    until(lambda: made.said().rpartition("its worker was lost")[2].count("this task") >= 2)


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory, address: str) -> Clone:
    """The study on the cluster: a second coordinator, a worker killed, the coordinator killed, and stopped."""
    made = clone(tmp_path_factory.mktemp("wild") / "clone")
    for number in (signal.SIGKILL, signal.SIGTERM):
        coordinator = in_a_stage(made, address)
        if number == signal.SIGKILL:
            is_told(made, address, coordinator.pid)
            kill_the_worker(made, address)
        coordinator.send_signal(number)
        coordinator.wait(60)
        until(lambda: not made.processes(), 60)  # nothing goes on without a coordinator
    assert made.run("--cluster", address) == 0, made.said()[-3000:]
    assert int(re.findall(r"^(\d+) stages are up to date", made.said(), re.MULTILINE)[0]) > 0
    return made


def is_told(made: Clone, address: str, first: int) -> None:
    """Checks that a second coordinator starts nothing and says who runs."""
    command = [sys.executable, "-m", "tools.stages.run", "--study", "short", "--cluster", address]
    environment = os.environ | {"PYTHONPATH": str(made.folder)}
    told = subprocess.run(command, cwd=made.folder, env=environment, capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (2, "")
    assert f"a study runs here already: process {first} on" in told.stderr


def test_the_results_are_those_of_one_machine(calm: Clone, wild: Clone) -> None:
    assert len(calm.results()) == 6
    assert wild.results() == calm.results()


def test_nothing_is_left_to_do_and_no_process_is_left(wild: Clone, address: str) -> None:
    assert wild.run("--cluster", address) == 0
    assert wild.ran() == []
    assert wild.processes() == []


def add_cell(notebook: Path, source: str) -> str:
    """Adds a cell of code behind a notebook's parameters; returns the file's text as it was."""
    text = notebook.read_text()
    held = json.loads(text)
    new = {"cell_type": "code", "id": "added", "metadata": {}, "outputs": [], "execution_count": None}
    tags = [cell["metadata"].get("tags", []) for cell in held["cells"]]
    place = next(i for i, given in enumerate(tags) if "parameters" in given)
    held["cells"].insert(place + 1, new | {"source": source})
    notebook.write_text(json.dumps(held))
    return text


def test_a_stage_that_fails_stops_only_what_depends_on_it(wild: Clone, address: str) -> None:
    results, notebooks = wild.results(), wild.folder / "notebooks"
    whole = add_cell(notebooks / "03_zero_shot.ipynb", "raise RuntimeError('damaged')")
    add_cell(notebooks / "04_router_and_experts.ipynb", "print('changed')")
    assert wild.run("--cluster", address) == 1
    said = wild.said()
    assert "router_and_experts | changed" in said
    copy = re.findall(r"^failed: \S+:zero_shot .*its notebook is (\S+)\)", said, re.MULTILINE)[0]
    assert "damaged" in (wild.folder / copy).read_text()
    assert re.search("^not run, .*selector", said, re.MULTILINE)
    assert not any(stage.startswith("learn") for stage in wild.ran())

    (notebooks / "03_zero_shot.ipynb").write_text(whole)
    assert wild.run("--cluster", address) == 0
    assert "zero_shot" in wild.ran()
    assert not {"tasks", "router_and_experts"} & set(wild.ran())
    assert not any(stage.startswith("learn") for stage in wild.ran())  # its features came out the same
    assert wild.results() == results
