"""Numbers in prose are made from results, none typed in: what a rerun changes must not stay behind in a sentence."""

import json
import re
from pathlib import Path

import pytest

from lib.report.tables import with_table
from lib.study.studies import NOTEBOOKS, ROOT
from tools.course.exercises import SOLUTIONS, STUDENTS
from tools.stages.report import CLAIMS, GOALS, HUNDRED, MARKS

RESULT = re.compile(r"\d+(?:\.\d+)? ?(?:%(?! interval)|percent\b|(?:percentage )?points\b)")
PAGES = [ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "CONTRIBUTING.md", NOTEBOOKS / "course" / "README.md"]
CHAPTERS = sorted(path for place in (NOTEBOOKS, STUDENTS, SOLUTIONS) for path in place.glob("*.ipynb"))


def prose(path: Path) -> str:
    """A page without its tables of results, or a notebook's text."""
    text = path.read_text()
    if path.suffix == ".ipynb":
        return "\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")
    for marks in (MARKS, CLAIMS, GOALS, HUNDRED):
        text = with_table(text, "", marks) if marks[0] in text else text
    return text


def test_a_typed_result_is_recognised() -> None:
    text = "The method reaches 74.3 % here, 4 points more. Whiskers are 95 % intervals; K is 2 of 22."
    assert RESULT.findall(text) == ["74.3 %", "4 points"]


@pytest.mark.parametrize("path", [*PAGES, *CHAPTERS], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_result_is_typed_in(path: Path) -> None:
    assert RESULT.findall(prose(path)) == []
