"""The seconds and megabytes that some work takes, and its floating-point operations."""

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path

from torch.utils.flop_counter import FlopCounterMode

from lib.study.log import peak_memory_mb

LINUX = Path("/proc/self/clear_refs")  # only Linux can forget the peak so far


def seconds(work: Callable[[], object]) -> float:
    """The seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def best(work: Callable[[], object], repeats: int) -> float:
    """The least seconds of several calls, after one that warms up."""
    work()
    return min(seconds(work) for _ in range(repeats))


def most(work: Callable[[], object]) -> float:
    """The most megabytes that some work holds beyond what was held before.

    Linux counts pages in batches, so less than a megabyte may be nothing. Other systems only know the peak of the
    whole process, so work that stays below an earlier peak counts as 0.
    """
    gc.collect()
    if LINUX.exists():
        ctypes.CDLL(None).malloc_trim(0)  # gives back what is free
        LINUX.write_text("5")  # the peak counts from here on
    before = peak_memory_mb()
    work()
    return peak_memory_mb() - before


def operations(work: Callable[[], object]) -> int:
    """The floating-point operations of some work, a multiplication and an addition counted as two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()
