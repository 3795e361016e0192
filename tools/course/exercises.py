"""Exercises of the course: checks that say whether an answer is right, and the students' copies of the notebooks.

    python -m tools.course.exercises            makes the students' notebooks (notebooks/course) from the solutions
    python -m tools.course.exercises --check    changes nothing; fails if a students' notebook is out of step

In a cell tagged `exercise`, the lines from `### solution` to `### otherwise` are the solution and are left out; the
comments from there to `### end` become the students' lines. A cell tagged `check` says whether an answer is right.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.study.paths import NOTEBOOKS

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


def out_of_step() -> list[Path]:
    """The students' notebooks that differ from what the solutions make, or that have no solution."""
    made = {STUDENTS / path.name: path for path in SOLUTIONS.glob("*.ipynb")}
    stale = [
        path
        for path, source in made.items()
        if not path.exists() or path.read_text() != written(students(json.loads(source.read_text())))
    ]
    return sorted([*stale, *(path for path in STUDENTS.glob("[0-9]*.ipynb") if path not in made)])


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.course.exercises", description="Make the students' notebooks."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail if one is out of step")
    asked = parser.parse_args()
    for path in out_of_step():
        print(f"{path.relative_to(NOTEBOOKS)} {'is out of step' if asked.check else 'made again'}")
        if not asked.check:
            source = SOLUTIONS / path.name
            if source.exists():
                path.write_text(written(students(json.loads(source.read_text()))))
            else:
                path.unlink()
    return 1 if asked.check and out_of_step() else 0


if __name__ == "__main__":
    sys.exit(main())
