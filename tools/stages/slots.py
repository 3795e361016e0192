"""Runs DVC's stages in slots: as many at a time as asked for, each after those it waits for, each in a process group.

A stage that fails stops only what depends on it. Every line that a stage prints is passed on with the stage's name.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from graphlib import TopologicalSorter
from pathlib import Path

from lib.study.paths import ROOT
from lib.study.progress import minutes

# lines of DVC that say nothing here
NOISE = (
    ">",
    "Updating lock",
    "Generating lock",
    "To track",
    "\tgit",
    "Use `dvc",
    "WARNING: Process",
    "Data and pipelines",
)
UNCHANGED, RUNNING = "didn't change, skipping", "Running stage"  # DVC's words
GRACE = 10.0  # seconds between SIGTERM and SIGKILL
SCHEDULER = "STUDY_SCHEDULER"  # the variable that makes tools.stages.notebooks send its work to a cluster
PLACE = "running on "  # how a line begins that says where and since when a cluster runs a stage
COPY = "the executed copy, with the traceback: "  # tools.stages.notebooks' words


class Slots:
    """The slots and what has become of the stages so far.

    weights: what each stage counts in the time left. gpus: by slot those that its stages see; none = all see all.
    scheduler: the address of the one whose workers run the stages' notebooks; empty = they are run here.
    changed: tells of a stage whose turn it is whether there is anything to do for it.
    """

    def __init__(
        self,
        jobs: int,
        weights: dict[str, float],
        force: bool = False,
        gpus: Sequence[str] = (),
        scheduler: str = "",
        changed: Callable[[str], bool] = lambda _: True,
    ) -> None:
        if jobs < 1:
            raise ValueError(f"jobs is {jobs}; choose 1 or more")
        self.jobs, self.weights, self.force, self.gpus = jobs, weights, force, gpus
        self.scheduler, self.changed = scheduler, changed
        self.free = list(range(jobs))  # numbers of the slots
        self.slot: dict[str, int] = {}  # of each running stage
        self.running: dict[str, subprocess.Popen] = {}
        self.places: dict[str, str] = {}  # where and since when a cluster runs a stage
        self.copies: dict[str, str] = {}  # of the notebooks that failed
        self.ran: list[str] = []
        self.unchanged: list[str] = []
        self.failed: list[str] = []
        self.skipped: list[str] = []
        self.began = time.monotonic()
        self.ended: queue.Queue[tuple[str, bool, bool]] = queue.Queue()

    def run(self, waiting: dict[str, set[str]]) -> None:
        """Runs stages, each after those that it waits for; returns when nothing more can run."""
        order = TopologicalSorter(waiting)
        order.prepare()
        urgent = longest_ways(waiting, {stage: self.weights.get(stage, 1.0) for stage in waiting})
        ready: list[str] = []
        while order.is_active():
            ready = sorted([*ready, *order.get_ready()], key=lambda stage: -urgent[stage])
            if ready and len(self.running) < self.jobs:
                self._take(ready.pop(0), order)
            elif self.running:
                self._wait(order)
            else:
                break  # all that is left waits for a stage that failed
        known = {*self.ran, *self.unchanged, *self.failed}
        self.skipped += sorted(stage for stage in waiting if stage not in known)

    def _take(self, stage: str, order: TopologicalSorter[str]) -> None:
        if self.force or self.changed(stage):
            self._start(stage)
        else:  # what it reads came out as it was
            self.unchanged.append(stage)
            order.done(stage)

    def _wait(self, order: TopologicalSorter[str]) -> None:
        stage, fine, changed = self.ended.get()
        del self.running[stage]
        self.places.pop(stage, None)
        self.free.append(self.slot.pop(stage))
        if fine:
            (self.ran if changed else self.unchanged).append(stage)
            order.done(stage)
        else:
            self.failed.append(stage)
        self._say_where()

    def _start(self, stage: str) -> None:
        self.slot[stage] = number = self.free.pop(0)
        seen = {"CUDA_VISIBLE_DEVICES": self.gpus[number % len(self.gpus)]} if self.gpus else {}
        self.running[stage] = subprocess.Popen(
            self.command(stage),
            cwd=ROOT,
            env=environment(self.jobs) | seen | {SCHEDULER: self.scheduler},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, to be ended as one
        )
        threading.Thread(target=self._listen, args=(stage, self.running[stage]), daemon=True).start()

    def command(self, stage: str) -> list[str]:
        """The command line that runs a stage alone: DVC decides whether there is anything to do."""
        force = ["--force"] * self.force
        return [
            sys.executable,
            "-m",
            "tools.stages.dvc_process",
            "--wait-for-lock",
            "repro",
            "--single-item",
            *force,
            stage,
        ]

    def _listen(self, stage: str, process: subprocess.Popen) -> None:
        changed = True
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                text = line.rstrip()
                changed &= UNCHANGED not in text
                if text.startswith(RUNNING):
                    self._announce(stage)
                if text.startswith(PLACE):
                    self.places[stage] = text.removeprefix(PLACE)
                if text.startswith(COPY):
                    self.copies[stage] = text.removeprefix(COPY)
                if text and UNCHANGED not in text and not text.startswith((*NOISE, RUNNING)):
                    print(f"    {short(stage)} | {text}" if self.jobs > 1 else f"    {text}", flush=True)
        self.ended.put((stage, process.wait() == 0, changed))

    def _announce(self, stage: str) -> None:
        done = len(self.ran) + len(self.unchanged) + len(self.failed) + 1
        print(f"[{done}/{len(self.weights)}] {stage}{self._left()}", flush=True)

    def _say_where(self) -> None:
        places = [f"{short(stage)} on {place}" for stage, place in [*self.places.items()]]
        if places:
            print(f"running: {', '.join(places)}", flush=True)

    def _left(self) -> str:
        done = sum(self.weights.get(stage, 1.0) for stage in [*self.ran, *self.unchanged])
        seconds = time.monotonic() - self.began
        if not done or seconds < 20:
            return ""
        left = sum(self.weights.values()) - done
        return f" (about {minutes(seconds / done * left)} left)"

    def stop(self) -> None:
        """Ends every stage that is running, with all that it started."""
        groups = [process.pid for process in self.running.values()]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for group in groups:
                try:
                    os.killpg(group, number)
                except ProcessLookupError:
                    continue
            until = time.monotonic() + GRACE
            while time.monotonic() < until and any(p.poll() is None for p in self.running.values()):
                time.sleep(0.1)

    def summary(self) -> int:
        """Says what became of the stages; returns the exit status."""
        took = minutes(time.monotonic() - self.began)
        counts = f"{len(self.ran)} stages ran, {len(self.failed)} failed, {len(self.skipped)} skipped"
        print(f"\n{'failed' if self.failed else 'done'} after {took}: {counts}", flush=True)
        for stage in self.failed:
            notebook = f", its notebook is {self.copies[stage]}" if stage in self.copies else ""
            print(f"failed: {stage} (its message is above{notebook})", file=sys.stderr)
        for stage in self.skipped:
            print(f"not run, since it waits for a stage that failed: {stage}", file=sys.stderr)
        return 1 if self.failed else 0


def longest_ways(waiting: dict[str, set[str]], weights: dict[str, float]) -> dict[str, float]:
    """The weight of the longest chain of stages from each one to the end: long chains are to start first."""
    way = dict.fromkeys(waiting, 0.0)
    for stage in reversed(list(TopologicalSorter(waiting).static_order())):
        way[stage] += weights[stage]
        for other in waiting[stage]:
            way[other] = max(way[other], way[stage])
    return way


def short(stage: str) -> str:
    """A stage's name as its lines begin."""
    return stage.rpartition(":")[2].removeprefix("learn@")


def gpu_groups(each: int) -> list[str]:
    """The GPUs that may be used, in groups of so many, as CUDA_VISIBLE_DEVICES names them; none without a GPU."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = [str(i) for i in range(len([*Path("/dev").glob("nvidia[0-9]*")]))]
    usable = there if given is None else [name for name in given.split(",") if name]
    return [",".join(usable[i : i + each]) for i in range(0, len(usable) - each + 1, each)]


def environment(jobs: int) -> dict[str, str]:
    """The stages' environment: this Python first on the path, the cores divided between the slots."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    threads = str(max(1, len(os.sched_getaffinity(0)) // jobs))
    # GOMP's threads spin long while they wait: on cores shared with others a step then takes many times as long
    wanted = {"GOMP_SPINCOUNT": "20000", "OMP_NUM_THREADS": threads}
    return wanted | os.environ | {"PYTHONUNBUFFERED": "1", "PATH": path}
