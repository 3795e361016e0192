"""Processes that end with whoever started them, and the one in which DVC runs a single stage.

`python -m tools.stages.processes STAGE [--force]` is `dvc repro --single-item STAGE` with two promises: nothing goes on
in the background when its parent is killed, and no kill cuts dvc.lock short.
"""

import ctypes
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lib.study.studies import ROOT

SCHEDULER = "STUDY_SCHEDULER"  # the variable with the address of the scheduler whose workers run the notebooks
GRACE = 10.0  # seconds between SIGTERM and SIGKILL


def end_with_parent() -> None:
    """Asks Linux for a SIGTERM when the process that started this one ends, in whatever way it does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 = PR_SET_PDEATHSIG


def end_groups(*processes: subprocess.Popen) -> None:
    """Ends the process groups that these processes lead: SIGTERM first, SIGKILL after a grace period."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)


def cores() -> int:
    """The cores that this process may use; where the system does not say (macOS), all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(jobs: int) -> dict[str, str]:
    """The environment of a stage: this Python is first on the path, and `jobs` stages share the cores."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    threads = str(max(1, cores() // jobs))
    # libgomp's threads spin for long while they wait: on cores shared with others a step then takes many times as long
    defaults = {"GOMP_SPINCOUNT": "20000", "OMP_NUM_THREADS": threads}
    return defaults | os.environ | {"PYTHONUNBUFFERED": "1", "PATH": path}


def keep_locks_whole() -> None:
    """Makes DVC write dvc.lock under another name first, and rename it.

    DVC writes the file in place, for a second or more if there are many stages; a kill would lose all entries.
    """
    from dvc import dvcfile

    modify = dvcfile.modify_yaml

    @contextmanager
    def modify_copy(path: str, fs: Any = None) -> Iterator[Any]:
        partial = f"{path}.partial"
        Path(partial).unlink(missing_ok=True)
        if Path(path).exists():
            shutil.copyfile(path, partial)
        with modify(partial, fs=fs) as data:
            yield data
        os.replace(partial, path)

    dvcfile.modify_yaml = modify_copy


def reproduce(stage: str, force: bool) -> str | None:
    """Has DVC run one stage unless it is up to date; returns what went wrong, if the stage has not said it itself."""
    keep_locks_whole()
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.stage.exceptions import StageCmdFailedError

    logging.getLogger("dvc").setLevel(logging.WARNING)  # the coordinator names the stage
    os.chdir(ROOT)  # DVC names stages from the current folder
    try:
        repo: Any = Repo(str(ROOT), _wait_for_lock=True)
        repo.reproduce(stage, single_item=True, force=force)
    except DvcException as error:
        cause = error.__cause__ or error
        return "" if isinstance(cause, StageCmdFailedError) else f"error: {cause}"
    return None


if __name__ == "__main__":
    end_with_parent()
    failure = reproduce(sys.argv[1], "--force" in sys.argv)
    sys.exit(failure if failure else failure is not None)
