"""Runs the course: every notebook with its solutions, and every exercise unsolved, whose check must then say so.

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
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What the checks say, as they are run."""
    found: list[tuple[str, bool]] = []
    plain = course.check

    def check(exercise: str, right: Any, hint: str) -> bool:
        found.append((exercise, plain(exercise, right, hint)))
        return found[-1][1]

    monkeypatch.setattr(course, "check", check)
    return found


def code(notebook: Path) -> list[Cell]:
    cells = json.loads(notebook.read_text())["cells"]
    return [("".join(c["source"]), c["metadata"].get("tags", [])) for c in cells if c["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", sorted(course.SOLUTIONS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_solutions_pass_their_checks_and_nothing_else_does(
    notebook: Path, said: list[tuple[str, bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    here: dict[str, Any] = {"__name__": "__main__"}
    unsolved: dict[str, Any] = {}
    for number, (source, tags) in enumerate(code(notebook)):
        place = f"{notebook.stem}, code cell {number}"
        if "exercise" in tags:
            unsolved = dict(here)
            exec(compile(course.without_solution(source), place, "exec"), unsolved)
        if "check" in tags:
            exec(compile(source, place, "exec"), unsolved)
            assert said.pop()[1] is False, f"{place}: the check passes without a solution"
        exec(compile(source, place, "exec"), here)
        if "check" in tags:
            exercise, right = said.pop()
            assert right, f"exercise {exercise}: its own solution fails\n{capsys.readouterr().out[-500:]}"
        plt.close("all")
    assert not said
