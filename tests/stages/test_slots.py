"""Slots: stages in the order of their needs, so many at a time, failures that stop only what depends on them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.stages.slots import SCHEDULER, Slots, environment, gpu_groups

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
if "quiet" in stage:
    print("Stage '" + stage + "' didn't change, skipping")
else:
    print("Running stage '" + stage + "':")
    print("> its command")
    print("its words")
if "far" in stage:
    print("running on h1 (tcp://h1:1) since 14:03")
if "broken" in stage:
    print("error: 05_learn.ipynb: cell [3] failed")
    print("the executed copy, with the traceback: reports/notebooks/mini/05_learn.ipynb")
note("end")
sys.exit("broken" in stage)
"""


class Fakes(Slots):
    """Slots whose stages are small scripts instead of DVC's."""

    home: Path

    def command(self, stage: str) -> list[str]:
        return [sys.executable, "-c", SCRIPT, str(self.home), stage]


def fakes(home: Path, jobs: int, weights: dict[str, float] | None = None, gpus: tuple[str, ...] = ()) -> Fakes:
    slots = Fakes(jobs, weights or {}, gpus=gpus)
    slots.home = home
    return slots


def log(home: Path) -> list[tuple[str, str]]:
    return [(line.split()[0], line.split()[1]) for line in (home / "log").read_text().splitlines()]


DIAMOND = {"top": set(), "left": {"top"}, "right": {"top"}, "bottom": {"left", "right"}}


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_a_stage_starts_after_all_that_it_waits_for(tmp_path: Path, jobs: int) -> None:
    slots = fakes(tmp_path, jobs)
    slots.run(DIAMOND)
    seen = log(tmp_path)
    for stage, needs in DIAMOND.items():
        for need in needs:
            assert seen.index(("end", need)) < seen.index(("start", stage))
    assert sorted(slots.ran) == sorted(DIAMOND)
    assert slots.summary() == 0


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_never_more_run_at_once_than_there_are_slots(tmp_path: Path, jobs: int) -> None:
    fakes(tmp_path, jobs).run({name: set() for name in "abcdef"})
    running = most = 0
    for what, _ in log(tmp_path):
        running += 1 if what == "start" else -1
        most = max(most, running)
    assert most == jobs


def test_a_failure_stops_only_what_depends_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slots = fakes(tmp_path, 2)
    slots.run({"broken": set(), "after": {"broken"}, "later": {"after"}, "other": set(), "more": {"other"}})
    assert (slots.failed, sorted(slots.ran), slots.skipped) == (
        ["broken"],
        ["more", "other"],
        ["after", "later"],
    )
    assert slots.summary() == 1
    said = capsys.readouterr().err
    assert "failed: broken (its message is above, its notebook is reports/notebooks/mini/05_learn.ipynb)" in said
    assert "waits for a stage that failed: later" in said


def test_a_stage_with_nothing_to_do_is_counted_and_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slots = fakes(tmp_path, 1, {"quiet": 1, "loud": 1})
    slots.run({"quiet": set(), "loud": {"quiet"}})
    assert (slots.unchanged, slots.ran) == (["quiet"], ["loud"])
    said = capsys.readouterr().out.splitlines()
    assert said == ["[2/2] loud", "    its words"]


def test_a_stage_that_its_turn_finds_up_to_date_is_not_started(tmp_path: Path) -> None:
    asked: list[str] = []

    def changed(stage: str) -> bool:
        asked.append(stage)
        return stage in ("top", "bottom")

    slots = Fakes(2, {}, changed=changed)
    slots.home = tmp_path
    slots.run(DIAMOND)
    assert [stage for what, stage in log(tmp_path) if what == "end"] == ["top", "bottom"]
    assert (slots.ran, sorted(slots.unchanged)) == (["top", "bottom"], ["left", "right"])
    assert (asked[0], sorted(asked[1:3]), asked[3:]) == ("top", ["left", "right"], ["bottom"])
    forced = Fakes(1, {}, force=True, changed=lambda _: False)
    forced.home = tmp_path
    forced.run({"alone": set()})
    assert forced.ran == ["alone"]


def test_what_runs_on_a_cluster_is_said_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slots = fakes(tmp_path, 2, {"far": 1})
    slots.places["studies/short/dvc.yaml:learn@other"] = "h2 (tcp://h2:1) since 13:58"
    slots.run({"far": set()})
    assert capsys.readouterr().out.splitlines() == [
        "[1/1] far",
        "    far | its words",
        "    far | running on h1 (tcp://h1:1) since 14:03",
        "running: other on h2 (tcp://h2:1) since 13:58",
    ]


def test_stages_are_told_the_scheduler_they_were_given_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SCHEDULER, "tcp://old:8786")
    for scheduler in ("", "tcp://new:8786"):
        slots = Fakes(1, {}, scheduler=scheduler)
        slots.home = tmp_path
        slots.run({"one": set()})
        assert (tmp_path / "scheduler of one").read_text() == scheduler


def test_the_longest_chain_starts_first(tmp_path: Path) -> None:
    waiting = {"heavy": set(), "one": set(), "two": {"one"}, "three": {"two"}}
    slots = fakes(tmp_path, 1, {"heavy": 2.5, "one": 1, "two": 1, "three": 1})
    slots.run(waiting)
    assert log(tmp_path)[0] == ("start", "one")  # 3 in all, against 2.5


def test_stopping_ends_a_stage_with_all_that_it_started(tmp_path: Path) -> None:
    slots = fakes(tmp_path, 1)
    slots._start("child")
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
    told = subprocess.run(["ps", "-p", str(process), "-o", "stat="], capture_output=True, text=True)
    return told.stdout.strip()


def test_no_slots_is_an_error() -> None:
    with pytest.raises(ValueError, match="jobs is 0; choose 1 or more"):
        Slots(0, {})


def test_the_cores_are_divided_between_the_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert environment(2)["OMP_NUM_THREADS"] == "4"
    assert environment(16)["OMP_NUM_THREADS"] == "1"
    assert environment(1)["PATH"].startswith(str(Path(sys.executable).parent))


def test_stages_side_by_side_see_different_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fakes(tmp_path, 2, gpus=("0,1", "2,3")).run({"a": set(), "b": set(), "c": {"a", "b"}})
    seen = {stage: (tmp_path / f"gpus of {stage}").read_text() for stage in "abc"}
    assert {seen["a"], seen["b"]} == {"0,1", "2,3"}
    assert seen["c"] in ("0,1", "2,3")
    fakes(tmp_path, 1).run({"d": set()})
    assert (tmp_path / "gpus of d").read_text() == "all"


@pytest.mark.parametrize(
    ("given", "each", "groups"),
    [("0,1,2,3,4", 2, ["0,1", "2,3"]), ("3,5", 1, ["3", "5"]), ("", 1, []), ("7", 2, [])],
)
def test_gpus_are_shared_out_in_groups(
    given: str, each: int, groups: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert gpu_groups(each) == groups
