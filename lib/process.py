"""Processes that end with whoever started them: nothing goes on in the background when a study is killed.

`python -m lib.process ARGUMENTS` is DVC's command line with that promise.
"""

import ctypes
import signal
import sys


def end_with_parent() -> None:
    """Asks Linux for a SIGTERM when the process that started this one ends, in whatever way it does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 = PR_SET_PDEATHSIG


if __name__ == "__main__":
    end_with_parent()
    from dvc.cli import main  # late: it takes its time, in which the parent may end

    sys.exit(main(sys.argv[1:]))
