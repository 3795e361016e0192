"""What runs on a worker of the cluster: a stage's command, in a process group of its own, as long as it is wanted."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from distributed import Status, get_worker

from tools.stages.processes import GRACE, SCHEDULER, end_groups, end_with_parent, environment

PLACE = "running on "  # how the line begins that says where and since when a stage runs
POLL = 0.3  # seconds


def sees(*files: str) -> bool:
    """Whether this worker has all these files under the coordinator's paths."""
    return all(Path(file).exists() for file in files)


def execute(command: list[str], root: str) -> int:
    """Runs a command line in `root`; returns its exit status, or 128 + the signal that ended it.

    What it prints is logged as events under the task's key, and None at the end.
    """
    worker: Any = get_worker()
    key = worker.get_current_task()
    worker.log_event(key, f"{PLACE}{socket.gethostname()} ({worker.address}) since {datetime.now():%H:%M}")
    try:
        with subprocess.Popen(
            command,
            cwd=root,
            env=environment(1) | {SCHEDULER: ""},  # here it runs, and is not sent on
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, which is ended as one
            preexec_fn=end_with_parent,  # also when this worker is killed
        ) as process:
            listener = threading.Thread(target=_pass_on, args=(process.stdout, worker, key), daemon=True)
            listener.start()
            while process.poll() is None:
                if not is_wanted(worker, key):
                    end_groups(process)
                time.sleep(POLL)
            listener.join(GRACE)
    finally:
        worker.log_event(key, None)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def is_wanted(worker: Any, key: str) -> bool:
    """False once the task was cancelled, its client has gone, or the worker has lost its scheduler or closes."""
    task = worker.state.tasks.get(key)
    at_work = worker.status in (Status.running, Status.paused, Status.closing_gracefully)
    return at_work and task is not None and task.state in ("executing", "long-running")


def _pass_on(lines: Iterable[str], worker: Any, key: str) -> None:
    for line in lines:
        worker.log_event(key, line.rstrip("\n"))
