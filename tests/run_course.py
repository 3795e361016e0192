"""Runs the course: every notebook with its solutions; a check must fail for an exercise that is unsolved or wrong.

make course        minutes on two cores; not among the tests of `make test`
"""

import json
import re
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from matplotlib import pyplot as plt

from tests.support.wrong_answers import WRONG
from tools.course import exercises as course

Cell = tuple[str, list[str]]

pytestmark = pytest.mark.usefixtures("no_window")


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, str]]:
    """The verdicts of the checks, as they run."""
    given: list[tuple[bool, str]] = []
    verdict = course.verdict
    monkeypatch.setattr(course, "verdict", lambda right, hint: given.append(verdict(right, hint)) or given[-1])
    return given


def code(notebook: Path) -> list[Cell]:
    cells = json.loads(notebook.read_text())["cells"]
    return [("".join(c["source"]), c["metadata"].get("tags", [])) for c in cells if c["cell_type"] == "code"]


def with_answer(source: str, answer: str) -> str:
    """An exercise cell with an answer in the place of its solution."""
    before, rest = re.split(rf"^ *{course.SOLUTION}\n", source, flags=re.MULTILINE)
    margin = " " * (len(rest) - len(rest.lstrip()))
    return before + indent(answer, margin) + rest.partition(course.END)[2]


def passes(exercise: str, check: str, place: str, names: dict[str, Any], verdicts: list[tuple[bool, str]]) -> bool:
    """Whether an answer passes its check, in a copy of a notebook's names."""
    names = dict(names)
    exec(compile(exercise, place, "exec"), names)
    exec(compile(check, place, "exec"), names)
    return verdicts.pop()[0]


@pytest.mark.parametrize("notebook", sorted(course.SOLUTIONS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_solutions_pass_their_checks_and_nothing_else_does(notebook: Path, verdicts: list[tuple[bool, str]]) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = code(notebook)
    for number, (source, tags) in enumerate(cells):
        place = f"{notebook.stem}, code cell {number}"
        if "exercise" in tags:
            check = cells[number + 1][0]
            exercise = re.findall(r'check\(\s*"([\d.]+)"', check)[0]
            unsolved = course.without_solution(source)
            for answer in (unsolved, *(with_answer(source, wrong) for wrong in WRONG[exercise])):
                assert not passes(answer, check, place, names, verdicts), f"exercise {exercise} accepts {answer}"
        exec(compile(source, place, "exec"), names)
        if "check" in tags:
            right, sentence = verdicts.pop()
            assert right, f"{place}: its own solution fails: {sentence}"
        plt.close("all")
    assert not verdicts


@pytest.mark.parametrize("notebook", sorted(course.STUDENTS.glob("[0-9]*.ipynb")), ids=lambda path: path.stem)
def test_an_unsolved_notebook_runs_to_its_end_on_the_solutions(
    notebook: Path, verdicts: list[tuple[bool, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, (source, _) in enumerate(code(notebook)):
        exec(compile(source, f"{notebook.stem}, code cell {number}", "exec"), names)
        plt.close("all")
    assert verdicts
    assert not any(right for right, _ in verdicts)
    functions = [source for source, tags in code(notebook) if "exercise" in tags and "@exercise(" in source]
    assert capsys.readouterr().out.count("the solution takes its place") == len(functions), "one is not used again"
