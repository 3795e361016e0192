"""Papermill's engine `study`: runs a notebook as a stage, strict about parameters and short about errors.

    papermill notebooks/05_learn.ipynb reports/notebooks/mini/05_learn--KEY.ipynb --engine study -p item KEY

The kernel is the Python that runs papermill, and it works in the notebook's own folder, as in JupyterLab. When a study
runs on a cluster, the engine has a worker run the same command (tools/stages/cluster.py).
papermill imports this module with its own engines, so it imports papermill only when a notebook is run.
"""

import ast
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from lib.files import not_taken
from lib.study.studies import ROOT
from tools.stages.processes import SCHEDULER, end_with_parent

logging.getLogger("papermill").setLevel(logging.CRITICAL)  # it announces every file, and warns of what is an error here
TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (float, int), "bool": (bool,)}


class StudyEngine:
    """What papermill calls for `--engine study`."""

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, **options: Any) -> Any:
        """Executes the parameterised notebook `nb` and saves it; ends the process with one line if that fails."""
        end_with_parent()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _interrupt)
        notebook, copy = Path(options["input_path"]), Path(options["output_path"])
        check_parameters(nb, notebook)
        try:
            if os.environ.get(SCHEDULER):
                _run_on_cluster(copy)
            copy.parent.mkdir(parents=True, exist_ok=True)
            return _execute(nb, kernel_name, notebook, copy)
        except KeyboardInterrupt as stop:
            print("stopped; the same command starts it again", file=sys.stderr)
            sys.exit(128 + stop.args[0])
        except OSError as error:  # from writing the copy: what a cell raises is stored in the notebook
            if (disk_error := not_taken(copy, error)) is None:
                raise
            _fail(str(disk_error))

    # what papermill calls the kernel and its language; the one that runs is always this Python
    nb_kernel_name = staticmethod(lambda nb, name=None: "python3")
    nb_language = staticmethod(lambda nb, language=None: "python")


def parameters_of(nb: Any) -> dict[str, str]:
    """A notebook's parameters with their types: the annotations in its cell tagged `parameters`."""
    tagged = [cell.source for cell in nb.cells if "parameters" in cell.metadata.get("tags", [])]
    lines = ast.parse(tagged[0]).body if tagged else []
    return {ast.unparse(x.target): ast.unparse(x.annotation) for x in lines if isinstance(x, ast.AnnAssign)}


def check_parameters(nb: Any, notebook: Path) -> None:
    """Ends the process with one line if a given parameter is not one of the notebook's or has another type."""
    allowed = parameters_of(nb)  # papermill's own inspection overlooks a line with "=" in its comment
    for name, value in nb.metadata.papermill["parameters"].items():
        if name not in allowed:
            names = ", ".join(f"{name} ({kind})" for name, kind in allowed.items())
            _fail(f"{notebook.name} has no parameter {name}; allowed: {names or 'none'}")
        types = TYPES.get(allowed[name], (object,))
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            hint = f" (-r {name} ... passes a text that looks like a number)" if str in types else ""
            _fail(f"{notebook.name}: parameter {name} is {value!r}; it must be {allowed[name]}{hint}")


def _execute(nb: Any, kernel_name: str, notebook: Path, copy: Path) -> Any:
    from nbclient.exceptions import DeadKernelError
    from papermill.engines import NBClientEngine

    logging.disable(logging.CRITICAL)  # comments of papermill and the kernel manager on what is reported below
    output = {"progress_bar": False, "stdout_file": sys.stdout, "stderr_file": sys.stderr}
    try:
        with contextlib.chdir(notebook.parent):
            NBClientEngine.execute_notebook(
                nb, kernel_name, output_path=str(copy), kernel_manager_class=ThisPython, **output
            )
    except DeadKernelError:
        _fail_with_copy(notebook, copy, "its Python process died (often: out of memory) in the last cell of the copy")
    if failure := first_failure(nb):
        _fail_with_copy(notebook, copy, failure)
    return nb


class ThisPython(AsyncKernelManager):
    """Starts kernels with the running interpreter and this checkout's code, whatever kernels are installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """The only kernel there is."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return KernelSpec(**get_kernel_dict(["--log-level=CRITICAL"]), env={"PYTHONPATH": path})

    async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:
        """Ends the kernel at once: its files are whole, and an orderly end takes Python 2 seconds."""
        await super().shutdown_kernel(now=True, restart=restart)


def first_failure(nb: Any) -> str:
    """The first error that an executed notebook holds, in one line; empty if there is none."""
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                first = (cell.source.strip().splitlines() or [""])[0]
                return f"cell [{cell.execution_count}] `{first}`: {output.ename}: {output.evalue}"
    return ""


def _run_on_cluster(copy: Path) -> NoReturn:
    """Has a worker of the cluster run this very command, and ends with its exit status."""
    from tools.stages.cluster import ClusterError, run_on_worker

    try:
        name = f"{copy.parent.name}--{copy.stem}"
        sys.exit(run_on_worker(os.environ[SCHEDULER], name, [sys.executable, "-m", "papermill", *sys.argv[1:]]))
    except ClusterError as error:
        _fail(str(error))


def _fail_with_copy(notebook: Path, copy: Path, failure: str) -> NoReturn:
    path = copy.relative_to(ROOT) if copy.is_relative_to(ROOT) else copy
    _fail(f"{notebook.name}: {failure}\nthe executed copy, with the traceback: {path}")


def _fail(message: str) -> NoReturn:
    sys.exit(f"error: {message}")


def _interrupt(number: int, _frame: object) -> NoReturn:
    for again in (signal.SIGTERM, signal.SIGINT):
        signal.signal(again, signal.SIG_IGN)  # the kernel is being ended already
    raise KeyboardInterrupt(number)
