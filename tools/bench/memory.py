"""The memory of this process, in megabytes, as Linux counts it."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path


def held() -> float:
    """What is held when all that can be given back has been."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return _read("VmRSS")


def most(work: Callable[[], object]) -> float:
    """The most that is held while something is done, beyond what was held before."""
    before = held()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is from here on
    work()
    return _read("VmHWM") - before


def _read(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024
