"""The stages on several machines: one coordinator walks DVC's graph, and Dask runs the notebooks' commands elsewhere.

Why all of DVC's work stays with the coordinator: DVC's locks hold the numbers of processes of one machine. Another
machine does not know these, takes the locks for left over and removes them; and those of a machine that was switched
off would block everyone. Also only DVC knows, once a stage's parents have run, whether there is anything left to do.
So each stage becomes a task of Dask's after its parents; what a worker sees is a command and the shared folder.
"""

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import cloudpickle
from distributed import Client, KilledWorker, Nanny, Scheduler, SpecCluster
from distributed.client import FutureCancelledError

import tools
from lib.settings import Count, ParamsError, Positive, build
from lib.strict_yaml import read_yaml
from lib.study.paths import ROOT
from tools.stages import worker
from tools.stages.lock import LOCK
from tools.stages.slots import GRACE, PLACE, environment

CONNECT = 20  # seconds
DASHBOARD = 8787  # the port; another one is taken where this is in use


class ClusterError(ValueError):
    """A cluster that cannot be used; the message says what to do."""


# --- settings


@dataclass(frozen=True)
class Slurm:
    """What a job of SLURM's asks for, and how many there are; cluster.yaml says more."""

    queue: str | None
    account: str | None
    interface: str | None
    cores: Positive
    memory: str
    walltime: str
    directives: list[str]
    prologue: list[str]
    minimum: Count
    maximum: Positive


@dataclass(frozen=True)
class Settings:
    """cluster.yaml: futures at a time, workers that may be lost under a stage, SLURM's jobs."""

    stages_at_once: Positive
    lost_workers: Count
    slurm: Slurm


def load(file: Any = ROOT / "cluster.yaml") -> Settings:
    """Reads the settings. Raises ParamsError if the file cannot be read or has a wrong key or value."""
    settings = build(Settings, read_yaml(file, file.name), file.name)
    jobs = settings.slurm
    if jobs.maximum < jobs.minimum:
        raise ParamsError(f"{file.name}: slurm: maximum is {jobs.maximum}; it must be {jobs.minimum} or more")
    return settings


# --- the cluster


@contextmanager
def ready(where: str, settings: Settings, jobs: int, gpus: Sequence[str] = ()) -> Iterator[str]:
    """The address of a scheduler whose workers, so far, can run stages; what was started for it ends with the context.

    where: local (`jobs` workers here, each with a group of `gpus`), slurm, or a scheduler's address.
    Raises ClusterError if the scheduler is not reached, or a worker cannot run stages.
    """
    if where not in ("local", "slurm") and ":" not in where:
        raise ClusterError(f"the cluster is {where!r}; it must be local, slurm or an address as tcp://HOST:8786")
    started = {"local": lambda: local(settings, jobs, gpus), "slurm": lambda: slurm(settings)}
    with started.get(where, nullcontext)() as cluster:
        address = cluster.scheduler_address if cluster else where
        inspect(address)
        yield address


def local(settings: Settings, jobs: int, gpus: Sequence[str] = ()) -> SpecCluster:
    """A scheduler here and `jobs` workers, each with its share of the cores and a group of the GPUs."""
    quiet: dict[str, Any] = {"silence_logs": logging.ERROR}
    alike = {"nthreads": 1, "memory_limit": 0, "dashboard": False, "preload": [IGNORE_CTRL_C]} | quiet
    threads = {"OMP_NUM_THREADS": environment(jobs)["OMP_NUM_THREADS"]}
    seen = [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {} for i in range(jobs)]
    workers = {i: {"cls": Nanny, "options": alike | {"env": threads | seen[i]}} for i in range(jobs)}
    where = {"host": "127.0.0.1", "port": 0, "dashboard_address": f"127.0.0.1:{DASHBOARD}"}
    scheduler = {"cls": Scheduler, "options": where | {"allowed_failures": settings.lost_workers}}
    return SpecCluster(workers, scheduler, name="local", **quiet)


# Ctrl-C in a terminal reaches every process; the coordinator is the one that acts on it
IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


