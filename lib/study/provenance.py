"""Where a number comes from: the machine, the versions of packages, the revision and the parameters."""

import os
import platform
import subprocess
from importlib.metadata import version

from lib.study.studies import ROOT

PACKAGES = ("torch", "open_clip_torch", "numpy", "pillow", "scikit-learn", "scikit-image")


def origin() -> dict:
    """The machine, the versions and the revision, as a cost file has them."""
    machine = {
        "system": platform.platform(terse=True),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
    }
    versions = {"python": platform.python_version()} | {p: version(p) for p in PACKAGES}
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
