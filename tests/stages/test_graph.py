"""The task graph as DVC has it: what waits for what, and what is out of date, in a small repository of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.stages import graph
from tools.stages.graph import Graph

STAGES = """
stages:
  one: {cmd: cp source one.txt, deps: [source], outs: [one.txt]}
  two: {cmd: cp one.txt two.txt, deps: [one.txt], outs: [two.txt]}
  aside: {cmd: cp other aside.txt, deps: [other], outs: [aside.txt]}
  result:
    cmd: mkdir -p reports && cp one.txt reports/result
    deps: [one.txt]
    outs: [reports/result: {cache: false}]
"""


pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of a package that DVC uses


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git and DVC repository with two stages in a chain and one aside, all of them run."""
    home = tmp_path_factory.mktemp("finished")
    (home / "dvc.yaml").write_text(STAGES)
    for name in ("source", "other"):
        (home / name).write_text(name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "repro", "-q"]):
        subprocess.run(command, check=True, env=environment, cwd=home)
    return home


@pytest.fixture
def repository(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it for one test."""
    home = tmp_path / "repository"
    shutil.copytree(finished, home)
    monkeypatch.setattr(graph, "ROOT", home)
    monkeypatch.setattr(graph, "REPORTS", home / "reports")
    monkeypatch.chdir(home)
    return home


def test_a_target_brings_what_it_needs_and_nothing_else(repository: Path) -> None:
    assert Graph(["two"]).waits_for() == {"two": {"one"}, "one": set()}
    assert Graph([]).waits_for() == {}


def test_what_was_run_is_up_to_date(repository: Path) -> None:
    assert Graph(["two", "aside"]).outdated() == set()


def test_a_change_makes_its_stage_and_all_after_it_outdated(repository: Path) -> None:
    (repository / "source").write_text("changed")
    assert Graph(["two", "aside"]).outdated() == {"one", "two"}


def test_a_lost_output_is_made_again(repository: Path) -> None:
    (repository / "two.txt").unlink()
    assert Graph(["two", "aside"]).outdated() == {"two"}


def test_a_stage_whose_input_came_out_as_it_was_has_not_changed(repository: Path) -> None:
    (repository / "source").write_text("changed")
    made = Graph(["two", "aside"])
    assert [made.has_to_run(stage) for stage in ("one", "two", "aside")] == [True, False, False]
    (repository / "one.txt").write_text("changed too")
    assert made.has_to_run("two")


def test_what_cannot_be_decided_is_left_to_dvc(repository: Path) -> None:
    made = Graph(["two"])
    (repository / ".dvc" / "tmp" / "rwlock").write_text("{")
    assert made.has_to_run("two")


# --- taking over


@pytest.fixture
def clone(repository: Path) -> Path:
    """The repository as a fresh clone has it: only what git holds is there."""
    for name in ("one.txt", "two.txt", "aside.txt"):
        (repository / name).unlink()
    shutil.rmtree(repository / ".dvc" / "cache")
    return repository


def test_what_has_a_committed_result_is_taken_over(clone: Path) -> None:
    everything = ["two", "aside", "result"]
    assert Graph(everything).outdated() == {"one", "two", "aside", "result"}
    made = Graph(everything, take_over=True)
    assert made.outdated() == set()
    assert (made.has_outputs("two"), made.has_outputs("result")) == (False, True)


def test_a_missing_result_is_made_and_so_is_what_it_needs(clone: Path) -> None:
    (clone / "reports" / "result").unlink()
    made = Graph(["two", "aside", "result"], take_over=True)
    assert made.outdated() == {"result"}
    assert made.makers_of_missing_inputs("result") == {"one"}
    (clone / "one.txt").write_text("source")
    assert made.makers_of_missing_inputs("result") == set()


@pytest.mark.parametrize(("file", "stages"), [("reports/result", {"result"}), ("source", {"one", "two", "result"})])
def test_what_was_changed_is_not_taken_over(clone: Path, file: str, stages: set[str]) -> None:
    (clone / file).write_text("changed")
    assert Graph(["two", "aside", "result"], take_over=True).outdated() == stages
