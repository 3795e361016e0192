"""Seconds and megabytes of some work, and processes of their own for work whose memory is measured."""

import ctypes
import gc
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from lib.study.results import peak_memory_mb

LINUX = Path("/proc/self/clear_refs")  # only Linux can forget the peak so far


def best(work: Callable[[], object], repeats: int) -> float:
    """The least seconds of several calls, after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def held() -> float:
    """Megabytes that the process holds after it has given back all that it can (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return _read("VmRSS")


def most(work: Callable[[], object]) -> float:
    """The most megabytes that some work holds beyond what was held before, never below 0.

    Linux counts pages in batches, so less than a megabyte may be nothing. Other systems only know the peak of the
    whole process, so work that stays below an earlier peak counts as 0.
    """
    if not LINUX.exists():
        before = peak_memory_mb()
        work()
        return peak_memory_mb() - before
    before = held()
    LINUX.write_text("5")  # the peak counts from here on
    work()
    return max(0.0, _read("VmHWM") - before)


def in_new_processes(work: Callable[..., Any], calls: list[tuple]) -> list[Any]:
    """The results of some calls of `work`, one after the other, each in a process that has only imported its module."""
    context = get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        return [pool.submit(work, *call).result() for call in calls]


def _read(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024
