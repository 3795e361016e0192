"""The page and the READMEs say what the result files say, whatever they are."""

import base64
import json
import re
from html import escape
from pathlib import Path

import pytest

from lib.report import page, tables
from lib.report.claims import CLAIMS
from lib.study import params, plan
from tests.support.committed_files import committed_files
from tests.support.made_results import result, write
from tools.stages import report


def test_the_tables_of_pages_are_those_of_the_committed_results() -> None:
    results, hundred = (
        [tables.parse(raw, name) for name, raw in sorted(committed_files(f"reports/results/{study}").items())]
        for study in ("mini", "hundred")
    )
    for path, made in report.made(results, plan.main_order(params.load()), hundred).items():
        text = path.read_text()
        for marks, table in made.items():
            assert tables.with_table(text, table, marks) == text, "run `python -m tools.stages.report --readme`"


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    runs = ("finetune", "moe_adapters", "<b>mine</b>")
    write(tmp_path / "results" / "tiny", *(result(run, seed) for run in runs[:2] for seed in range(2)))
    write(tmp_path / "results" / "tiny", result("moe_adapters+top_1", order="A"))
    (tmp_path / "results" / "tiny" / "mine--I--s0.json").write_text(json.dumps(result(runs[2])))
    for name in ("metrics", "ablations/top_k", "../pretrain"):
        file = tmp_path / "figures" / "tiny" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    cost = {
        "seconds": {"a": {"training": 10.0, "evaluation": 2.0}, "b": {"training": 20.0, "evaluation": 3.0}},
        "peak_memory_mb": {"a": 700, "b": 900},
    }
    (tmp_path / "cost" / "tiny").mkdir(parents=True)
    (tmp_path / "cost" / "tiny" / "run--I--s0.json").write_text(json.dumps(cost))
    return tmp_path


def test_the_page_needs_no_network_and_holds_what_was_made(reports: Path) -> None:
    text = page.pages(reports, "tiny", "I")["index.html"]
    assert not re.search(r"(src=['\"]?(http|//))|<link", text)  # it may link to the paper
    for name in ("metrics", "ablations/top_k", "../pretrain"):
        assert base64.b64encode(name.encode()).decode() in text
    assert text.count("<figure>") == 3
    assert "MoE-Adapters (the method)" in text
    assert "&lt;b&gt;mine" in text
    assert "<b>mine" not in text
    assert "nothing to compare with" in text
    assert "Beyond the paper" not in text  # it has no run
    assert all(escape(claim.text, quote=False) in text for claim in CLAIMS)


def test_the_slides_are_ten_and_show_only_figures_that_are_there(reports: Path) -> None:
    text = page.pages(reports, "tiny", "I")["slides.html"]
    assert re.findall(r'<img src="([^"]+)"', text) == ["../figures/tiny/metrics.png"]
    for name in ("tasks", "zero_shot"):
        (reports / "figures" / "tiny" / f"{name}.png").write_bytes(b"")
    whole = page.pages(reports, "tiny", "I")["slides.html"]
    assert whole.count("<section") == 10
    assert set(re.findall(r"data-of=(\d+)", whole)) == {"10"}


def test_every_table_says_what_was_left_out(reports: Path) -> None:
    text = page.pages(reports, "tiny", "I", "At most 5 <test> pictures.")["index.html"]
    assert text.count("At most 5 &lt;test&gt; pictures.") == text.count("</table>") - text.count("<table class=matrix")


def test_costs_add_up(reports: Path) -> None:
    assert tables.costs(reports / "cost" / "tiny").to_numpy().tolist() == [["run--I--s0", 30, 5, 900]]
