"""A process that learns a run of the small study and is killed on its way, by the clock or at a change of the disk.

All processes come from one that has everything imported (a fork server), so that each begins within a second.
"""

import multiprocessing
import os
import signal
import sys
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import torch

from tests.support import small_run, small_study

MOVES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.support.killed_run"])


def changes_disk(event: str, given: tuple[Any, ...], home: str) -> bool:
    """True if Python is about to change `home`: a file is opened for writing, a name made, moved or removed."""
    writes = event in MOVES or (event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR))
    return bool(writes) and isinstance(given[0], str | os.PathLike) and os.fspath(given[0]).startswith(home)


def run(home: Path, last: int, ready: Event, changes: Any) -> None:
    """Learns the run under `home`; ends without warning before change number `last` (0: never). Counts the changes."""
    torch.set_num_threads(1)
    opened = small_study.open_at(home, small_run.study(changes={"train.steps": 30}))

    def count(event: str, given: tuple[Any, ...]) -> None:
        if changes_disk(event, given, str(home)):
            changes.value += 1
            if changes.value == last:
                os.kill(os.getpid(), signal.SIGKILL)

    with (home / "said").open("a", buffering=1) as sys.stdout:
        ready.set()
        sys.addaudithook(count)
        opened.learn(small_run.KEY)


def learn_until(home: Path, change: int = 0, seconds: float | None = None) -> tuple[bool, int]:
    """Learns to a change of the disk, for so many seconds, or to the end.

    Returns True if it came to the end, and how many changes it made.
    """
    ready, changes = CONTEXT.Event(), CONTEXT.Value("i", 0, lock=False)
    child = CONTEXT.Process(target=run, args=(home, change, ready, changes))
    child.start()
    if seconds is not None:
        assert ready.wait(120)
        child.join(seconds)
        child.kill()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL), (home / "said").read_text()
    return child.exitcode == 0, changes.value
