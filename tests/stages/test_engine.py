"""The engine of notebooks: parameters, streamed output, short errors, no kernel left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.study.studies import ROOT

PARAMETERS = """
count: int = 1  # how many; 0 = none
rate: float = 0.5
name: str = "a"
fast: bool = False
""".strip()


def cell(source: str, *tags: str) -> dict:
    """A code cell."""
    about = {"id": os.urandom(4).hex(), "metadata": {"tags": [*tags]}, "outputs": [], "execution_count": None}
    return {"cell_type": "code", "source": source} | about


@pytest.fixture
def notebook(tmp_path: Path) -> Callable[..., Path]:
    """Makes a notebook of a parameters cell and cells with the given sources."""

    def make(*sources: str) -> Path:
        path = tmp_path / "small.ipynb"
        cells = [cell(PARAMETERS, "parameters"), *map(cell, sources)]
        metadata = {"kernelspec": {"name": "absent", "language": "python", "display_name": "absent"}}
        path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
        return path

    return make


def command(notebook: Path, *given: str, copy: Path | None = None) -> list[str]:
    target = copy or notebook.parent / "out" / "copy.ipynb"
    return [sys.executable, "-m", "papermill", str(notebook), str(target), "--engine", "study", *given]


def run(notebook: Path, *given: str, copy: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(notebook, *given, copy=copy), cwd=ROOT, text=True, capture_output=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["-p", "counts", "3"], "counts; allowed: count (int), rate (float), name (str), fast (bool)"),
        (["-p", "count", "3.5"], "count is 3.5; it must be int"),
        (["-p", "rate", "much"], "rate is 'much'; it must be float"),
        (["-p", "fast", "1"], "fast is 1; it must be bool"),
        (["-p", "count", "True"], "count is True; it must be int"),
        (["-p", "name", "3"], "name is 3; it must be str"),
    ],
)
def test_a_parameter_that_the_notebook_does_not_take_is_one_line(
    notebook: Callable[..., Path], given: list[str], expected: str
) -> None:
    done = run(notebook("print('never')"), *given)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert expected in done.stderr
    assert done.stdout == ""


def test_values_and_output_are_passed_on(notebook: Callable[..., Path]) -> None:
    source = """
import os, sys
import lib
print("values:", count, rate, repr(name), fast)
print("where:", os.getcwd(), sys.executable, lib.__file__)
print("light:", "torch" not in sys.modules)
"""
    path = notebook(source)
    done = run(path, "-p", "count", "3", "-p", "rate", "1", "-r", "name", "7", "-p", "fast", "True")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "values: 3 1 '7' True",
        f"where: {path.parent} {sys.executable} {ROOT / 'lib' / '__init__.py'}",
        "light: True",
    ]
    assert done.returncode == 0
    assert "values: 3" in (path.parent / "out" / "copy.ipynb").read_text()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("low = 1\nraise ValueError('bad value 7')", "cell [3] `low = 1`: ValueError: bad value 7"),
        ("import os; os._exit(1)", "its Python process died"),
    ],
)
def test_a_failing_cell_is_a_short_error(notebook: Callable[..., Path], source: str, expected: str) -> None:
    path = notebook(source, "print('never')")
    done = run(path, "-p", "count", "2")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: small.ipynb: {expected}")
    assert str(path.parent / "out" / "copy.ipynb") in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert "never" not in done.stdout
    assert "low = 1" in (path.parent / "out" / "copy.ipynb").read_text() or "_exit" in source


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_a_killed_run_leaves_no_kernel(notebook: Callable[..., Path], number: signal.Signals) -> None:
    path = notebook("import os\nprint(os.getpid())\nwhile True: pass")
    with subprocess.Popen(command(path), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as runner:
        assert runner.stdout is not None
        kernel = int(runner.stdout.readline())
        runner.send_signal(number)
        code = runner.wait(15)
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    wait_for_end(kernel)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal for a parent's end")
def test_a_run_ends_with_the_process_that_started_it(notebook: Callable[..., Path]) -> None:
    path = notebook("import os\nprint(os.getppid(), os.getpid())\nwhile True: pass")
    start = f"import subprocess; subprocess.run({command(path)!r})"
    with subprocess.Popen([sys.executable, "-c", start], cwd=ROOT, text=True, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        runner, kernel = map(int, parent.stdout.readline().split())
        parent.kill()
    wait_for_end(runner)
    wait_for_end(kernel)


def wait_for_end(process: int, seconds: float = 15) -> None:
    """Waits until a process has ended (or only waits to be reaped). Fails if it has not in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        state = subprocess.run(["ps", "-o", "state=", "-p", str(process)], text=True, capture_output=True).stdout
        if state.strip() in ("", "Z"):
            return
        time.sleep(0.1)
    pytest.fail(f"process {process} is still there after {seconds} s")
