"""The command that runs a study: one at a time, which stages it asks for, what it refuses before anything runs."""

import argparse
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from lib.study import params, plan, studies
from lib.study.params import ParamsError, load
from lib.study.studies import ROOT
from tests.support import small_study
from tools.stages import run

HOLDER = """
import sys, time
from pathlib import Path
from tools.stages.run import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(120)
"""


def asked(**changes: object) -> argparse.Namespace:
    return argparse.Namespace(**({"target": None, "all": False, "force": False} | changes))


# --- one coordinator


def holder(path: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLDER, str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_a_second_coordinator_starts_nothing_until_the_first_has_ended(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "tmp" / "study.lock"
    lock = partial(run.alone, path)
    with holder(path) as first:
        with pytest.raises(ValueError, match=f"process {first.pid} on {socket.gethostname()}, since "), lock():
            pytest.fail("there are two")
        first.send_signal(number)
    with lock():
        pass
    with lock():
        pass  # let go at the end of the block, too


# --- what is asked for


def test_the_main_story_is_followed_by_the_report_of_what_is_there() -> None:
    mini = load()
    wanted, after = run.targets(asked(), mini, ".")
    assert {f"learn@{key}" for key in plan.main_story(mini)} | {*run.STORY} <= set(wanted)
    assert after == ["results", "report"]
    assert not set(wanted) & {"ablations", "cost"}


def test_everything_is_every_run_and_the_report_in_its_place() -> None:
    mini = load()
    wanted, after = run.targets(asked(all=True), mini, ".")
    assert after == []
    assert {f"learn@{key}" for key in plan.items(mini)} | {"ablations", "cost", "report"} <= set(wanted)


def test_a_target_is_one_stage_and_a_report_runs_nothing_for_it() -> None:
    mini = load()
    assert run.targets(asked(target="selector"), mini, ".") == (["selector"], [])
    assert run.targets(asked(target="report"), mini, ".") == ([], ["report"])
    assert run.targets(asked(target="pretrain", force=True), mini, ".") == ([], ["studies/dvc.yaml:pretrain"])
    assert run.targets(asked(target="tasks"), mini, "studies/short")[0] == ["studies/short/dvc.yaml:tasks"]


def test_a_learning_stage_weighs_the_tasks_that_it_learns() -> None:
    mini = load()
    assert run.weight(mini, "learn@finetune--I--s0") == len(mini.tasks.orders["I"]) + 0.5
    assert run.weight(mini, "studies/x/dvc.yaml:learn@moe_adapters--I--s0") == 8.5
    assert run.weight(mini, "learn@zero_shot--I--s0") == 0.5
    assert run.weight(mini, "tasks") == 1


@pytest.mark.parametrize(("threads", "gpus", "pages", "jobs"), [(1, 0, 2**22, 4), (8, 0, 2**22, 1), (1, 0, 2**19, 1)])
def test_jobs_fit_cores_and_memory(
    threads: int, gpus: int, pages: int, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "cores", lambda: 4)
    monkeypatch.setattr(run.os, "sysconf", lambda name: {"SC_PHYS_PAGES": pages, "SC_PAGE_SIZE": 4096}[name])
    assert run.default_jobs(threads, gpus) == jobs
    assert run.default_jobs(8, gpus=3) == 3


# --- what is refused


def test_an_unknown_study_is_one_line_that_names_those_there_are(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.stages.run", "--study", "nowhere"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == f"error: there is no study 'nowhere'; there are: {', '.join(studies.names())}\n"


def folder_study(*tasks: str) -> params.Study:
    study = small_study.study({"tasks.orders": {"I": list(tasks)}})
    return replace(study, study="mine", tasks=replace(study.tasks, source="folder", root="pictures"))


def test_an_order_with_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mine.yaml").touch()
    with pytest.raises(ValueError, match=r"pictures/<task>/{train,test}"):
        run.check(folder_study("red"), tmp_path)
    for split in ("train", "test"):
        (tmp_path / "pictures" / "red" / split / "round").mkdir(parents=True)
    with pytest.raises(ParamsError, match=r"studies/mine.yaml: tasks.orders.I has rde; there are: red"):
        run.check(folder_study("rde"), tmp_path)


def test_a_backbone_that_is_missing_is_named_with_its_cure(tmp_path: Path) -> None:
    study = load()
    run.check(study)
    with pytest.raises(ParamsError, match=r"data/backbone is missing; `git checkout data`"):
        run.check(study, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_a_study_is_prepared_closes_what_was_begun(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    closed: list[str] = []
    for each in (signal.SIGINT, signal.SIGTERM):
        request.addfinalizer(partial(signal.signal, each, signal.getsignal(each)))

    def coordinate(_asked: argparse.Namespace, held: ExitStack) -> None:
        held.callback(closed.append, "the cluster")
        signal.raise_signal(number)

    monkeypatch.setattr(run, "coordinate", coordinate)
    monkeypatch.setattr(sys, "argv", ["tools.stages.run"])
    monkeypatch.chdir(Path.cwd())  # to be put back
    with pytest.raises(SystemExit, match="stopped; what was finished is kept"):
        run.main()
    assert closed == ["the cluster"]
