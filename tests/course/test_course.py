"""The course: students' notebooks are made from the solutions, each has its parts, and a check never gives up."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tools.course import exercises as course
from tools.course.exercises import exercise, verdict, without_solution, written

NOTEBOOKS = sorted(course.SOLUTIONS.glob("*.ipynb"))
CELL = """def f(x):
    ### solution
    return 2 * x
    ### otherwise
    # raise NotImplementedError
    ### end
"""


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["cells"]


def text(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def tagged(path: Path, tag: str) -> list[int]:
    return [i for i, cell in enumerate(cells(path)) if tag in cell["metadata"].get("tags", [])]


def test_students_notebooks_are_in_step_with_the_solutions() -> None:
    assert course.out_of_step() == [], "run `python -m tools.course.exercises`"


@pytest.mark.parametrize("path", [*NOTEBOOKS, course.STUDENTS / "explorer.ipynb"], ids=lambda path: path.stem)
def test_a_notebook_is_committed_clean_and_its_cells_are_short(path: Path) -> None:
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert max(len(cell["source"]) for cell in code) <= 30


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_names_its_goals_and_ends_with_questions(path: Path) -> None:
    first, *others = cells(path)
    assert 24 <= len(others) < 60
    assert "answers" in others.pop()["metadata"]["tags"]
    for part in (f"# {path.stem[0]}. ", "**Goals.**", "**Before.**", "**Time.**"):
        assert part in text(first)
    assert text(others[-1]).startswith("## Questions\n")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_exercise_is_explained_and_checked(path: Path) -> None:
    exercises, checks = tagged(path, "exercise"), tagged(path, "check")
    assert [i + 1 for i in exercises] == checks
    for number, place in enumerate(exercises, 1):
        name = f"{path.stem[0]}.{number}"
        explained = [text(cell) for cell in cells(path)[:place] if cell["cell_type"] == "markdown"]
        assert f"### Exercise {name} (" in "".join(explained)
        assert f'"{name}"' in text(cells(path)[place + 1])


@pytest.mark.parametrize(
    "source",
    [
        "x = 1\n",
        CELL.replace("    ### end\n", ""),
        CELL.replace("### otherwise", "### solution"),
        "### end\n" + CELL,
        CELL.replace("# raise", "raise"),
    ],
    ids=["no marks", "no end", "solution twice", "end first", "both would run"],
)
def test_marks_out_of_order_are_refused(source: str) -> None:
    with pytest.raises(ValueError, match="exercise cell"):
        without_solution(source)


def test_a_stale_or_stray_copy_is_found_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "STUDENTS", tmp_path)
    monkeypatch.setattr(course, "SOLUTIONS", tmp_path / "solutions")
    (tmp_path / "solutions").mkdir()
    notebook = {"cells": [{"cell_type": "code", "metadata": {"tags": ["exercise"]}, "source": [CELL]}]}
    (tmp_path / "solutions" / "1_a.ipynb").write_text(written(notebook))
    (tmp_path / "2_stray.ipynb").write_text("{}")
    (tmp_path / "explorer.ipynb").write_text("{}")
    assert [path.name for path in course.out_of_step()] == ["1_a.ipynb", "2_stray.ipynb"]
    course.out_of_step(mend=True)
    assert course.out_of_step() == []
    assert sorted(path.name for path in tmp_path.glob("*.ipynb")) == ["1_a.ipynb", "explorer.ipynb"]


@exercise("1.1")
def missing() -> bool:
    raise NotImplementedError("one line")


def test_an_error_of_pytorch_is_no_missing_answer() -> None:
    answer = exercise("1.1")(lambda: torch.zeros(2, dtype=torch.long).softmax(dim=0))
    assert verdict(answer, "the sign")[1].startswith("not yet. It stops with ")


@pytest.mark.parametrize(
    ("right", "solved", "word"),
    [
        (lambda: True, True, "right"),
        (lambda: False, False, "the sign"),
        (missing, False, "one line"),
        (lambda: {}["x"], False, "KeyError: 'x'"),
    ],
)
def test_a_verdict_stops_no_notebook_and_says_what_to_look_at(right: Any, solved: bool, word: str) -> None:
    answer, sentence = verdict(right, "the sign")
    assert answer is solved
    assert word in sentence
