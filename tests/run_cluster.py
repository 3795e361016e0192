"""The shortened study on a cluster of two workers, disturbed in every way, beside one machine left in peace.

pytest tests/run_cluster.py        by hand: ten minutes or more on two cores; not among the tests of `make test`
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from tests.support.broken_study import Broken
from tests.support.loopback import DASK, LOOPBACK, scheduler, until
from tools.stages.worker import PLACE


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two workers, started again when they are lost; the options by which as many stages wait for them as usual."""
    far = tmp_path_factory.mktemp("far")
    process, address = scheduler(far)
    command = [*DASK, "worker", address, "--nthreads", "1", *LOOPBACK]
    workers = [subprocess.Popen(command, cwd=far, stderr=subprocess.DEVNULL) for _ in range(2)]
    yield ["--cluster", address, "--jobs", "0"]
    for each in (*workers, process):
        each.terminate()
        each.wait(60)


def kill_the_worker(study: Broken, address: str) -> None:
    """Kills the worker of the stage that learns, and returns when tasks have been learned since."""
    stage = re.findall(r"(\S+) \| .*step \d+/", study.said())[-1]
    place = re.findall(rf"{re.escape(stage)} \| {PLACE}\S+ \((\S+)\)", study.said())[-1]
    with Client(address, set_as_default=False) as client:
        workers: Any = client.run(os.getpid)
    os.kill(workers[place], signal.SIGKILL)
    until(lambda: "its worker was lost" in study.said(), 120)
    until(lambda: study.said().rpartition("its worker was lost")[2].count("this task") >= 2, 1200)


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory, cluster: list[str]) -> Broken:
    """The study on the cluster: a second coordinator, a worker killed, the coordinator killed, and stopped."""
    study = Broken(tmp_path_factory.mktemp("wild") / "clone")
    for number in (signal.SIGKILL, signal.SIGTERM):
        coordinator = study.start(*cluster)
        until(lambda coordinator=coordinator: "step " in study.said() or coordinator.poll() is not None, 1200)
        assert coordinator.poll() is None, study.said()[-3000:]
        if number == signal.SIGKILL:
            first_log, study.log = study.log, study.log.with_name("second")
            assert study.start(*cluster).wait(60) == 2
            assert f"a study runs here already: process {coordinator.pid} on" in study.said()
            study.log = first_log
            kill_the_worker(study, cluster[1])
        coordinator.send_signal(number)
        study.wait_for_the_end(coordinator)  # nothing goes on without a coordinator
    kept = study.finished()
    assert study.run(*cluster) == 0, study.said()[-3000:]
    assert kept
    assert not kept & study.ran()
    return study


def test_the_results_are_those_of_one_machine_and_nothing_is_left_to_do(
    tmp_path: Path, wild: Broken, cluster: list[str]
) -> None:
    calm = Broken(tmp_path / "clone")
    assert calm.run("--jobs", "1") == 0, calm.said()[-3000:]
    assert wild.outcome() == calm.outcome()
    assert wild.run(*cluster) == 0
    assert wild.ran() == set()


def add_cell(notebook: Path, source: str) -> str:
    """Adds a cell of code behind a notebook's parameters; returns the file's text as it was."""
    text = notebook.read_text()
    content = json.loads(text)
    new = {"cell_type": "code", "id": "added", "metadata": {}, "outputs": [], "execution_count": None}
    tags = [cell["metadata"].get("tags", []) for cell in content["cells"]]
    place = next(i for i, given in enumerate(tags) if "parameters" in given)
    content["cells"].insert(place + 1, new | {"source": source})
    notebook.write_text(json.dumps(content))
    return text


def test_a_stage_that_fails_stops_only_what_depends_on_it(wild: Broken, cluster: list[str]) -> None:
    outcome, notebooks = wild.outcome(), wild.clone / "notebooks"
    whole = add_cell(notebooks / "03_zero_shot.ipynb", "raise RuntimeError('damaged')")
    add_cell(notebooks / "04_router_and_experts.ipynb", "print('changed')")
    assert wild.run(*cluster) == 1
    assert "router_and_experts | changed" in wild.said()
    copy = re.findall(r"^failed: \S+:zero_shot .*its notebook is (\S+)\)", wild.said(), re.MULTILINE)[0]
    assert "damaged" in (wild.clone / copy).read_text()
    assert re.search("not run, .*selector", wild.said())
    assert not any(stage.startswith("learn") for stage in wild.ran())
    (notebooks / "03_zero_shot.ipynb").write_text(whole)
    assert wild.run(*cluster) == 0
    assert "zero_shot" in wild.ran()
    assert not {"tasks", "router_and_experts"} & wild.ran()
    assert not any(stage.startswith("learn") for stage in wild.ran())  # its features came out the same
    assert wild.outcome() == outcome
