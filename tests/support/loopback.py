"""What the tests of a cluster share: a scheduler and commands on loopback, and what becomes of processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lib.study.studies import ROOT

DASK = [sys.executable, "-m", "dask"]
LOOPBACK = ["--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
# a process that sends a command as a stage does: the scheduler, the command's source
SENDER = """
import sys
from tools.stages import cluster
try:
    sys.exit(cluster.run_on_worker(sys.argv[1], "stage", [sys.executable, "-c", *sys.argv[2:]]))
except cluster.ClusterError as error:
    sys.exit(f"error: {error}")
"""
# a command that notes its process and its worker's, and sleeps but for the time that it is asked to end
SLEEPER = """
import os, sys, time
file, last = sys.argv[1], int(sys.argv[2])
with open(file, "a") as log:
    log.write(f"{os.getpid()} {os.getppid()}\\n")
if len(open(file).readlines()) < last:
    time.sleep(120)
sys.exit(5)
"""


def until(happens: Callable[[], object], seconds: float = 60) -> None:
    """Waits for something to be so; fails if it is not in time."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.05)


def has_ended(process: int) -> bool:
    told = subprocess.run(["ps", "-p", str(process), "-o", "stat="], capture_output=True, text=True)
    return told.stdout.strip()[:1] in ("", "Z")


def seen(file: Path) -> list[tuple[int, int]]:
    """The processes of the commands that have started so far, and their workers'."""
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [(int(line.split()[0]), int(line.split()[1])) for line in lines]


def scheduler(folder: Path) -> tuple[subprocess.Popen, str]:
    """Starts a scheduler under which one worker may be lost; its process and its address."""
    file = folder / "scheduler.json"
    few = os.environ | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    command = [*DASK, "scheduler", "--port", "0", "--scheduler-file", str(file), *LOOPBACK]
    process = subprocess.Popen(command, env=few, stderr=subprocess.DEVNULL)
    until(lambda: file.exists() and file.read_text().endswith("}"))
    return process, json.loads(file.read_text())["address"]


def sender(address: str, *command: str) -> subprocess.Popen:
    full = [sys.executable, "-c", SENDER, address, *command]
    return subprocess.Popen(full, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
