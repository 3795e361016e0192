"""A disk of a few kilobytes for the tests, which can be filled and made read-only."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mount(options: str, place: Path) -> None:
    """Mounts a disk in memory. Skips the test where this user may not."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip("to mount a small disk one must be root")


@contextmanager
def disk(place: Path, size: str = "512k") -> Iterator[Path]:
    """A disk of that size at `place`; what is on it is lost afterwards."""
    place.mkdir(parents=True, exist_ok=True)
    mount(f"size={size}", place)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def full(place: Path) -> Iterator[None]:
    """No room is left on the disk at `place`."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            pass
    yield
    filler.unlink()


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """The disk at `place` takes nothing."""
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
