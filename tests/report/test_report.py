"""The report and the README say what the result files say."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lib.report import page as report
from lib.study import params
from lib.study.paths import ROOT


@pytest.mark.parametrize("path", report.READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_readmes_table_is_that_of_the_results(path: Path) -> None:
    text = path.read_text()
    assert report.with_table(text, report.readme_table(params.load())) == text, (
        "run `python -m lib.report.page --readme`"
    )


def test_the_page_needs_no_network_and_holds_every_figure() -> None:
    page = report.page(params.load())
    assert not re.search(r"(src|href)=['\"]?(http|//)", page)
    folder = ROOT / "reports" / "figures" / "mini"
    drawn = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.png")}
    known = set(report.FIGURES) | {f"ablations/{name}" for name in report.PANELS}
    assert {"metrics", "matrices", "tasks_over_time", "selector_confusion", "start_here"} <= drawn <= known
    assert page.count("<figure>") == len(drawn) + 1  # and the backbone's
    assert "MoE-Adapters (the method)" in page


def test_costs_add_up(tmp_path: Path) -> None:
    folder = tmp_path / "cost" / "s"
    folder.mkdir(parents=True)
    cost = {
        "seconds": {"a": {"training": 10.0, "evaluation": 2.0}, "b": {"training": 20.0, "evaluation": 3.0}},
        "peak_memory_mb": {"a": 700, "b": 900},
    }
    (folder / "run--I--s0.json").write_text(json.dumps(cost))
    line = report.costs("s", tmp_path).iloc[0]
    assert (line["training (s)"], line["evaluation (s)"], line["peak memory (MB)"]) == (30, 5, 900)


def test_a_study_without_results_says_which_command_makes_them() -> None:
    with pytest.raises(ValueError, match="make study"):
        report.page(replace(params.load(), study="nothing"))


def test_a_study_that_others_published_is_set_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.tables, "read", lambda study: [])
    page = report._published(replace(params.load(), study="mtil"))
    assert page.count("Order ") == 4  # two orders, each by data set as well
    assert "OxfordPet" in page
    assert report._published(params.load()) == ""
