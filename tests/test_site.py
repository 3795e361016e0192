"""The site opens from disk: its links lead to its own pages, nothing comes from a network, formulas are in the page."""

import json
import re
from pathlib import Path

import pytest

from lib import params, site
from lib.paths import NOTEBOOKS


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("site")
    return {path.name: path.read_text() for path in site.write(params.load(), folder)}


def test_there_is_a_page_for_every_notebook(pages: dict[str, str]) -> None:
    for path in [*NOTEBOOKS.glob("*.ipynb"), *(NOTEBOOKS / "course").glob("*.ipynb")]:
        assert f"{path.stem}.html" in pages
        assert f"href='{path.stem}.html'" in pages["notebooks.html"]


def test_every_link_leads_to_a_page_of_the_site(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        for place in re.findall(r"<a\b[^>]*\bhref=['\"]([^'\"]+)", page):
            target = place.partition("#")[0]
            assert not target or target in pages or target.startswith("https://"), f"{name}: {place}"


def test_nothing_is_loaded_from_a_network(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        assert "<script" not in page, name
        assert not re.search(r"<(?:link|img|source|iframe)\b[^>]*(?:src|href)=['\"]?(?:https?:)?//", page), (
            name
        )
        assert not re.search(r"@import|url\(['\"]?http", page), name


def test_the_report_and_the_results_are_on_the_first_page(pages: dict[str, str]) -> None:
    assert "What we learned" in pages["index.html"]
    assert "MoE-Adapters (the method)" in pages["index.html"]
    assert "Two hours" in pages["teach.html"]
    assert "Boosting Continual Learning" in pages["cite.html"]


def notebook(folder: Path, name: str, output: str = "") -> Path:
    formula = "# A title\n\nSo $\\lambda \\sum (\\theta - \\theta_A)^2$."
    shown = [{"output_type": "stream", "name": "stdout", "text": [output]}] if output else []
    code = {"cell_type": "code", "id": "b", "metadata": {}, "execution_count": None, "outputs": shown}
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": formula.splitlines(keepends=True)},
        code | {"source": ["print(6 * 7)"]},
    ]
    path = folder / name
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def test_an_executed_copy_is_shown_where_there_is_one(tmp_path: Path) -> None:
    clean, ran = notebook(tmp_path, "clean.ipynb"), notebook(tmp_path, "ran.ipynb", "forty-two\n")
    without, found = site.rendered(clean, tmp_path / "missing.ipynb"), site.rendered(clean, ran)
    assert (without.ran, found.ran) == (False, True)
    assert "forty-two" in found.body
    assert "forty-two" not in without.body
    assert (found.name, found.title) == ("clean.html", "A title")


def test_formulas_are_mathml(tmp_path: Path) -> None:
    body = site.rendered(notebook(tmp_path, "a.ipynb"), tmp_path / "missing.ipynb").body
    assert "<math" in body
    assert "λ" in body or "&#x003BB;" in body
    assert "$" not in body


def test_links_out_of_the_site_lose_their_address_and_not_their_words() -> None:
    assert site.linked('<a href="02_pretrain.ipynb">two</a>') == '<a href="02_pretrain.html">two</a>'
    assert site.linked('<a href="../params.yaml">numbers</a>') == "<a>numbers</a>"
    kept = '<a href="https://example.org/">x</a> <a href="#top">y</a>'
    assert site.linked(kept) == kept
