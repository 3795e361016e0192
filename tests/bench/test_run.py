"""The benchmark's other figures, and its table."""

import json
from pathlib import Path

import pytest
import torch

from lib.study.paths import REPORTS
from tools.bench import run
from tools.bench.step import Bench


def test_bf16_is_not_measured_on_a_processor_without_its_products(
    small: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "rate", lambda dtype=torch.float32, _=0: 9.0 if dtype == torch.float32 else 1.0)
    assert "9 times" in run.bf16(small, 2)["failed"]
    monkeypatch.setattr(run, "rate", lambda *_: 1.0)
    ratio = run.bf16(small, 2)
    assert 0 < ratio["least"] <= ratio["median"] <= ratio["largest"]


def test_the_selectors_share_and_the_wait_are_shares(small: Bench) -> None:
    figures = run.selector(small, 3)
    assert figures["share"] == pytest.approx(figures["selector_ms"] / figures["encoder_ms"])
    wide = figures["alexnet"]
    assert wide["share"] == pytest.approx((wide["features_ms"] + wide["selector_ms"]) / figures["encoder_ms"])
    assert wide["selector_ms"] > figures["selector_ms"]  # hundreds of times as many numbers
    assert 0 < run.waiting(1.0) < run.waiting(0.1) < 1


def test_the_page_on_speed_holds_the_committed_figures(tmp_path: Path) -> None:
    page, figures = tmp_path / "speed.md", json.loads((REPORTS / "bench.json").read_text())
    page.write_text(run.PAGE.read_text())
    run.write_page(figures, page)
    assert page.read_text() == run.PAGE.read_text()
    for number in (figures["step_ratio_c100"], figures["step_ratio_c397"], figures["eval_flops_ratio_t11"]):
        assert str(number) in run.table(figures)
    assert "worst case" in run.table(figures | {"evaluation_t8": None})
