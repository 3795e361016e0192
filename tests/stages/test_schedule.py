"""Stages in the order of their needs, so many at a time, failures that stop only what depends on them."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from tools.stages.graph import Graph
from tools.stages.schedule import Schedule
from tools.stages.slots import Slots, visible_gpus

# a stage that notes when it starts and ends, and does what its name says
SCRIPT = """
import os, subprocess, sys, time
from pathlib import Path
home, stage = Path(sys.argv[1]), sys.argv[2]
def note(what):
    with (home / "log").open("a") as log:
        log.write(f"{what} {stage}\\n")
note("start")
(home / f"gpus of {stage}").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
(home / f"scheduler of {stage}").write_text(os.environ["STUDY_SCHEDULER"])
if "child" in stage:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (home / "child").write_text(str(child.pid))
    time.sleep(60)
time.sleep(0.15)
print("its words")
if "broken" in stage:
    print("error: 05_learn.ipynb: cell [3] failed")
    print("the executed copy, with the traceback: reports/notebooks/mini/05_learn.ipynb")
note("end")
sys.exit("broken" in stage)
"""
DIAMOND = {"top": set(), "left": {"top"}, "right": {"top"}, "bottom": {"left", "right"}}


class Fakes(Slots):
    """Slots whose stages are small scripts instead of DVC's."""

    home: Path

    def command(self, stage: str) -> list[str]:
        return [sys.executable, "-c", SCRIPT, str(self.home), stage]


class Verdict:  # stands for a Graph
    """Says what a test wants to hear of a stage."""

    def __init__(self, changed: Callable[[str], bool] = lambda _: True, makers: dict[str, set[str]] | None = None):
        self.asked: list[str] = []
        self.changed, self.makers = changed, makers or {}

    def has_to_run(self, stage: str) -> bool:
        self.asked.append(stage)
        return self.changed(stage)

    def makers_of_missing_inputs(self, stage: str) -> set[str]:
        return self.makers.get(stage, set())


def schedule(
    home: Path, jobs: int = 1, judge: Verdict | None = None, weights: dict | None = None, **of_slots
) -> Schedule:
    slots = Fakes(jobs, **of_slots)
    slots.home = home
    return Schedule(slots, cast(Graph, judge or Verdict()), weights or {})


def log(home: Path) -> list[tuple[str, str]]:
    return [(line.split()[0], line.split()[1]) for line in (home / "log").read_text().splitlines()]


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_a_stage_starts_after_all_that_it_waits_for(tmp_path: Path, jobs: int) -> None:
    made = schedule(tmp_path, jobs)
    made.run(DIAMOND, set(DIAMOND))
    seen = log(tmp_path)
    for stage, needs in DIAMOND.items():
        for need in needs:
            assert seen.index(("end", need)) < seen.index(("start", stage))
    assert sorted(made.ran) == sorted(DIAMOND)
    assert made.summary() == 0


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_never_more_run_at_once_than_there_are_slots(tmp_path: Path, jobs: int) -> None:
    schedule(tmp_path, jobs).run({name: set() for name in "abcdef"}, set("abcdef"))
    running = most = 0
    for what, _ in log(tmp_path):
        running += 1 if what == "start" else -1
        most = max(most, running)
    assert most == jobs


def test_a_failure_stops_only_what_depends_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = schedule(tmp_path, 2)
    waiting = {"broken": set(), "after": {"broken"}, "later": {"after"}, "other": set(), "more": {"other"}}
    made.run(waiting, set(waiting))
    assert (made.failed, sorted(made.ran), made.skipped) == (["broken"], ["more", "other"], ["after", "later"])
    assert made.summary() == 1
    output = capsys.readouterr()
    assert "broken | error: 05_learn.ipynb: cell [3] failed" in output.out
    assert "its notebook is reports/notebooks/mini/05_learn.ipynb" in output.err
    assert "after, later" in output.err


def test_only_outdated_stages_are_looked_at_and_only_changed_ones_run(tmp_path: Path) -> None:
    judge = Verdict(lambda stage: stage == "bottom")
    made = schedule(tmp_path, 2, judge)
    made.run(DIAMOND, {"left", "right", "bottom"})
    assert sorted(judge.asked) == ["bottom", "left", "right"]
    assert (made.ran, made.unchanged) == (["bottom"], {"left", "right"})
    forced = schedule(tmp_path, 1, Verdict(lambda _: False), force=True)
    forced.run({"alone": set()}, {"alone"})
    assert forced.ran == ["alone"]


def test_a_stage_whose_input_is_missing_makes_its_parents_run(tmp_path: Path) -> None:
    waiting = {"top": set(), "left": {"top"}, "bottom": {"left"}, "aside": {"top"}}
    makers = {"bottom": {"left"}, "left": {"top"}}
    made = schedule(tmp_path, 1, Verdict(lambda stage: stage == "bottom", makers))
    made.run(waiting, {"bottom"})
    assert made.ran == ["top", "left", "bottom"]
    assert made.summary() == 0


def test_the_longest_chain_starts_first(tmp_path: Path) -> None:
    waiting = {"heavy": set(), "one": set(), "two": {"one"}, "three": {"two"}}
    schedule(tmp_path, 1, weights={"heavy": 2.5}).run(waiting, set(waiting))
    assert log(tmp_path)[0] == ("start", "one")  # 3 in all, against 2.5


def test_stopping_ends_a_stage_with_all_that_it_started(tmp_path: Path) -> None:
    slots = schedule(tmp_path).slots
    slots.start("child")
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
        time.sleep(0.02)
    child = int((tmp_path / "child").read_text())
    slots.stop()
    assert slots.running["child"].wait(5) != 0
    until = time.monotonic() + 10  # a signal that was sent need not have arrived
    while state(child) not in ("", "Z") and time.monotonic() < until:
        time.sleep(0.02)
    assert state(child) in ("", "Z")


def state(process: int) -> str:
    """What ps says of a process: empty if there is none, Z if it has ended."""
    return subprocess.run(["ps", "-p", str(process), "-o", "stat="], capture_output=True, text=True).stdout.strip()


def test_stages_side_by_side_see_different_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert visible_gpus() == ["3", "5"]
    made = schedule(tmp_path, 2, gpus=visible_gpus())
    made.run({"a": set(), "b": set(), "c": {"a", "b"}}, set("abc"))
    seen = {stage: (tmp_path / f"gpus of {stage}").read_text() for stage in "abc"}
    assert {seen["a"], seen["b"]} == {"3", "5"}
    assert seen["c"] in ("3", "5")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    schedule(tmp_path).run({"d": set()}, {"d"})
    assert (tmp_path / "gpus of d").read_text() == "all"
