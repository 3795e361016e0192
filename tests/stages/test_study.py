"""The command that runs a study: which stages it asks for, what they weigh, what it refuses before anything runs."""

import argparse
import signal
import subprocess
import sys
from contextlib import ExitStack
from functools import partial

import pytest

from lib.study import plan
from lib.study.params import load
from lib.study.paths import ROOT
from tools.stages import run as study


def asked(**changes: object) -> argparse.Namespace:
    return argparse.Namespace(**({"target": None, "all": False, "force": False} | changes))


def test_the_main_story_is_followed_by_the_report_of_what_is_there() -> None:
    mini = load()
    wanted, after = study.targets(asked(), mini, ".")
    assert {f"learn@{key}" for key in plan.main_story(mini)} <= set(wanted)
    assert set(study.STORY) <= set(wanted)
    assert after == ["results", "report"]
    assert not set(wanted) & {"ablations", "cost"}


def test_everything_is_every_run_and_the_report_in_its_place() -> None:
    mini = load()
    wanted, after = study.targets(asked(all=True), mini, ".")
    assert after == []
    assert {f"learn@{key}" for key in plan.items(mini)} | {"ablations", "cost", "report"} <= set(wanted)


def test_a_target_is_one_stage_and_a_report_runs_nothing_for_it() -> None:
    mini = load()
    assert study.targets(asked(target="selector"), mini, ".") == (["selector"], [])
    assert study.targets(asked(target="report"), mini, ".") == ([], ["report"])
    assert study.targets(asked(target="pretrain", force=True), mini, ".") == (
        [],
        ["studies/dvc.yaml:pretrain"],
    )
    assert study.targets(asked(target="tasks"), mini, "studies/short")[0] == ["studies/short/dvc.yaml:tasks"]


def test_a_learning_stage_weighs_the_tasks_that_it_learns() -> None:
    mini = load()
    tasks = len(mini.tasks.orders["I"])
    assert study.weight(mini, "learn@finetune--I--s0") == tasks + 0.5
    assert study.weight(mini, "learn@moe_adapters--I--s0--0-digits") == 1.5
    assert study.weight(mini, "learn@zero_shot--I--s0") == 0.5
    assert study.weight(mini, "tasks") == 1


def test_there_is_at_least_one_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(study.os, "sysconf", lambda name: {"SC_PHYS_PAGES": 2**20 * 4, "SC_PAGE_SIZE": 4096}[name])
    assert study.default_jobs(1) == 4
    assert study.default_jobs(2) == 2
    assert study.default_jobs(8) == 1
    assert study.default_jobs(8, groups=3) == 3
    monkeypatch.setattr(study.os, "sysconf", lambda name: {"SC_PHYS_PAGES": 2**19, "SC_PAGE_SIZE": 4096}[name])
    assert study.default_jobs(1) == 1  # 2 GiB are room for one


def test_an_unknown_study_is_an_error_that_names_those_there_are() -> None:
    command = [sys.executable, "-m", "tools.stages.run", "--study", "nowhere"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert f"there is no study 'nowhere'; there are: {', '.join(plan.studies())}" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_a_study_is_prepared_closes_what_was_begun(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    closed: list[str] = []
    for each in (signal.SIGINT, signal.SIGTERM):
        request.addfinalizer(partial(signal.signal, each, signal.getsignal(each)))

    def prepared(_asked: argparse.Namespace, held: ExitStack) -> None:
        held.callback(closed.append, "the cluster")
        signal.raise_signal(number)

    monkeypatch.setattr(study, "prepared", prepared)
    monkeypatch.setattr(sys, "argv", ["tools.stages.run"])
    with pytest.raises(SystemExit, match="stopped; what was finished is kept"):
        study.main()
    assert closed == ["the cluster"]
