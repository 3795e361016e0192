"""What the course's notebooks share: the small world of the default study, checks of exercises, students' copies.

    python -m tools.course.exercises            makes the students' notebooks (notebooks/course) from those with solutions
    python -m tools.course.exercises --check    only says whether they are in step

In a cell tagged `exercise` the lines from `### solution` to `### otherwise` are the solution, and go; from there to
`### end` stands as comments what the students find instead. A cell tagged `check` says whether an answer is right.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lib.clip import Backbone, load_clip
from lib.data import frozen as features
from lib.data import tasks
from lib.data.frozen import Features
from lib.data.tasks import Task
from lib.study import params
from lib.study.paths import NOTEBOOKS

STUDENTS = NOTEBOOKS / "course"
SOLUTIONS = STUDENTS / "solutions"
SOLUTION, OTHERWISE, END = "### solution", "### otherwise", "### end"
BEFORE = {SOLUTION: "", OTHERWISE: SOLUTION, END: OTHERWISE}  # the mark that must stand before each


@dataclass(frozen=True)
class World:
    """The default study's CLIP, its tasks in their order, and what the frozen CLIP says of them."""

    study: params.Study
    backbone: Backbone
    tasks: list[Task]
    features: list[Features]

    def task(self, name: str) -> Task:
        """The task of that name. Raises KeyError, with the names that there are."""
        return self.tasks[self._place(name)]

    def known(self, name: str) -> Features:
        """The frozen CLIP's features and answers for the task of that name. Raises KeyError like `task`."""
        return self.features[self._place(name)]

    def _place(self, name: str) -> int:
        names = [task.name for task in self.tasks]
        if name not in names:
            raise KeyError(f"there is no task {name!r}; there are: {', '.join(names)}")
        return names.index(name)


@cache
def world(file: str = "params.yaml") -> World:
    """The small world of a params file; the first call in a checkout draws the pictures, which takes a minute."""
    study = params.load(file)
    backbone = load_clip(study.backbone.model, study.backbone.pretrained)
    sequence = tasks.ensure(study)
    return World(study, backbone, sequence, features.ensure(study, lambda: backbone, sequence))


def check(exercise: str, right: Callable[[], object], hint: str) -> bool:
    """Says whether an exercise is solved, and if not what to look at; never raises. Returns the same."""
    try:
        solved = bool(right())
    except NotImplementedError as error:
        print(f"Exercise {exercise}: not written yet ({error}).")
        return False
    except Exception as error:  # whatever an unfinished answer raises
        print(f"Exercise {exercise}: not yet. It stops with {type(error).__name__}: {error}. Look at: {hint}.")
        return False
    print(f"Exercise {exercise}: right." if solved else f"Exercise {exercise}: not yet. Look at: {hint}.")
    return solved


def without_solution(source: str) -> str:
    """An exercise cell's source as the students get it.

    Raises ValueError if its marks are not in order, or if what stands instead of the solution would be run beside it.
    """
    found: list[str] = []
    inside, changed = "", False
    for line in source.splitlines(keepends=True):
        mark = line.strip()
        if mark in BEFORE:
            if BEFORE[mark] != inside:
                raise ValueError(f"{mark!r} stands where it should not in an exercise cell")
            inside, changed = "" if mark == END else mark, True
        elif inside == OTHERWISE:
            if not mark.startswith("# "):
                raise ValueError(f"{mark!r} after {OTHERWISE!r} in an exercise cell has to be a comment")
            found.append(line.replace("# ", "", 1))
        elif inside != SOLUTION:
            found.append(line)
    if inside or not changed:
        raise ValueError(f"an exercise cell needs {SOLUTION!r}, {OTHERWISE!r} and {END!r}, in this order")
    return "".join(found)


def students(notebook: dict[str, Any]) -> dict[str, Any]:
    """A notebook (nbformat 4) as the students get it: the same cells, exercises without their solutions."""
    cells = []
    for cell in notebook["cells"]:
        if "exercise" in cell["metadata"].get("tags", []):
            source = without_solution("".join(cell["source"])).rstrip("\n")
            cell = cell | {"source": source.splitlines(keepends=True)}
        cells.append(cell)
    return notebook | {"cells": cells}


def written(notebook: dict[str, Any]) -> str:
    """A notebook as the text of its file."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def out_of_step() -> list[Path]:
    """The students' notebooks that are not what the solutions make, or that no solution makes."""
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
