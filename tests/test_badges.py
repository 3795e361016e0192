"""Links to the course on Colab and Binder come from the one address in CITATION.cff."""

from pathlib import Path

import pytest

from lib import badges
from lib.paths import ROOT


def cff(folder: Path, address: str) -> Path:
    file = folder / "CITATION.cff"
    file.write_text(f"title: a study\nrepository-code: {address}\n" if address else "title: a study\n")
    return file


@pytest.mark.parametrize("ending", ["", "/", ".git"])
def test_the_address_is_read_from_the_citation(tmp_path: Path, ending: str) -> None:
    file = cff(tmp_path, f"https://github.com/some-one/a.study{ending}")
    assert badges.repository(file) == "some-one/a.study"


def test_without_an_address_the_page_says_where_to_put_it(tmp_path: Path) -> None:
    assert badges.repository(cff(tmp_path, "")) == ""
    assert "CITATION.cff" in badges.table("")
    assert "](http" not in badges.table("")


@pytest.mark.parametrize(
    "address", ["https://example.org/a/b", "https://github.com/a", "http://github.com/a/b"]
)
def test_another_address_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValueError, match=f"{address}.* must read https://github.com/OWNER/NAME"):
        badges.repository(cff(tmp_path, address))


def test_every_notebook_of_the_course_has_a_link_to_each_service() -> None:
    table = badges.table("some-one/study")
    for path in badges.STUDENTS.glob("*.ipynb"):
        place = path.relative_to(ROOT).as_posix()
        assert f"(https://colab.research.google.com/github/some-one/study/blob/main/{place})" in table
        assert f"(https://mybinder.org/v2/gh/some-one/study/main?labpath={place})" in table


def test_the_teachers_page_is_in_step() -> None:
    inside = badges.TEACHERS.read_text().split(badges.MARKS[0])[1].split(badges.MARKS[1])[0]
    assert inside.strip() == badges.table(badges.repository()), "run `python -m lib.badges`"