def slurm(settings: Settings) -> Any:
    """A scheduler here, and a job for each stage that is ready, up to `maximum`."""
    from dask_jobqueue.slurm import SLURMCluster

    jobs = settings.slurm
    cluster = SLURMCluster(
        queue=jobs.queue,
        account=jobs.account,
        interface=jobs.interface,
        cores=1,  # threads of a worker: one stage at a time
        processes=1,
        job_cpu=jobs.cores,
        memory=jobs.memory,
        walltime=jobs.walltime,
        job_extra_directives=jobs.directives,
        job_script_prologue=[f"export OMP_NUM_THREADS={jobs.cores}", *jobs.prologue],
        python=sys.executable,
        log_directory=str(LOCK.parent / "slurm"),
        scheduler_options={
            "dashboard_address": f":{DASHBOARD}",
            "allowed_failures": settings.lost_workers,
        },
    )
    cluster.adapt(minimum=jobs.minimum, maximum=jobs.maximum, target_duration="100ms")  # no two stages share a job
    return cluster


def inspect(address: str) -> None:
    """Says what there is. Raises ClusterError if no scheduler answers, or names the workers that cannot run stages."""
    with connected(address) as client:
        print(f"scheduler {address}, dashboard {client.dashboard_link}", flush=True)
        given = (str(LOCK), LOCK.read_text(), worker.versions())
        found: Any = client.run(BySource(worker.unfit), *given)
    wrong = [f"worker {name}: {why}" for name, why in found.items() if why]
    if wrong:
        raise ClusterError("; ".join(wrong))
    by_hand = f"jobs of SLURM come by themselves, others by `dask worker {address} --nthreads 1`"
    more = "" if found else f"; stages wait until there is one: {by_hand}"
    print(f"{len(found)} worker{'s' * (len(found) != 1)}{more}", flush=True)


def connected(address: str) -> Client:
    """A client of the scheduler. Raises ClusterError if none answers there."""
    for name in ("distributed", "distributed.client"):  # what they log is told here in a line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no scheduler answers at {address}: start one (dask scheduler), or correct the address"
        ) from error


class BySource:
    """A function of lib that is sent whole, so that a worker need not find it by its name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *given: Any) -> Any:
        """Calls it."""
        return self.function(*given)

    def __reduce__(self) -> tuple:
        """What pickle writes: the function as cloudpickle writes those of a module that it must not import."""
        cloudpickle.register_pickle_by_value(tools)
        return cloudpickle.loads, (cloudpickle.dumps(self.function),)


# --- a stage


def send(address: str, name: str, command: list[str]) -> int:
    """Runs Python with this command line on a worker, in the project's root; passes on what it prints.

    name: for the dashboard, the same whenever the stage is run. Returns the exit status. Raises ClusterError if the
    scheduler is lost, too many workers were, or the one that was chosen cannot run stages. Ctrl-C ends the command.
    """
    key, placed, ended = f"{name}-{uuid4().hex}", threading.Event(), threading.Event()

    def heard(event: tuple[float, str | None]) -> None:
        line = event[1]
        if line is None:
            return ended.set()
        if line.startswith(PLACE):
            if placed.is_set():
                print("its worker was lost", flush=True)
            placed.set()
        print(line, flush=True)

    with connected(address) as client:
        client.subscribe_topic(key, heard)
        note = (str(LOCK), LOCK.read_text(), worker.versions())
        future = client.submit(BySource(worker.execute), name, command, str(ROOT), *note, key=key, pure=False)
        try:
            return future.result()
        except KilledWorker as error:
            raise ClusterError(
                f"{error.allowed_failures + 1} workers were lost while they ran this, the last at "
                f"{error.last_worker.address}: out of memory, or out of time? The next run goes on from there"
            ) from error
        except FutureCancelledError as error:
            raise ClusterError(f"the scheduler at {address} has gone; the next run goes on from there") from error
        except RuntimeError as error:
            raise ClusterError(str(error)) from error
        except KeyboardInterrupt:
            future.cancel()
            if placed.is_set():
                ended.wait(GRACE / 2)
            raise
