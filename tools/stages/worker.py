"""What runs on a worker of the cluster: a stage's command, in a process group of its own, as long as it is wanted."""

import fcntl
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
from tools.stages.processes import GRACE, SCHEDULER, end_groups, end_with_parent, environment
from tools.stages.slots import PLACE

PATIENCE = 30.0  # seconds in which a shared file system shows on one machine what another has written
POLL = 0.3  # seconds


def versions() -> dict[str, str]:
    """Python and the packages that numbers depend on, by name; 'missing' for a package that is not there."""
    return {"python": ".".join(map(str, sys.version_info[:3]))} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def unfit(note: str, text: str, wanted: dict[str, str], patience: float = PATIENCE) -> str:
    """Why this worker cannot run stages; empty if it can.

    note: a file of the coordinator's folder, which must hold `text` here as well. wanted: the coordinator's `versions`.
    """
    until = time.monotonic() + patience
    while not (Path(note).is_file() and Path(note).read_text() == text):
        if time.monotonic() > until:
            return (
                f"it does not see the coordinator's {note}: start it where that folder is mounted under the same path"
            )
        time.sleep(POLL)
    here = versions()
    other = [f"{name} {here[name]} instead of {wanted[name]}" for name in wanted if here[name] != wanted[name]]
    return f"it has {', '.join(other)}: install requirements.lock there" if other else ""


def execute(name: str, command: list[str], root: str, note: str, text: str, wanted: dict[str, str]) -> int:
    """Runs Python with this command line in `root`; returns its exit status, or 128 + the signal that ended it.

    What it prints is logged as events under the task's key, and None at the end. Raises RuntimeError if this worker
    is unfit.
    """
    worker: Any = get_worker()
    key, host = worker.get_current_task(), socket.gethostname()
    if why := unfit(note, text, wanted):
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
    announced = False
    while is_wanted(worker, key):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not announced:
                worker.log_event(key, "waits for an earlier process of this stage to end")
            announced = True
            time.sleep(POLL)
    return False


def _run(command: list[str], root: str, lock: TextIO, worker: Any, key: str) -> int:
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=root,
        env=environment(1) | {SCHEDULER: ""},  # here it runs, and is not sent on
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a group of its own, which is ended as one
        preexec_fn=end_with_parent,  # also when this worker is killed
        pass_fds=[lock.fileno()],  # the command holds the lock, whatever becomes of this worker
    ) as process:
        listener = threading.Thread(target=_pass_on, args=(process.stdout, worker, key), daemon=True)
        listener.start()
        while process.poll() is None:
            if not is_wanted(worker, key):
                end_groups(process)
            time.sleep(POLL)
        listener.join(GRACE)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _pass_on(lines: TextIO, worker: Any, key: str) -> None:
    for line in lines:
        worker.log_event(key, line.rstrip("\n"))
