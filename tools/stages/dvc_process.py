"""Processes that end with whoever started them: nothing goes on in the background when a study is killed.

`python -m tools.stages.dvc_process ARGUMENTS` is DVC's command line with that promise, and with lock files that no kill cuts short.
"""

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def end_with_parent() -> None:
    """Asks Linux for a SIGTERM when the process that started this one ends, in whatever way it does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 = PR_SET_PDEATHSIG


def keep_locks_whole() -> None:
    """Has DVC write dvc.lock under another name first.

    It writes the file in place, for a second or more where there are many stages: a kill would lose what they did.
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


if __name__ == "__main__":
    end_with_parent()
    keep_locks_whole()
    from dvc.cli import main  # late: it takes its time, in which the parent may end

    sys.exit(main(sys.argv[1:]))
