"""A study that is broken on purpose: it runs in a clone of the repository, and is watched down to its last process."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import yaml

from lib.study.studies import ROOT

MARK = "FAULTS_STUDY"  # in the environment of all that a study starts
MADE = [
    *("data/short", "data/code", ".dvc/cache", ".dvc/tmp", "studies/short/dvc.lock", "reports/short"),
    *(f"reports/{kind}/short" for kind in ("results", "cost", "figures", "tables", "notebooks")),
]
COMPARED = [
    *(f"reports/{kind}/short" for kind in ("results", "tables", "figures")),
    *(f"data/short/{kind}" for kind in ("runs", "tasks", "features")),
]
MEASURED = {"pareto.png"}  # draws seconds, which are measured anew


class Broken:
    """The study `short` in a clone at `clone`.

    calm, seconds: the files of an undisturbed run, by name, and how long it took.
    """

    def __init__(self, clone: Path) -> None:
        self.clone, self.log, self.mark = clone, clone.with_name("said"), uuid4().hex
        self.calm: dict[str, bytes] = {}
        self.seconds = 0.0
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        changed = ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"]
        for name in filter(None, subprocess.check_output(changed, cwd=ROOT, text=True).split("\0")):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_file():
                shutil.copy2(ROOT / name, clone / name)
            elif not (ROOT / name).exists():
                (clone / name).unlink()
        self.forget()

    def forget(self) -> None:
        """Removes all that the study has made."""
        for name in MADE:
            path = self.clone / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def start(self, *more: str, jobs: int = 2) -> subprocess.Popen:
        """Starts the study, in a process group of its own."""
        mine = {MARK: self.mark, "PYTHONPATH": str(self.clone)}
        command = [sys.executable, "-m", "tools.stages.run", "--study", "short", "--jobs", str(jobs), *more]
        with self.log.open("w") as said:
            return subprocess.Popen(
                command,
                cwd=self.clone,
                env=os.environ | mine | {"DVC_SITE_CACHE_DIR": str(self.clone.with_name("site"))},
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *more: str) -> int:
        """Runs the study to its end; returns its exit status."""
        process = self.start(*more)
        self.wait_for_the_end(process)
        return process.returncode

    def said(self) -> str:
        """What the last start has printed."""
        return self.log.read_text()

    def ran(self) -> set[str]:
        """The stages that ran since the last start, as in the lock file."""
        return {line.split()[1].rpartition(":")[2] for line in self.said().splitlines() if line.startswith("[")}

    def finished(self) -> set[str]:
        """The stages that DVC knows as done."""
        lock = self.clone / "studies" / "short" / "dvc.lock"
        return {*yaml.safe_load(lock.read_text())["stages"]} if lock.exists() else set()

    def outcome(self) -> dict[str, bytes]:
        """All that must come out the same, byte for byte."""
        found = [path for name in COMPARED for path in sorted((self.clone / name).rglob("*")) if path.is_file()]
        found = [path for path in found if path.name not in MEASURED]
        return {str(path.relative_to(self.clone)): path.read_bytes() for path in found}

    def processes(self) -> list[int]:
        """All that a study has started, whatever became of who started it, and that still runs."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or is somebody else's
                marked = f"{MARK}={self.mark}".encode() in (process / "environ").read_bytes().split(b"\0")
                if marked or (process / "cwd").readlink().is_relative_to(self.clone):  # or on a worker of a cluster
                    found.append(int(process.name))
        return found

    def ends_within(self, process: subprocess.Popen, seconds: float) -> bool:
        """Waits that long; True if the study ended by itself."""
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait_for_the_end(self, process: subprocess.Popen) -> None:
        """Until nothing of the study runs any more. Raises AssertionError for what goes on a minute later."""
        process.wait(1200)
        until = time.monotonic() + 60
        while (left := self.processes()) and time.monotonic() < until:
            time.sleep(0.2)
        assert not left, f"still running: {left}"


def kill_group(study: Broken, process: subprocess.Popen, rng: random.Random) -> bool:
    """Everything in the study's own group, without warning."""
    os.killpg(process.pid, signal.SIGKILL)
    return True


def kill_coordinator(study: Broken, process: subprocess.Popen, rng: random.Random) -> bool:
    """The study's own process, without warning: what it started has to end by itself."""
    process.kill()
    return True


def terminate(study: Broken, process: subprocess.Popen, rng: random.Random) -> bool:
    """As a system that is shut down asks for."""
    process.terminate()
    return True


def kill_one(study: Broken, process: subprocess.Popen, rng: random.Random) -> bool:
    """One process of those that the study started: its stage fails, the others go on."""
    others = [number for number in study.processes() if number != process.pid]
    with suppress(ProcessLookupError, IndexError):
        os.kill(rng.choice(others), signal.SIGKILL)
    return False


WAYS: dict[str, Callable[[Broken, subprocess.Popen, random.Random], bool]] = {
    "SIGKILL to the study's group": kill_group,
    "SIGKILL to the study alone": kill_coordinator,
    "SIGTERM to the study": terminate,
    "SIGKILL to one of its processes": kill_one,
}  # each returns True if the study itself is to end by it
