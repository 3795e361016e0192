"""The benchmark's parts on a tiny mixture: what is timed is a whole step, in both ways, from the same weights."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.moe.model import MoECLIP
from lib.study.paths import REPORTS
from tools.bench import run as bench
from tools.bench import step as bench_step
from tools.bench import table as bench_table
from tools.bench.step import Bench
from tools.bench.table import table


@pytest.fixture
def small(mixture: Callable[..., MoECLIP], images: Tensor, tokens: Tensor) -> Bench:
    return Bench(mixture(tasks=1, noise=False).train(), images, torch.arange(8), tokens)


@pytest.mark.parametrize("way", ["plain", "ours"])
def test_a_step_trains_everything_and_says_where_the_time_went(small: Bench, way: str) -> None:
    before = {name: p.clone() for name, p in small.model.trainable_parameters(0)}
    spent = small.step(small.ways()[way])
    assert set(spent) == set(bench_step.PARTS)
    assert all(seconds > 0 for seconds in spent.values())
    moved = [name for name, p in small.model.trainable_parameters(0) if not torch.equal(before[name], p)]
    assert len(moved) == len(before)
    assert small.model.adapters()["image_adapters.0"].counts.sum() == 8 * 2


def test_both_ways_take_the_same_step(small: Bench) -> None:
    start = {name: tensor.clone() for name, tensor in small.model.state_dict().items()}
    ends = []
    for way in ("plain", "ours"):
        small.model.load_state_dict(start)
        small.step(small.ways()[way])
        ends.append([p.detach().clone() for _, p in small.model.trainable_parameters(0)])
    for plain, ours in zip(*ends, strict=True):
        torch.testing.assert_close(plain, ours, rtol=0, atol=2e-4)  # a step of Adam is as long as its rate


def test_the_ratio_is_of_whole_steps_taken_in_turn(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, taken = {"plain": iter([4.0, 6.0]), "ours": iter([2.0, 2.0])}, []
    ways = {name: object() for name in seconds}

    def step(_self: Bench, way: object) -> dict[str, float]:
        name = next(n for n, w in ways.items() if w is way)
        taken.append(name)
        return dict.fromkeys(bench_step.PARTS, next(seconds[name]))

    monkeypatch.setattr(Bench, "ways", lambda _: ways)
    monkeypatch.setattr(Bench, "step", step)
    monkeypatch.setattr(bench_step, "whole_step", lambda *_: 0.0)  # whose memory is watched
    monkeypatch.setattr(bench_step, "counted", lambda *_: 7)
    found = bench_step.steps(replace(small), 2)
    assert taken == ["plain", "ours"] * 2
    assert found["ratio"] == {"median": 2.5, "least": 2.0, "largest": 3.0}
    assert set(found["peak_memory_mb"]) == {"plain", "ours", "recompute"}
    assert found["seconds"]["plain"] == {"image": 5.0, "text": 5.0, "optimiser": 5.0, "step": 15.0}


def test_a_plain_steps_operations_are_told_from_few_prompts(small: Bench) -> None:
    whole = replace(small, tokens=small.tokens.repeat(3, 1)[:27])
    assert bench_step.plain_operations(whole) == bench_step.counted(whole, "plain")


def test_an_option_that_fails_is_named(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_loss: object) -> Callable[[], Tensor]:
        def fail() -> Tensor:
            raise RuntimeError("no compiler here")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(bench, "rate", lambda *_: 1.0)
    found = bench.options(small, 2, list(bench.OPTIONS))
    assert found["compile"] == {"failed": "RuntimeError: no compiler here"}
    assert found["bf16"]["least"] <= found["bf16"]["median"] <= found["bf16"]["largest"]


def test_an_option_that_this_processor_has_no_products_for_is_not_measured(
    small: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "rate", lambda dtype=torch.float32, _=0: 9.0 if dtype == torch.float32 else 1.0)
    monkeypatch.setattr(bench, "whole_step", lambda *_: pytest.fail("it would take minutes"))
    found = bench.options(small, 2, ["bf16"])
    assert found["bf16"] == {"failed": "products in bf16 take 9 times as long on this processor"}


def test_the_selectors_share_and_the_wait_are_shares(small: Bench) -> None:
    found = bench.selector(small, 3)
    assert found["share"] == pytest.approx(found["selector_ms"] / found["encoder_ms"])
    wide = found["alexnet"]
    both = wide["features_ms"] + wide["selector_ms"]
    assert wide["share"] == pytest.approx(both / found["encoder_ms"])
    assert wide["selector_ms"] > found["selector_ms"]  # hundreds of times as many numbers
    assert 0 < bench.waiting(1.0) < bench.waiting(0.1) < 1
    assert bench_step.spread(np.array([1.0, 2.0, 4.0])) == {"median": 2.0, "least": 1.0, "largest": 4.0}


def test_the_table_says_what_was_found() -> None:
    step = {"image": 2.0, "text": 1.5, "optimiser": 0.25, "step": 3.75}
    told = {
        "seconds": {"plain": {**step, "step": 9.5}, "ours": step},
        "peak_memory_mb": {"plain": None, "ours": 1234.4, "recompute": 321.0},
        "operations": {"plain": 3e12, "ours": 1e12},
        "ratio": {"median": 2.53, "least": 2.4, "largest": 2.6},
        "share_of_rate": 0.61,
    }
    found = {
        "threads": 2,
        "rate": 2e11,
        "steps": {"100": told},
        "options": {
            "bf16": {"median": 0.7, "least": 0.6, "largest": 0.8},
            "compile": {"failed": "no compiler"},
        },
        "evaluation": {"tasks": 11, "asked_again": 0.25, "passes_a_picture": {"plain": 11, "ours": 3.1}}
        | {"ratio": 5.0},
        "evaluation_t8": {"passes_a_picture": 2.75},
        "evaluation_batches": {"by_task": 50, "pooled": 49},
        "selector": {
            "tasks": 100,
            "selector_ms": 1.234,
            "share": 0.05,
            "alexnet": {"features_ms": 5.0, "selector_ms": 40.0, "share": 0.25},
        },
        "waiting": 0.012,
    }
    lines = table(found).splitlines()
    assert lines[0] == "2 threads, 200 GFLOP/s of matrix products in single precision"
    assert lines[3].split() == ["100", "classes,", "plain", "2.00", "1.50", "0.25", "9.50", "-"]
    assert lines[4].split()[-2:] == ["3.75", "1234"]
    assert lines[5].split() == ["100", "classes,", "recompute", "321"]
    assert "2.53 (2.4 to 2.6)" in lines[6]
    assert "3.0 times fewer operations, at 61 % of the rate" in lines[6]
    assert lines[7:9] == ["option bf16: 0.7 (0.6 to 0.8) of the usual time", "option compile: no compiler"]
    assert "5.0 times fewer operations, if 25 % are asked again" in lines[10]
    assert lines[11] == "mini (measured): 2.75 passes a test picture in 8 tasks"
    assert lines[12] == "batches sent to routers, task by task: 50; all tasks at once: 49"
    assert lines[13] == "selector with 100 tasks: 1.23 ms a picture, 5.0 % of the image encoder"
    assert lines[14].endswith("5.0 ms for these and 40.0 ms, together 25 % of the image encoder")
    assert "all tasks at once" not in table(found | {"evaluation_batches": None})
    assert "worst case" in table(found | {"evaluation_t8": None})


def test_the_page_on_speed_has_what_was_measured_last(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text(bench_table.PAGE.read_text())
    bench_table.write(json.loads((REPORTS / "bench.json").read_text()), page)
    assert page.read_text() == bench_table.PAGE.read_text()
