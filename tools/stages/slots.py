"""Slots in which stages run: each in a process group of its own, each line that it prints with the stage's name."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from lib.study.studies import ROOT
from tools.stages.processes import SCHEDULER, end_groups, environment

COPY = "the executed copy, with the traceback: "  # how a line of tools/stages/engine.py begins


class Slots:
    """Up to `jobs` stages at a time.

    gpus: shared out by slot; none = every stage sees all. scheduler: the address of the one whose workers run the
    notebooks; empty = they run here. force: stages run even if they are up to date.
    """

    def __init__(self, jobs: int, gpus: Sequence[str] = (), scheduler: str = "", force: bool = False) -> None:
        if jobs < 1:
            raise ValueError(f"jobs is {jobs}; choose 1 or more")
        self.jobs, self.scheduler, self.force = jobs, scheduler, force
        self.free = [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {} for i in range(jobs)]
        self.running: dict[str, subprocess.Popen] = {}
        self.copies: dict[str, str] = {}  # of the notebooks that failed
        self.ended: queue.Queue[tuple[str, bool, dict[str, str]]] = queue.Queue()

    def start(self, stage: str) -> None:
        """Starts a stage in a free slot."""
        gpu = self.free.pop(0)
        self.running[stage] = subprocess.Popen(
            self.command(stage),
            cwd=ROOT,
            env=environment(self.jobs) | gpu | {SCHEDULER: self.scheduler},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, which is ended as one
        )
        threading.Thread(target=self._pass_on, args=(stage, self.running[stage], gpu), daemon=True).start()

    def command(self, stage: str) -> list[str]:
        """The command line that runs one stage."""
        return [sys.executable, "-m", "tools.stages.processes", stage, *["--force"] * self.force]

    def wait(self) -> tuple[str, bool]:
        """Waits for the next stage to end; returns it, and whether it succeeded."""
        stage, succeeded, gpu = self.ended.get()
        del self.running[stage]
        self.free.append(gpu)
        return stage, succeeded

    def stop(self) -> None:
        """Ends every running stage with all processes that it started."""
        end_groups(*self.running.values())

    def _pass_on(self, stage: str, process: subprocess.Popen, gpu: dict[str, str]) -> None:
        prefix = f"    {short(stage)} | " if self.jobs > 1 else "    "
        with process:
            for line in process.stdout or ():
                if line.startswith(COPY):
                    self.copies[stage] = line.removeprefix(COPY).rstrip()
                if line.strip():
                    print(f"{prefix}{line.rstrip()}", flush=True)
        self.ended.put((stage, process.returncode == 0, gpu))


def short(stage: str) -> str:
    """A stage's name as its lines begin."""
    return stage.rpartition(":")[2].removeprefix("learn@")


def visible_gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is not None:
        return [name for name in names.split(",") if name]
    return [str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]
