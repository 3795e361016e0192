"""Exercises of the course: a student's function, checks of it, and the students' copies of the notebooks.

    python -m tools.course.exercises            makes the students' notebooks (notebooks/course) from the solutions
    python -m tools.course.exercises --check    changes nothing; fails if a students' notebook is out of step

In a cell tagged `exercise`, the lines from `### solution` to `### otherwise` are the solution and are left out; the
comments from there to `### end` become the students' lines. A cell tagged `check` says whether an answer is right.
Later cells call the student's function, so that a wrong answer shows in the next picture; as long as it is not written
they get the solution's. A cell tagged `answers`, to the closing questions, is in the solutions only.
"""

import json
import sys
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

from lib.study.studies import NOTEBOOKS

STUDENTS = NOTEBOOKS / "course"
SOLUTIONS = STUDENTS / "solutions"
SOLUTION, OTHERWISE, END = "### solution", "### otherwise", "### end"
BEFORE = {SOLUTION: END, OTHERWISE: SOLUTION, END: OTHERWISE}  # the mark that must come before each


_checked = 0  # checks that run now: a check gets no solution in place of an answer


class NotWritten(Exception):
    """An exercise is as the student has got it."""


def exercise(number: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Marks a student's function. Where it is not written yet, and no check asks, the solution answers and says so."""

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        @cache
        def solution() -> Callable[..., Any]:
            print(f"Exercise {number} is not written yet: the solution takes its place.")
            return _solution(number, function)

        @wraps(function)
        def answer(*args: Any, **named: Any) -> Any:
            try:
                return function(*args, **named)
            except NotImplementedError as error:
                if "NotImplementedError" not in function.__code__.co_names:
                    raise  # PyTorch has such errors, too
                if _checked:
                    raise NotWritten(str(error)) from None
                return solution()(*args, **named)

        return answer

    return mark


def _solution(number: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of that name in the solutions, with the names of the student's notebook."""
    (path,) = SOLUTIONS.glob(f"{number.split('.')[0]}_*.ipynb")
    sources = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if "exercise" in tags(cell)]
    (source,) = (each for each in sources if f"def {function.__name__}(" in each)
    names = dict(function.__globals__)
    exec(compile(source, f"solution of exercise {number}", "exec"), names)
    return names[function.__name__]


def verdict(right: Callable[[], object], hint: str) -> tuple[bool, str]:
    """Whether an answer is right, and a sentence that says so or what to look at; never raises."""
    global _checked
    _checked += 1
    try:
        solved = bool(right())
    except NotWritten as error:
        return False, f"not written yet ({error})."
    except Exception as error:  # whatever an unfinished answer raises
        return False, f"not yet. It stops with {type(error).__name__}: {error}. Look at: {hint}."
    finally:
        _checked -= 1
    return solved, "right." if solved else f"not yet. Look at: {hint}."


def check(exercise: str, right: Callable[[], object], hint: str) -> None:
    """Prints whether an exercise is solved, and if not, what to look at."""
    print(f"Exercise {exercise}: {verdict(right, hint)[1]}")


def tags(cell: dict[str, Any]) -> list[str]:
    """The tags of a notebook's cell."""
    return cell["metadata"].get("tags", [])


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
    """The students' version of a notebook (nbformat 4): exercises without solutions, questions without answers."""
    cells = []
    for cell in notebook["cells"]:
        if "answers" in tags(cell):
            continue
        if "exercise" in tags(cell):
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
