"""What runs on a worker of the cluster: a stage's command, in a process group of its own, as long as it is wanted.

These functions are sent as source, not by name: a worker needs Dask and the packages of the lock, and finds the code
of the project where the command does, in the shared folder.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

from distributed import Status, get_worker

from lib.study.provenance import PACKAGES
from tools.stages.dvc_process import end_with_parent
from tools.stages.slots import GRACE, PLACE, SCHEDULER, environment

PATIENCE = 30.0  # seconds in which a shared file system shows on one machine what another has written
POLL = 0.3  # seconds


def versions() -> dict[str, str]:
    """The packages that numbers depend on, and Python, by name; 'missing' for a package that is not there."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def unfit(note: str, text: str, wanted: dict[str, str], patience: float = PATIENCE) -> str:
    """Why this worker cannot run stages, or an empty string.

    note: a file of the coordinator's folder, which must hold `text` here as well. wanted: as `versions` gives it.
    """
    until = time.monotonic() + patience
    while not (seen := Path(note).is_file() and Path(note).read_text() == text):
        if time.monotonic() > until:
            break
        time.sleep(POLL)
    if not seen:
        return f"it does not see the coordinator's {note}: start it where that folder is mounted, under the same path"
    here = versions()
    other = [f"{name} {here[name]} instead of {mine}" for name, mine in wanted.items() if here[name] != mine]
    return f"it has {', '.join(other)}: install requirements.lock there" if other else ""


def execute(name: str, command: list[str], root: str, note: str, text: str, wanted: dict[str, str]) -> int:
    """Runs Python with this command line in `root`; returns its exit status, or 128 + the signal that ended it.

    What it prints is logged as events under the task's key, and None at the end. Raises RuntimeError if this worker
    is unfit.
    """
    worker: Any = get_worker()
    key, host = worker.get_current_task(), socket.gethostname()
    why = unfit(note, text, wanted)
    if why:
        raise RuntimeError(f"worker {worker.address} on {host}: {why}")
    worker.log_event(key, f"{PLACE}{host} ({worker.address}) since {datetime.now():%H:%M}")
    locks = Path(note).parent / "stages"
    locks.mkdir(exist_ok=True)
    try:
        with (locks / f"{name}.lock").open("a") as lock:
            return _run(command, root, lock, worker, key) if _has(lock, worker, key) else 128 + signal.SIGTERM
    finally:
        worker.log_event(key, None)


def is_wanted(worker: Any, key: str) -> bool:
    """False once the task was cancelled, its client has gone, or the worker has lost its scheduler or closes."""
    task = worker.state.tasks.get(key)
    at_work = worker.status in (Status.running, Status.paused, Status.closing_gracefully)
    return at_work and task is not None and task.state in ("executing", "long-running")


def _has(lock: TextIO, worker: Any, key: str) -> bool:
    """Waits for an earlier process of the stage, perhaps on a lost worker, to end; False if no longer wanted."""
    told = False
    while is_wanted(worker, key):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                worker.log_event(key, "waits for an earlier process of this stage to end")
            told = True
            time.sleep(POLL)
        else:
            return True
    return False


def _run(command: list[str], root: str, lock: TextIO, worker: Any, key: str) -> int:
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=root,
        env=environment(1) | {SCHEDULER: ""},  # here it is run, not sent on
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a group of its own, to be ended as one
        preexec_fn=end_with_parent,  # also when this worker is killed
        pass_fds=[lock.fileno()],  # the command holds the lock, whatever becomes of this worker
    ) as process:
        listener = threading.Thread(target=_pass_on, args=(process.stdout, worker, key), daemon=True)
        listener.start()
        while process.poll() is None:
            if not is_wanted(worker, key):
                end(process)
            time.sleep(POLL)
        listener.join(GRACE)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _pass_on(lines: TextIO, worker: Any, key: str) -> None:
    for line in lines:
        worker.log_event(key, line.rstrip("\n"))


def end(process: subprocess.Popen) -> None:
    """Ends a process with its whole group: asked first, and after the grace without asking."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
