"""Breaks the study on purpose: kills at random moments, a full and a read-only disk, damaged and missing files, clocks.

    make faults                    about twenty minutes on two cores; not among the tests of `make test`
    FAULT_KILLS=3 FAULT_SEED=1     fewer kills, other moments (each run prints its seed)

All of it happens in a clone of the repository in a temporary folder, with what is not committed yet.
"""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.study import params, plan
from lib.study.studies import ROOT
from tests.support import killed_run, small_disk, small_study
from tests.support.broken_study import WAYS, Broken

KILLS = int(os.environ.get("FAULT_KILLS", 20))
SEED = int(os.environ.get("FAULT_SEED", time.time_ns() % 10**6))
TARGET = ["--target", "learn@finetune--I--s0"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Broken:
    """The study in a clone, run once without disturbance."""
    study, began = Broken(tmp_path_factory.mktemp("faults") / "clone"), time.monotonic()
    assert study.run() == 0, study.said()
    study.calm, study.seconds = study.outcome(), time.monotonic() - began
    story = plan.main_story(params.load("studies/short.yaml"))
    assert {Path(name).stem for name in study.calm if name.startswith("reports/results")} == {*story}
    return study


def test_kills_at_random_moments_change_no_byte_and_lose_nothing(study: Broken) -> None:
    rng = random.Random(SEED)
    print(f"\nFAULT_SEED={SEED}")
    study.forget()
    kills, kept, whole = 0, set(), False
    longest = study.seconds / 6  # so that a study is killed several times
    while kills < KILLS or not whole:
        if whole:
            study.forget()
        process, calm = study.start(jobs=rng.choice([1, 2])), True
        while kills < KILLS and not study.ends_within(process, rng.uniform(0.5, longest)):
            way, calm, kills = rng.choice([*WAYS]), False, kills + 1
            print(f"kill {kills}: {way}; {len(study.finished())} stages are done", flush=True)
            if WAYS[way](study, process, rng):
                break
        study.wait_for_the_end(process)
        whole, done = process.returncode == 0, study.finished()
        assert whole or not calm, study.said()
        assert kept <= done, f"lost: {kept - done}"
        assert not whole or study.outcome() == study.calm
        kept = set() if whole else done


def test_kills_within_a_run_change_no_byte_and_lose_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the fork server
    rng = random.Random(SEED)
    print(f"\nFAULT_SEED={SEED}")
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    for home in (calm, wild):
        small_study.prepare(home)
    killed_run.learn_until(wild, change=1)  # from here on all is imported
    began = time.monotonic()
    _, changes = killed_run.learn_until(calm)
    seconds, kills, kept = time.monotonic() - began, 0, set()
    while kills < KILLS:
        change, after = rng.choice([(rng.randint(1, changes), None), (0, rng.uniform(0, seconds))])
        whole, _ = killed_run.learn_until(wild, change, after)
        kills += not whole
        print(f"change {change} or {after} s: {kills} kills, tasks {sorted(finished(wild))} are done", flush=True)
        assert whole or kept <= finished(wild), "a finished task was lost"
        kept = set() if whole else finished(wild)
        if whole:
            assert files(wild) == files(calm)
            shutil.rmtree(wild)
            small_study.prepare(wild)
    assert killed_run.learn_until(wild)[0]
    assert files(wild) == files(calm)


def finished(home: Path) -> set[str]:
    """The tasks of an interrupted run that are whole."""
    return {p.name for p in home.glob("data/tiny/scratch/*/*/*") if p.name.isdigit()}


def files(home: Path) -> dict[str, bytes]:
    """The result and the checkpoint of a run."""
    made = [*home.glob("reports/results/**/*"), *home.glob("data/tiny/runs/**/*")]
    return {str(path.relative_to(home)): path.read_bytes() for path in made if path.is_file()}


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def to_another_time(file: Path) -> None:
    """The file's date, and those around it, as of a clock in 2106 or in 1970."""
    for number, each in enumerate(sorted(file.parent.iterdir())):
        os.utime(each, (2**32, 2**32) if number % 2 else (1, 1))


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (cut, "data/short/runs/finetune--I--s0/state.safetensors"),
    (flip, "data/short/runs/finetune_single--I--s0/state.safetensors"),
    (flip, "data/short/runs/adapter--I--s0/about.json"),
    (cut, "reports/results/short/adapter--I--s0.json"),
    (cut, "reports/tables/short/summary.csv"),
    (to_another_time, "data/short/features/digits.safetensors"),
]


def test_what_is_damaged_is_made_again(study: Broken) -> None:
    for damage, file in DAMAGE:
        damage(study.clone / file)
    assert study.run() == 0, study.said()
    assert study.outcome() == study.calm


def test_what_can_be_done_without_is_not_missed(study: Broken) -> None:
    for gone in ("data/short/scratch", "data/code", "reports/notebooks"):
        shutil.rmtree(study.clone / gone, ignore_errors=True)
    assert study.run(*TARGET) == 0, study.said()
    assert study.outcome() == study.calm
    assert study.ran() <= {"code"}


def test_what_is_removed_is_made_again(study: Broken) -> None:
    for gone in ("data/short/tasks", "data/short/features", ".dvc/cache"):
        shutil.rmtree(study.clone / gone)
    assert study.run(*TARGET) == 0, study.said()
    assert study.outcome() == study.calm


@pytest.mark.parametrize(("name", "cure"), [("studies/short/dvc.lock", "git checkout"), (".dvc/tmp/rwlock", "delete")])
def test_half_a_note_of_dvc_is_named_with_its_cure(study: Broken, name: str, cure: str) -> None:
    file = study.clone / name
    whole = file.read_text() if file.exists() else "{}"
    file.write_text(whole[: whole.index("deps:") + 2] if "deps:" in whole else '{"write": {')
    assert study.run(*TARGET) == 2
    assert name in study.said()
    assert cure in study.said()
    file.write_text(whole)
    assert study.run(*TARGET) == 0, study.said()


def test_a_full_disk_is_named_and_when_there_is_room_the_study_goes_on(study: Broken) -> None:
    place = study.clone / "data" / "short"
    with small_disk.disk(place, "64k"):
        assert study.run(*TARGET) == 1
        assert "cannot be written: there is no room left on its disk; make room" in study.said()
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        assert study.run(*TARGET) == 0, study.said()
        shutil.rmtree(place / "features")
        with small_disk.read_only(place):
            assert study.run(*TARGET) == 1
            assert "read-only" in study.said().lower()
    assert study.run(*TARGET) == 0, study.said()
    assert study.outcome() == study.calm
