"""What breaks beside the study: disks that take nothing, damaged files, rests of kills, clocks that jump.

The whole study is broken in tests/run_faults.py, which takes a quarter of an hour.
"""

import itertools
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dvc import dvcfile
from dvc.utils.serialize import _yaml

from lib.data import frozen as features
from lib.data import tasks
from lib.files import DiskError, write_json
from lib.study import checkpoint, code_digests
from tests.support import small_disk, small_study
from tests.support.bad_input import about
from tests.support.small_run import KEY, begun_by, held, interrupt, learn, result
from tools.datasets import decode
from tools.datasets.splits import Split
from tools.stages import processes


def write_pictures(file: Path) -> None:
    decode.write(
        file, {"name": "grey"}, {"train": Split("grey", ["a"], [0] * 13, np.full((13, 32, 32), 7, np.uint8))}, 32
    )


WRITERS: dict[str, Callable[[Path], None]] = {
    "checkpoint": lambda folder: checkpoint.save(folder, about(), {"weights": torch.ones(5000)}),
    "result": lambda file: write_json(file, {"numbers": list(range(5000))}),
    "task": lambda file: tasks.save(small_study.task(0), file),
    "features": lambda file: features.save(small_study.sequence()[1][0], file),
    "decoded pictures": write_pictures,
}


@contextmanager
def small_files(_: Path) -> Iterator[None]:
    """Files may have 600 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def closed(place: Path) -> Iterator[None]:
    """The folder may not be written to."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    place.chmod(0o555)
    yield
    place.chmod(0o755)


ON_A_DISK = {"no room left": small_disk.full, "read-only": small_disk.read_only}
OBSTACLES = {"ulimit -f": small_files, "may not be written to": closed} | ON_A_DISK  # by words of the message


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("words", OBSTACLES)
@pytest.mark.parametrize("writer", WRITERS)
def test_what_cannot_be_written_is_named_leaves_all_as_it_was_and_can_be_written_later(
    tmp_path: Path, writer: str, words: str
) -> None:
    with small_disk.disk(tmp_path) if words in ON_A_DISK else nullcontext(tmp_path) as place:
        target = place / "target"
        before: dict[str, bytes] = {}
        for _ in range(2):  # for the second time there is an older one
            before = bytes_in(place)
            with OBSTACLES[words](place), pytest.raises(DiskError, match=f"{target} cannot be written: .*{words}"):
                WRITERS[writer](target)
            assert bytes_in(place) == before
            WRITERS[writer](target)
        assert bytes_in(place) == before


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(code_digests, "of_method", small_study.code_of_method)
    small_study.prepare(tmp_path)
    return tmp_path


def made(home: Path) -> list[bytes]:
    """The bytes of the run's result and checkpoint."""
    return [result(home).read_bytes(), *held(home)]


@pytest.fixture
def undisturbed(home: Path) -> list[bytes]:
    """The bytes of the run, which is then as if it had never been."""
    learn(home)
    whole = made(home)
    shutil.rmtree(home / "reports")
    shutil.rmtree(home / "data" / "tiny" / "runs")
    return whole


def saved(home: Path, task: int) -> Path:
    """Where the progress of a task is kept."""
    return next(home.glob(f"data/tiny/scratch/{KEY}/*/{task}"))


def test_rests_of_kills_are_in_nobodys_way(home: Path, undisturbed: list[bytes]) -> None:
    interrupt(lambda: learn(home))
    for target in (saved(home, 0).with_name("1"), home / "data" / "tiny" / "runs" / KEY):
        for end in ("partial", "before"):
            rest = target.with_name(f"{target.name}.{end}")
            rest.mkdir(parents=True)
            (rest / "about.json").write_text("half a")
    result(home).parent.mkdir(parents=True)
    result(home).with_name(f"{result(home).name}.partial").write_text("half a")
    assert begun_by(lambda: learn(home)) == [1, 2]
    assert made(home) == undisturbed
    assert not [*home.rglob("*.partial")]


def test_clocks_that_jump_and_files_of_another_time_change_nothing(home: Path, undisturbed: list[bytes]) -> None:
    for number, file in enumerate(home.glob("data/tiny/*/*.safetensors")):
        second = (1, 2**32)[number % 2]  # 1970 and 2106
        os.utime(file, (second, second))
    jumps = itertools.cycle([0.0, 3e9, -3e9, 86_400.0, -1.0])
    with pytest.MonkeyPatch.context() as patch:
        for name in ("time", "monotonic"):
            patch.setattr(time, name, lambda: next(jumps))
        interrupt(lambda: learn(home))
        assert begun_by(lambda: learn(home)) == [1, 2]
    assert made(home) == undisturbed


def test_a_kill_while_dvc_writes_its_lock_leaves_the_last_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvcfile, "modify_yaml", dvcfile.modify_yaml)  # to be put back
    processes.keep_locks_whole()
    assert "modify_yaml" in dvcfile.Lockfile.dump_stages.__code__.co_names  # what DVC writes its lock by
    lock = tmp_path / "dvc.lock"
    with dvcfile.modify_yaml(str(lock)) as data:
        data["first"] = 1

    def killed(_data: object, stream: Any) -> None:
        stream.write("fir")
        raise KeyboardInterrupt

    monkeypatch.setattr(_yaml, "_dump", killed)
    with pytest.raises(KeyboardInterrupt), dvcfile.modify_yaml(str(lock)) as data:
        data["second"] = 1
    assert lock.read_text() == "first: 1\n"
