"""The page, its findings and the READMEs say what the result files say, whatever they are."""

import base64
import json
import re
from pathlib import Path

import pytest

from lib.report import page, tables
from lib.report.page import FINDINGS, Fields, findings
from lib.report.tables import by_run
from lib.study import params, plan
from lib.study.studies import ROOT
from tests.support.committed_files import committed_files
from tests.support.made_results import result, write
from tools.stages import report


@pytest.mark.parametrize("path", report.READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_readmes_table_is_that_of_the_committed_results(path: Path) -> None:
    results = [tables.parse(raw, name) for name, raw in sorted(committed_files("reports/results/mini").items())]
    table = report.readme_table(results, plan.main_order(params.load()))
    text = path.read_text()
    assert tables.with_table(text, table, report.MARKS) == text, "run `python -m tools.stages.report --readme`"


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
    text = page.page(reports, "tiny", "I")
    assert not re.search(r"(src|href)=['\"]?(http|//)", text)
    for name in ("metrics", "ablations/top_k", "../pretrain"):
        assert base64.b64encode(name.encode()).decode() in text
    assert text.count("<figure>") == 3
    assert "MoE-Adapters (the method)" in text
    assert "&lt;b&gt;mine" in text
    assert "<b>mine" not in text
    assert "nothing to compare with" in text


def test_costs_add_up(reports: Path) -> None:
    assert tables.costs(reports / "cost" / "tiny").to_numpy().tolist() == [["run--I--s0", 30, 5, 900]]


RESULTS = [
    result("zero_shot", transfer=40),
    *(result("finetune", seed, transfer=30, last=35 + seed, forgetting=60) for seed in range(3)),
    *(result("moe_adapters", seed, transfer=39, last=75 + seed, forgetting=2) for seed in range(3)),
]


def test_fields_are_means_intervals_and_differences_over_the_seeds_of_the_order() -> None:
    fields = Fields(by_run([*RESULTS, result("finetune", 3, order="II", last=0)], "I"))
    assert fields["finetune last"] == "36.0 ± 2.5"  # t(0.975, 2) / sqrt(3) = 2.48
    assert fields["moe_adapters last oracle"] == "78.0 ± 2.5"
    assert fields["zero_shot transfer - moe_adapters transfer"] == "1.0"


def test_a_finding_whose_runs_are_missing_is_left_out() -> None:
    assert list(findings(RESULTS, "I"))[:2] == list(FINDINGS)[:2]
    assert "Is it the freezing?" not in findings(RESULTS, "I")
    assert findings(RESULTS, "II") == {}


def test_a_verdict_turns_with_the_numbers() -> None:
    assert "claim holds" in findings(RESULTS, "I")["Are old tasks kept?"]
    for last in (20, 37):  # worse; better, but within the intervals
        worse = [*RESULTS[:4], *(result("moe_adapters", seed, last=last + seed) for seed in range(3))]
        assert "not hold" in findings(worse, "I")["Are old tasks kept?"]
