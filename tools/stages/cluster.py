"""The stages on several machines: DVC stays with the coordinator, and Dask runs the notebooks' commands elsewhere.

DVC's locks hold process numbers of one machine. Another machine takes such a lock for left over and removes it, so only
the coordinator runs DVC. What a worker gets is a command line; it sees the project's folder under the same path.
"""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from uuid import uuid4

from distributed import Client, KilledWorker, LocalCluster
from distributed.client import FutureCancelledError

from lib.study.studies import ROOT
from tools.stages import worker
from tools.stages.processes import GRACE, environment

CONNECT = 20  # seconds
DASHBOARD = 8787  # the port; Dask takes another one if this is in use
# Ctrl-C in a terminal reaches every process; the coordinator is the one that acts on it
IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


class ClusterError(ValueError):
    """A cluster that cannot be used; the message says what to do."""


@contextmanager
def ready(where: str, jobs: int) -> Iterator[str]:
    """The address of a scheduler whose workers can run stages; a local one ends with the context.

    where: local (`jobs` workers here), or a scheduler's address. Raises ClusterError if no scheduler answers, or a
    worker cannot run stages.
    """
    if where != "local" and ":" not in where:
        raise ClusterError(f"the cluster is {where!r}; it must be local or an address as tcp://HOST:8786")
    started: Any = local(jobs) if where == "local" else nullcontext()
    with started as cluster:
        address = cluster.scheduler_address if cluster else where
        inspect(address)
        yield address


def local(jobs: int) -> LocalCluster:
    """A scheduler and `jobs` workers on this machine, which share its cores."""
    return LocalCluster(
        n_workers=jobs,
        threads_per_worker=1,
        memory_limit=0,
        dashboard_address=f"127.0.0.1:{DASHBOARD}",
        silence_logs=logging.ERROR,
        preload=[IGNORE_CTRL_C],
        env={"OMP_NUM_THREADS": environment(jobs)["OMP_NUM_THREADS"]},
    )


def inspect(address: str) -> None:
    """Prints what there is. Raises ClusterError if no scheduler answers or a worker lacks the project's folder."""
    with connected(address) as client:
        print(f"scheduler {address}, dashboard {client.dashboard_link}", flush=True)
        try:
            found: Any = client.run(worker.sees, str(ROOT), sys.executable)
        except ImportError as error:
            raise ClusterError(f"a worker cannot run stages ({error}): start it with this project's .venv") from error
    if blind := [name for name, sees in found.items() if not sees]:
        raise ClusterError(f"worker {', '.join(blind)}: it lacks {ROOT} or {sys.executable}; it needs the same paths")
    more = "" if found else f"; stages wait until there is one: `.venv/bin/dask worker {address} --nthreads 1`"
    print(f"{len(found)} workers{more}", flush=True)


def connected(address: str) -> Client:
    """A client of the scheduler. Raises ClusterError if none answers there."""
    for name in ("distributed", "distributed.client"):  # the errors below say it in a line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(f"no scheduler answers at {address}: start one, or correct the address") from error


def run_on_worker(address: str, name: str, command: list[str]) -> int:
    """Runs a command line on a worker, in the project's root, and prints what it prints; returns its exit status.

    name: for the dashboard, the same whenever the stage is run. Raises ClusterError if the scheduler or too many
    workers are lost. Ctrl-C ends the command.
    """
    key, placed, ended = f"{name}-{uuid4().hex}", threading.Event(), threading.Event()

    def hear(event: tuple[float, str | None]) -> None:
        line = event[1]
        if line is None:
            return ended.set()
        if line.startswith(worker.PLACE):
            line = f"its worker was lost; {line}" if placed.is_set() else line
            placed.set()
        print(line, flush=True)

    with connected(address) as client:
        client.subscribe_topic(key, hear)
        future = client.submit(worker.execute, command, str(ROOT), key=key, pure=False)
        try:
            return future.result()
        except KilledWorker as error:
            last = error.last_worker.address
            raise ClusterError(
                f"{error.allowed_failures + 1} workers were lost while they ran this, the last at {last}: out of "
                "memory, or out of time? The next run goes on from there"
            ) from error
        except FutureCancelledError as error:
            raise ClusterError(f"the scheduler at {address} has gone; the next run goes on from there") from error
        except (OSError, ImportError) as error:
            raise ClusterError(f"a worker cannot run the stage: {error}; it needs this project's folder") from error
        except KeyboardInterrupt:
            future.cancel()
            if placed.is_set():
                ended.wait(GRACE / 2)
            raise
