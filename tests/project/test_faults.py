"""What breaks beside the study: disks that take nothing, damaged files, rests of kills, clocks that jump.

The whole study is broken in tests/run_faults.py, which takes a quarter of an hour.
"""

import itertools
import json
import os
import random
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from dvc import dvcfile
from dvc.utils.serialize import _yaml

from lib.data import frozen as features
from lib.data import tasks
from lib.files import DiskError
from lib.report import tables
from lib.study import checkpoint, code_digests, results
from lib.study.checkpoint import CheckpointError
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
    "result": lambda file: results.write_json(file, {"numbers": list(range(5000))}),
    "task": lambda file: tasks.save(small_study.task(0), file),
    "features": lambda file: features.save(small_study.sequence()[1][0], file),
    "decoded pictures": write_pictures,
}


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(writer: str, target: Path) -> str:
    """What the writer says; fails if it writes, or does not leave all as it was."""
    before = bytes_in(target.parent)
    with pytest.raises(DiskError) as caught:
        WRITERS[writer](target)
    assert bytes_in(target.parent) == before
    return str(caught.value)


def message(target: Path, reason: str) -> str:
    return f"{target} cannot be written: {reason} and run the same command again; what was finished is kept"


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("older", [True, False])
def test_a_full_disk_is_named_and_room_is_enough_to_go_on(tmp_path: Path, writer: str, older: bool) -> None:
    with small_disk.disk(tmp_path) as place:
        if older:
            WRITERS[writer](place / "target")
        with small_disk.full(place):
            said = refused(writer, place / "target")
        assert said == message(place / "target", "there is no room left on its disk; make room")
        WRITERS[writer](place / "target")
        written = bytes_in(place)
        WRITERS[writer](place / "target")
        assert bytes_in(place) == written


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files may have that many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_limit_of_files_is_named(tmp_path: Path, writer: str) -> None:
    with largest_file(600):
        said = refused(writer, tmp_path / "target")
    reason = "files as large as that are not allowed; raise the limit (ulimit -f)"
    assert said == message(tmp_path / "target", reason)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_read_only_disk_is_named(tmp_path: Path, writer: str) -> None:
    with small_disk.disk(tmp_path) as place:
        WRITERS[writer](place / "target")
        with small_disk.read_only(place):
            said = refused(writer, place / "target")
        assert said == message(place / "target", "its disk is read-only; make it writable")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("writer", WRITERS)
def test_a_folder_that_may_not_be_written_to_is_named(tmp_path: Path, writer: str) -> None:
    tmp_path.chmod(0o555)
    said = refused(writer, tmp_path / "target")
    assert said == message(tmp_path / "target", "its folder may not be written to; allow it")


def test_other_errors_of_the_system_are_passed_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(FileExistsError):
        results.write_json(tmp_path / "file" / "result.json", {})


# --- runs


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(code_digests, "of_method", small_study.code_of_method)
    small_study.prepare(tmp_path)
    return tmp_path


@pytest.fixture
def undisturbed(home: Path) -> list[bytes]:
    """The bytes of the run, which is then as if it had never been."""
    learn(home)
    made = [result(home).read_bytes(), *held(home)]
    shutil.rmtree(home / "reports")
    shutil.rmtree(home / "data" / "tiny" / "runs")
    return made


def saved(home: Path, task: int) -> Path:
    """Where the progress of a task is kept."""
    return next(home.glob(f"data/tiny/scratch/{KEY}/*/{task}"))


def test_a_run_goes_on_when_a_full_disk_has_room_again(home: Path, undisturbed: list[bytes]) -> None:
    with small_disk.disk(home / "data" / "tiny" / "scratch", "4m") as place:
        interrupt(lambda: learn(home))
        with (
            small_disk.full(place),
            pytest.raises(DiskError, match="scratch.*/1 cannot be written: there is no room"),
        ):
            learn(home)
        assert begun_by(lambda: learn(home)) == [1, 2]
    assert [result(home).read_bytes(), *held(home)] == undisturbed


