"""Runs a notebook as a stage: papermill, but strict about parameters and short about errors.

    python -m tools.stages.notebooks run notebooks/05_learn.ipynb -p item NAME    executes it; its copy is in reports/notebooks

Where the coordinator of a study on a cluster (tools/stages/cluster.py) has named a scheduler, a worker of it runs the command.
Stages depend on what a notebook does (lib/study/code_digests.py), never on the notebook's file: opening or rewording one makes
no result stale.
"""

import argparse
import ast
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import yaml
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from lib.study.paths import NOTEBOOKS, REPORTS, ROOT
from tools.stages.dvc_process import end_with_parent
from tools.stages.slots import SCHEDULER


class NotebookError(ValueError):
    """A notebook that cannot be run as asked, or that failed; the message says where and what to do."""


def code_cells(notebook: Path) -> list[tuple[str, list[str]]]:
    """Source and tags of the code cells that hold something."""
    if not notebook.exists():
        known = ", ".join(p.name for p in sorted(NOTEBOOKS.glob("*.ipynb")))
        raise NotebookError(f"there is no notebook {notebook}; there are: {known}")
    try:
        cells = json.loads(notebook.read_text())["cells"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NotebookError(f"{notebook} is not a notebook (format 4); restore it with git") from None
    code = [("".join(c["source"]), c["metadata"].get("tags", [])) for c in cells if c["cell_type"] == "code"]
    return [cell for cell in code if cell[0].strip()]  # JupyterLab leaves an empty one at the end


# --- parameters


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


READ = {"str": str, "int": int, "float": float, "bool": _flag}
KINDS = [*READ, *(f"list[{kind}]" for kind in READ)]


def parameters_of(notebook: Path) -> dict[str, str]:
    """The notebook's parameters with their types, from the annotations in its cell tagged `parameters`."""
    tagged = [source for source, tags in code_cells(notebook) if "parameters" in tags]
    if len(tagged) != 1:
        raise NotebookError(f"{notebook.name} has {len(tagged)} cells tagged `parameters`; it must have one")
    try:
        return dict(_annotated(line, notebook.name) for line in ast.parse(tagged[0]).body)
    except SyntaxError as error:
        raise NotebookError(f"{notebook.name}: its parameters cell is not Python: {error}") from None


def _annotated(line: ast.stmt, notebook: str) -> tuple[str, str]:
    if isinstance(line, ast.AnnAssign) and line.value and ast.unparse(line.annotation) in KINDS:
        return ast.unparse(line.target), ast.unparse(line.annotation)
    wanted = f"`name: type = default`, type one of {', '.join(KINDS)}"
    raise NotebookError(f"{notebook}: its parameters cell has the line `{ast.unparse(line)}`; it must read {wanted}")


def typed(notebook: Path, given: dict[str, str]) -> dict[str, Any]:
    """The given values in the types that the notebook wants. Raises NotebookError for unknown names, wrong values."""
    known = parameters_of(notebook)
    unknown = sorted(set(given) - set(known))
    if unknown:
        allowed = ", ".join(f"{name} ({kind})" for name, kind in known.items())
        raise NotebookError(f"{notebook.name} has no parameter {', '.join(unknown)}; allowed: {allowed or 'none'}")
    values = {}
    for name, text in given.items():
        try:
            values[name] = _read(known[name], text)
        except (ValueError, KeyError, yaml.YAMLError):
            raise NotebookError(f"{notebook.name}: parameter {name} is {text!r}; it must be {known[name]}") from None
    return values


def _read(kind: str, text: str) -> Any:
    if kind in READ:
        return READ[kind](text)
    items = yaml.safe_load(text)
    if not isinstance(items, list):
        raise ValueError(text)
    return [_read(kind.removeprefix("list[").removesuffix("]"), str(item)) for item in items]


# --- running


class ThisPython(AsyncKernelManager):
    """Starts kernels with the running interpreter and this checkout's lib, whatever kernelspecs the machine has."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """The only kernel there is."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        quiet = ["--log-level=CRITICAL"]  # what a cell raises arrives anyway
        return KernelSpec(**get_kernel_dict(quiet), env={"PYTHONPATH": path})

    async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:
        """Ends the kernel at once: all that it wrote is whole, and to take its modules apart would take 2 s."""
        await super().shutdown_kernel(now=True, restart=restart)


def copy_path(notebook: Path, given: dict[str, Any]) -> Path:
    """Where the executed copy goes: by study, and by item where there is one."""
    study = Path(given.get("params", "params.yaml")).parent.name or "mini"
    item = f"--{given['item']}" if "item" in given else ""
    return REPORTS / "notebooks" / study / f"{notebook.stem}{item}.ipynb"


def run(notebook: Path, given: dict[str, str], copy: Path | None = None) -> Path:
    """Executes a notebook with parameters, in its own folder as JupyterLab does; returns the executed copy's path.

    What its cells print is passed on as it comes. Raises NotebookError, naming the cell, if one fails, or naming the
    copy if the disk does not take it.
    """
    if not notebook.resolve().is_relative_to(ROOT):
        raise NotebookError(f"{notebook} lies outside of {ROOT}; only the project's own notebooks are run here")
    values = typed(notebook, given)
    copy = copy or copy_path(notebook, values)
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        failure = _execute(notebook, copy, values)
    except OSError as error:  # of papermill's own writing: a cell's arrives as its failure
        from lib.files import not_taken  # late: most runs need it not

        told = not_taken(copy, error)
        if told is None:
            raise
        raise NotebookError(str(told)) from error
    if failure:
        shown = copy.relative_to(ROOT) if copy.is_relative_to(ROOT) else copy
        raise NotebookError(f"{notebook.name}: {failure}\nthe executed copy, with the traceback: {shown}")
    return copy


def _execute(notebook: Path, copy: Path, values: dict[str, Any]) -> str:
    """Runs papermill; returns what failed, in one line, or an empty string."""
    sys.modules.setdefault("rfc3987_syntax", None)  # pyright: ignore[reportArgumentType]  # 1.3 s, a URI check unused here
    import papermill  # late: the checks before need none of it
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # it warns of what is an error here
    kernel = {"kernel_name": "python3", "language": "python", "kernel_manager_class": ThisPython}
    output = {"progress_bar": False, "stdout_file": sys.stdout, "stderr_file": sys.stderr}
    try:
        papermill.execute_notebook(notebook, copy, values, cwd=notebook.parent, **kernel, **output)
    except PapermillExecutionError as error:
        first = (error.source.strip().splitlines() or [""])[0]
        return f"cell [{error.exec_count}] `{first}`: {error.ename}: {error.evalue}"
    except DeadKernelError:
        return "its Python process died (often: out of memory) in the last cell that the copy shows"
    return ""


def _stop(number: int, _frame: object) -> None:
    for again in (signal.SIGTERM, signal.SIGINT):
        signal.signal(again, signal.SIG_IGN)  # once is enough: the kernel is being shut down
    raise KeyboardInterrupt(number)  # papermill shuts its kernel down on the way out


def _send(copy: Path, arguments: list[str]) -> int:
    """Has a worker of the cluster run this very command; returns its exit status."""
    from tools.stages.cluster import ClusterError, send  # late: most runs have no cluster

    try:
        name = f"{copy.parent.name}--{copy.stem}"
        return send(os.environ[SCHEDULER], name, ["-m", "tools.stages.notebooks", *arguments])
    except ClusterError as error:
        raise NotebookError(str(error)) from error


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.stages.notebooks", description="Notebooks as stages.")
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="execute a notebook")
    runner.add_argument("notebook", type=Path, help="from the project's root")
    runner.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    runner.add_argument("--out", type=Path, help="the executed copy; default: reports/notebooks/<study>/...")
    asked = parser.parse_args(arguments)
    end_with_parent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        if os.environ.get(SCHEDULER):
            return _send(copy_path(asked.notebook, dict(asked.parameter)), arguments or sys.argv[1:])
        run(ROOT / asked.notebook, dict(asked.parameter), asked.out and ROOT / asked.out)
    except NotebookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print("stopped; the same command starts it again", file=sys.stderr)
        return 128 + stop.args[0]
    return 0


if __name__ == "__main__":
    sys.exit(main())
