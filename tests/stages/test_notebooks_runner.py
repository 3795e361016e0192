"""The runner of notebooks: parameters, streamed output, short errors, no kernel left behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lib.study.paths import ROOT
from tests.support import small_disk
from tools.stages import notebooks
from tools.stages.notebooks import NotebookError

PARAMETERS = """
count: int = 1  # how many
rate: float = 0.5
name: str = "a=b"
fast: bool = False
sizes: list[int] = [1, 2]
""".strip()
RUN = [sys.executable, "-m", "tools.stages.notebooks", "run"]


def cell(kind: str, source: str | list[str], **metadata: object) -> dict:
    extra = {"outputs": [], "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "id": os.urandom(4).hex(), "metadata": metadata, "source": source} | extra


def write(path: Path, *cells: dict, **metadata: object) -> Path:
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder inside of the project, for the runner takes no notebook from elsewhere."""
    with tempfile.TemporaryDirectory(prefix="test-", dir=ROOT / "data") as folder:
        yield Path(folder)


@pytest.fixture
def notebook(place: Path) -> Callable[..., Path]:
    """Makes a notebook of a parameters cell and cells with the given sources."""

    def make(*sources: str, parameters: str = PARAMETERS) -> Path:
        tagged = cell("code", parameters, tags=["parameters"])
        return write(place / "small.ipynb", cell("markdown", "# Small"), tagged, *(cell("code", s) for s in sources))

    return make


def command(notebook: Path, *given: str) -> list[str]:
    return [*RUN, str(notebook), "--out", str(notebook.parent / "out" / "copy.ipynb"), *given]


# --- parameters


def test_values_take_the_annotated_types(notebook: Callable[..., Path]) -> None:
    given = {"count": "3", "rate": "1e-3", "name": "3", "fast": "true", "sizes": "[4, 5]"}
    typed = notebooks.typed(notebook(), given)
    assert typed == {"count": 3, "rate": 0.001, "name": "3", "fast": True, "sizes": [4, 5]}
    assert isinstance(typed["rate"], float)


def test_unknown_parameter_names_the_allowed_ones(notebook: Callable[..., Path]) -> None:
    allowed = "count (int), rate (float), name (str), fast (bool), sizes (list[int])"
    with pytest.raises(NotebookError) as error:
        notebooks.typed(notebook(), {"counts": "3"})
    assert str(error.value) == f"small.ipynb has no parameter counts; allowed: {allowed}"


@pytest.mark.parametrize(
    ("name", "text"),
    [("count", "3.5"), ("rate", "much"), ("fast", "1"), ("sizes", "3"), ("sizes", "[a]"), ("sizes", "[")],
)
def test_value_of_the_wrong_type(notebook: Callable[..., Path], name: str, text: str) -> None:
    with pytest.raises(NotebookError, match=f"parameter {name} is .*; it must be "):
        notebooks.typed(notebook(), {name: text})


@pytest.mark.parametrize("line", ["count = 1", "count: int", "count: int | None = None", "import os", "a: list = []"])
def test_parameters_cell_that_is_not_annotated(notebook: Callable[..., Path], line: str) -> None:
    with pytest.raises(NotebookError, match="it must read `name: type = default`, type one of str, int,"):
        notebooks.parameters_of(notebook(parameters=line))


def test_parameters_cell_that_is_no_python(notebook: Callable[..., Path]) -> None:
    with pytest.raises(NotebookError, match="its parameters cell is not Python: "):
        notebooks.parameters_of(notebook(parameters="count: int ="))


def test_notebook_without_parameters_cell(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="plain.ipynb has 0 cells tagged `parameters`"):
        notebooks.parameters_of(write(tmp_path / "plain.ipynb", cell("code", "1")))


def test_missing_and_broken_notebook(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="there is no notebook .*absent.ipynb"):
        notebooks.parameters_of(tmp_path / "absent.ipynb")
    (tmp_path / "broken.ipynb").write_text('{"cells": [')
    with pytest.raises(NotebookError, match="broken.ipynb is not a notebook"):
        notebooks.parameters_of(tmp_path / "broken.ipynb")


# --- running


def test_run_passes_values_and_output_on(notebook: Callable[..., Path]) -> None:
    source = """
import os, sys
import lib
print("values:", count, rate, name, fast, sizes)
print("where:", os.getcwd(), sys.executable, lib.__file__)
print("light:", "torch" not in sys.modules)
"""
    path = notebook(source)
    done = subprocess.run(
        command(path, "-p", "count", "3", "-p", "name", "x=y"), cwd=ROOT, text=True, capture_output=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "values: 3 0.5 x=y False [1, 2]",
        f"where: {path.parent} {sys.executable} {ROOT / 'lib' / '__init__.py'}",
        "light: True",
    ]
    assert done.returncode == 0
    assert "values: 3" in (path.parent / "out" / "copy.ipynb").read_text()


def test_runner_itself_is_light() -> None:
    code = "import tools.stages.notebooks, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("low = 1\nraise ValueError('bad value 7')", "cell [3] `low = 1`: ValueError: bad value 7"),
        ("import os; os._exit(1)", "its Python process died"),
    ],
)
def test_failing_cell_is_a_short_error(notebook: Callable[..., Path], source: str, expected: str) -> None:
    path = notebook(source, "print('never')")
    done = subprocess.run(command(path, "-p", "count", "2"), cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 1
    assert f"error: small.ipynb: {expected}" in done.stderr
    assert str((path.parent / "out" / "copy.ipynb").relative_to(ROOT)) in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert "never" not in done.stdout


def test_a_disk_without_room_for_the_executed_copy_is_named(notebook: Callable[..., Path], tmp_path: Path) -> None:
    with (
        small_disk.disk(tmp_path / "disk") as place,
        small_disk.full(place),
        pytest.raises(NotebookError, match=r"copy\.ipynb cannot be written: there is no room left"),
    ):
        notebooks.run(notebook("1"), {}, place / "copy.ipynb")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_killed_runner_leaves_no_kernel(notebook: Callable[..., Path], number: signal.Signals) -> None:
    path = notebook("import os\nprint(os.getpid())\nwhile True: pass")
    with subprocess.Popen(command(path), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as runner:
        assert runner.stdout is not None
        kernel = int(runner.stdout.readline())
        runner.send_signal(number)
        code = runner.wait(15)
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    wait_for_end(kernel)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal for a parent's end")
def test_runner_ends_with_the_process_that_started_it(notebook: Callable[..., Path]) -> None:
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
