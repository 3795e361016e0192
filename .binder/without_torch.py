"""Prints the lock without PyTorch and what comes with it on Linux: for a place that has its own PyTorch."""

import re
import sys
from pathlib import Path

TORCH = r"(torch|torchvision|triton|(nvidia|cuda)-[^=]*)=="
lock = (Path(__file__).parents[1] / "requirements.lock").read_text()
blocks = re.split(r"\n(?=[a-z0-9])", lock)  # one for each pin, with its hashes
sys.stdout.write("\n".join(block for block in blocks if not re.match(TORCH, block)) + "\n")