@pytest.mark.parametrize("file", ["state.safetensors", "about.json"])
def test_a_bit_of_progress_that_flips_is_named_and_never_taken_up(
    home: Path, undisturbed: list[bytes], file: str
) -> None:
    interrupt(lambda: learn(home))
    folder = saved(home, 0)
    whole, rng = (folder / file).read_bytes(), random.Random(0)
    settings = json.loads((folder / "about.json").read_text())["settings"]
    for place in rng.sample(range(len(whole)), 60):
        turned = bytearray(whole)
        turned[place] ^= 1 << rng.randrange(8)
        (folder / file).write_bytes(turned)
        with pytest.raises(CheckpointError, match=f"{folder}.*; delete it and run the study again"):
            checkpoint.load(folder, small_study.backbone().fingerprint, "moe_adapters", settings)
    with pytest.raises(CheckpointError, match=f"{folder}"):
        learn(home)
    shutil.rmtree(folder)
    assert begun_by(lambda: learn(home)) == [0, 1, 2]
    assert [result(home).read_bytes(), *held(home)] == undisturbed


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
    assert [result(home).read_bytes(), *held(home)] == undisturbed
    assert not [*home.rglob("*.partial")]


@pytest.mark.parametrize("kind", ["tasks", "features"])
def test_what_is_cut_short_names_the_stage_that_makes_it(home: Path, kind: str) -> None:
    file = home / "data" / "tiny" / kind / "green.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    stage = {"tasks": "`tasks` makes it again", "features": "`zero_shot` makes them again"}[kind]
    with pytest.raises(ValueError, match=f"{file}.*{stage}"):
        learn(home)


def test_half_a_result_is_named(home: Path) -> None:
    learn(home)
    result(home).write_bytes(result(home).read_bytes()[:300])
    with pytest.raises(tables.ResultError, match=str(result(home))):
        tables.read(result(home).parent)


def test_progress_that_is_removed_is_made_again(home: Path, undisturbed: list[bytes]) -> None:
    interrupt(lambda: learn(home), 2)
    shutil.rmtree(home / "data" / "tiny" / "scratch")
    assert begun_by(lambda: learn(home)) == [0, 1, 2]
    assert [result(home).read_bytes(), *held(home)] == undisturbed


def test_a_clock_that_jumps_changes_nothing(home: Path, undisturbed: list[bytes]) -> None:
    jumps = itertools.cycle([0.0, 3e9, -3e9, 86_400.0, -1.0])
    with pytest.MonkeyPatch.context() as patch:
        for name in ("time", "monotonic"):
            patch.setattr(time, name, lambda: next(jumps))
        interrupt(lambda: learn(home))
        assert begun_by(lambda: learn(home)) == [1, 2]
    assert [result(home).read_bytes(), *held(home)] == undisturbed


@pytest.mark.parametrize("second", [1, 2**32], ids=["1970", "2106"])
def test_files_of_another_time_are_taken_as_they_are(home: Path, undisturbed: list[bytes], second: int) -> None:
    for file in home.glob("data/tiny/*/*.safetensors"):
        os.utime(file, (second, second))
    interrupt(lambda: learn(home))
    assert begun_by(lambda: learn(home)) == [1, 2]
    assert [result(home).read_bytes(), *held(home)] == undisturbed


# --- DVC's notes


def test_a_kill_while_dvc_writes_its_lock_leaves_the_last_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvcfile, "modify_yaml", dvcfile.modify_yaml)  # to be put back
    processes.keep_locks_whole()
    lock = tmp_path / "dvc.lock"
    for name in ("first", "second"):
        with dvcfile.modify_yaml(str(lock)) as data:
            data[name] = 1
    assert lock.read_text() == "first: 1\nsecond: 1\n"

    def killed(_data: object, stream: object) -> None:
        print("fir", file=stream)  # pyright: ignore[reportArgumentType]
        raise KeyboardInterrupt

    monkeypatch.setattr(_yaml, "_dump", killed)
    with pytest.raises(KeyboardInterrupt), dvcfile.modify_yaml(str(lock)) as data:
        data["third"] = 1
    assert lock.read_text() == "first: 1\nsecond: 1\n"
    assert "modify_yaml" in dvcfile.Lockfile.dump_stages.__code__.co_names  # what DVC writes its lock by
