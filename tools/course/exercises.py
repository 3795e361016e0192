"""Exercises of the course: checks that say whether an answer is right, and the students' copies of the notebooks.

    python -m tools.course.exercises            makes the students' notebooks (notebooks/course) from the solutions
    python -m tools.course.exercises --check    changes nothing; fails if a students' notebook is out of step

In a cell tagged `exercise`, the lines from `### solution` to `### otherwise` are the solution and are left out; the
comments from there to `### end` become the students' lines. A cell tagged `check` says whether an answer is right.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.study.studies import NOTEBOOKS

STUDENTS = NOTEBOOKS / "course"
SOLUTIONS = STUDENTS / "solutions"
SOLUTION, OTHERWISE, END = "### solution", "### otherwise", "### end"
BEFORE = {SOLUTION: END, OTHERWISE: SOLUTION, END: OTHERWISE}  # the mark that must come before each


def verdict(right: Callable[[], object], hint: str) -> tuple[bool, str]:
    """Whether an answer is right, and a sentence that says so or what to look at; never raises."""
    try:
        solved = bool(right())
    except NotImplementedError as error:
        return False, f"not written yet ({error})."
    except Exception as error:  # whatever an unfinished answer raises
        return False, f"not yet. It stops with {type(error).__name__}: {error}. Look at: {hint}."
    return solved, "right." if solved else f"not yet. Look at: {hint}."


def check(exercise: str, right: Callable[[], object], hint: str) -> None:
    """Prints whether an exercise is solved, and if not, what to look at."""
    print(f"Exercise {exercise}: {verdict(right, hint)[1]}")


def without_solution(source: str) -> str:
    """The source of an exercise cell for the students.

    Raises ValueError if its marks are out of order, or if a line between `### otherwise` and `### end` is no comment.
    """
    lines: list[str] = []
    part = END
    for line in source.splitlines(keepends=True):
        mark = line.strip()
        if mark in BEFORE:
            if part != BEFORE[mark]:
                raise ValueError(f"{mark!r} is out of order in an exercise cell")
            part = mark
        elif part == OTHERWISE and not mark.startswith("# "):
            raise ValueError(f"{mark!r} after {OTHERWISE!r} in an exercise cell has to be a comment")
        elif part != SOLUTION:
            lines.append(line.replace("# ", "", 1) if part == OTHERWISE else line)
    if part != END or END not in source:
        raise ValueError(f"an exercise cell needs {SOLUTION!r}, {OTHERWISE!r} and {END!r}, in this order")
    return "".join(lines)


def students(notebook: dict[str, Any]) -> dict[str, Any]:
    """The students' version of a notebook (nbformat 4): the same cells, exercises without their solutions."""
    cells = []
    for cell in notebook["cells"]:
        if "exercise" in cell["metadata"].get("tags", []):
            source = without_solution("".join(cell["source"])).rstrip("\n")
            cell = cell | {"source": source.splitlines(keepends=True)}
        cells.append(cell)
    return notebook | {"cells": cells}


def written(notebook: dict[str, Any]) -> str:
    """The text of a notebook's file."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def out_of_step(mend: bool = False) -> list[Path]:
    """The students' notebooks that differ from what the solutions make, or that have no solution; `mend` mends them."""
    made = {path.name: written(students(json.loads(path.read_text()))) for path in SOLUTIONS.glob("*.ipynb")}
    there = {path.name: path.read_text() for path in STUDENTS.glob("[0-9]*.ipynb")}
    stale = sorted(name for name in made | there if made.get(name) != there.get(name))
    for name in stale if mend else []:
        (STUDENTS / name).write_text(made[name]) if name in made else (STUDENTS / name).unlink()
    return [STUDENTS / name for name in stale]


if __name__ == "__main__":
    for stale in out_of_step(mend="--check" not in sys.argv):
        print(f"{stale.relative_to(NOTEBOOKS)} is {'out of step' if '--check' in sys.argv else 'made again'}")
    sys.exit(1 if "--check" in sys.argv and out_of_step() else 0)
