"""Runs the course: every notebook with its solutions, and every exercise unsolved, whose check must then fail.

make course        minutes on two cores; not among the tests of `make test`
"""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot as plt

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


@pytest.mark.parametrize("notebook", sorted(course.SOLUTIONS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_solutions_pass_their_checks_and_nothing_else_does(notebook: Path, verdicts: list[tuple[bool, str]]) -> None:
    solved: dict[str, Any] = {"__name__": "__main__"}
    unsolved: dict[str, Any] = {}
    for number, (source, tags) in enumerate(code(notebook)):
        place = f"{notebook.stem}, code cell {number}"
        if "exercise" in tags:
            unsolved = dict(solved)
            exec(compile(course.without_solution(source), place, "exec"), unsolved)
        if "check" in tags:
            exec(compile(source, place, "exec"), unsolved)
            assert not verdicts.pop()[0], f"{place}: the check passes without a solution"
        exec(compile(source, place, "exec"), solved)
        if "check" in tags:
            right, sentence = verdicts.pop()
            assert right, f"{place}: its own solution fails: {sentence}"
        plt.close("all")
    assert not verdicts
