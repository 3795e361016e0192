"""The site: executed once, formulas without a script, links that lead somewhere, solutions behind a click."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tools.course import site

FIRST = ["# One\n\nA formula $a_i^2$, and a price of 5 $ or 6 $.", "print(6 * 7)"]
SECOND = ["# Two\n\nNothing.", "1 / 1"]


def notebook(folder: Path, name: str, text: str, code: str) -> Path:
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell(code)]
    made: Any = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(made, folder / name)
    return folder / name


def test_a_notebook_is_executed_again_only_when_its_code_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "NOTEBOOKS", tmp_path)
    path, copy = notebook(tmp_path, "one.ipynb", *FIRST), tmp_path / "executed" / "one.ipynb"
    assert "42" in str(site.executed(path, copy).cells[1].outputs)
    monkeypatch.setattr(site, "NotebookClient", None)
    notebook(tmp_path, "one.ipynb", "# Another title", FIRST[1])
    again = site.executed(path, copy)
    assert again.metadata["seconds"] > 0
    assert again.cells[0].source == "# Another title"
    assert "42" in str(again.cells[1].outputs)
    notebook(tmp_path, "one.ipynb", FIRST[0], "print(1)")
    with pytest.raises(TypeError):
        site.executed(path, copy)


def test_the_pages_need_no_network_and_link_to_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "SITE", tmp_path / "reports" / "site")
    monkeypatch.setattr(site, "REPORTS", tmp_path / "reports")
    read = [
        nbformat.read(notebook(tmp_path, f"{name}.ipynb", *parts), 4)
        for name, parts in (("one", FIRST), ("two", SECOND))
    ]
    pages = [site.Page("study", "one", "One", read[0], 3.0), site.Page("solutions", "two", "Two", read[1], None)]
    site.write(pages)
    texts = {path.name: path.read_text() for path in site.SITE.glob("*.html")}
    assert set(texts) == {"index.html", "one.html", "two.html"}
    for text in texts.values():
        assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
        assert "<script" not in text
        inside = set(re.findall(r'href="([^"#/]+)"', text))
        assert inside <= set(texts)
    assert "<math" in texts["one.html"]
    assert "5 $ or 6 $" in texts["one.html"]
    assert 'href="two.html">next: Two' in texts["one.html"]
    assert "ran in 3 s" in texts["one.html"]
    assert "not run here" in texts["two.html"]
    assert texts["index.html"].index("<details>") < texts["index.html"].index("two.html")
