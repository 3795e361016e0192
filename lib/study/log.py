"""What a run says of itself: how far it is, what it costs, and its machine, versions and revision."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from lib.files import write_json
from lib.study.studies import ROOT

PACKAGES = ("torch", "open_clip_torch", "numpy", "pillow", "scikit-learn", "scikit-image")


def minutes(seconds: float) -> str:
    """A duration in words: '45 s', '12 min', '2 h 05 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    whole = round(seconds / 60)
    return f"{whole} min" if whole < 60 else f"{whole // 60} h {whole % 60:02d} min"


class Progress:
    """Prints a line every `every` seconds at most, and one at the end. start: what was done before."""

    def __init__(self, label: str, total: int, start: int = 0, every: float = 5.0) -> None:
        self.label, self.total, self.first, self.every = label, total, start, every
        self.began = self.printed = time.monotonic()

    def report(self, done: int, what: str) -> None:
        """Says that `done` things are done; what: their name, and what else there is to say."""
        if self.due(done):
            self.printed = time.monotonic()
            left = (self.printed - self.began) / max(1, done - self.first) * (self.total - done)
            print(f"{self.label}: {done}/{self.total} {what}, {minutes(left)} left", flush=True)

    def due(self, done: int) -> bool:
        """True if `report` would print. Ask first: only then need the loss be fetched from the device."""
        return time.monotonic() - self.printed >= self.every or done >= self.total


def write_cost(path: Path, task: str, seconds: dict[str, float], spent: Mapping[str, float | None]) -> None:
    """Adds what a task took to a run's cost file: seconds by part, and whole numbers by name (None: not measured)."""
    content = json.loads(path.read_text()) if path.exists() else {}
    content["seconds"] = content.get("seconds", {}) | {task: {k: round(v, 2) for k, v in seconds.items()}}
    for name, number in spent.items():
        if number is not None:
            content[name] = content.get(name, {}) | {task: round(number)}
    write_json(path, content | origin())


def peak_memory_mb() -> float:
    """The most memory this process has held, in megabytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)


def origin() -> dict:
    """The machine, the versions and the revision, as a cost file has them."""
    machine = {"system": platform.platform(terse=True), "processor": platform.machine(), "cores": os.cpu_count()}
    versions = {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}
    return {"machine": machine, "versions": versions, "revision": revision()}


def revision() -> str:
    """The commit that is checked out, or "unknown" without git."""
    try:
        command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def provenance(**parameters: object) -> str:
    """What a notebook runs with, for its first cell: versions, device, revision, parameters."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    given = ", ".join(f"{k} = {v}" for k, v in parameters.items())
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, open_clip {version('open_clip_torch')}"
    return f"{versions}, {device}, revision {revision()[:12]}\n{given}"
