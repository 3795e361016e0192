"""Numbers in prose are made from results, none typed in: what a rerun changes must not stay behind in a sentence."""

import json
import re
from pathlib import Path

import pytest

from lib.report.tables import with_table
from lib.study.paths import NOTEBOOKS, ROOT
from tools.course.exercises import SOLUTIONS, STUDENTS
from tools.stages.report import MARKS

RESULT = re.compile(r"\d+(?:\.\d+)? ?(?:%|percent\b|(?:percentage )?points\b)")
TERMS = ("95 % interval",)  # of the trade, not results
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", NOTEBOOKS / "course" / "README.md"]
NOTEBOOK_FILES = sorted(path for place in (NOTEBOOKS, STUDENTS, SOLUTIONS) for path in place.glob("*.ipynb"))


def typed(text: str) -> list[str]:
    for term in TERMS:
        text = text.replace(term, "")
    return RESULT.findall(text)


def test_a_typed_result_is_found() -> None:
    assert typed("The method reaches 74.3 % here, 4 points more.") == ["74.3 %", "4 points"]
    assert typed("Whiskers are 95 % intervals; K is 2 of 22.") == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_has_no_result_typed_in(path: Path) -> None:
    text = path.read_text()
    assert typed(with_table(text, "", MARKS) if MARKS[0] in text else text) == []


@pytest.mark.parametrize("path", NOTEBOOK_FILES, ids=lambda path: str(path.relative_to(NOTEBOOKS)))
def test_a_notebooks_text_has_no_result_typed_in(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert typed(prose) == []
