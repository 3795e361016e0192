"""One coordinator at a time: whoever runs a study holds a lock, and a second one is told who, where and since when.

The kernel lets go of the lock when its holder ends, in whatever way: a killed coordinator leaves nothing to clean up.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from lib.study.paths import ROOT

LOCK = ROOT / ".dvc" / "tmp" / "study.lock"


class BusyError(ValueError):
    """Another process runs a study in this folder; the message says which."""


@contextmanager
def alone(path: Path = LOCK) -> Iterator[None]:
    """Holds the lock, in which stands who holds it. Raises BusyError while another process does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"a study runs here already: {path.read_text()}. Wait for it, or stop it (Ctrl-C there)"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%d %B, %H:%M:%S}")
        file.flush()
        os.fsync(file.fileno())  # on a shared file system other machines read it
        yield
