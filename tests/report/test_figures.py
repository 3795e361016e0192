"""The figures show every run, and nothing that a run does not have."""

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from lib.report import figures, tables
from tests.support.made_results import result


@pytest.fixture
def figure() -> Iterator[Figure]:
    figure = plt.figure()
    yield figure
    plt.close(figure)


def test_every_run_has_a_bar_but_joint_training_none_for_transfer(figure: Figure) -> None:
    figures.metric_bars([result(run, seed) for run in ("mine", "joint", "finetune") for seed in (0, 1)], figure)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert [name.partition(",")[0] for name in names] == ["joint training", "continual fine-tuning", "mine"]
    assert [len(axes.patches) for axes in figure.axes] == [2, 3, 3, 3]


def test_the_experts_of_every_block_are_numbered_and_shades_have_a_scale(figure: Figure) -> None:
    block = {"counts": [[6, 4, 0], [0, 5, 5], [1, 1, 8]], "froze": [[0], [1], [2]]}
    figures.expert_use(
        result("moe_adapters", experts={"image": {"0": block, "1": block}, "text": {"0": block}}), figure
    )
    drawn = [axes for axes in figure.axes if axes.get_xlabel() == "expert"]
    assert [[label.get_text() for label in axes.get_xticklabels()] for axes in drawn] == [["0", "1", "2"]] * 3
    assert "%" in figure.axes[-1].get_ylabel()


def variant(run: str, seed: int, last: float, order: str = "A") -> dict[str, Any]:
    return result(run, seed, order, last=last, transfer=last)


RESULTS = [variant("moe_adapters", seed, last) for seed, last in enumerate((70, 72))]
NAMES = {f"K = {k}": f"moe_adapters+top_{k}" for k in (1, 4, 9)} | {"K = 2": "moe_adapters"}


def test_a_panel_shows_the_variants_that_were_run_on_the_order(figure: Figure) -> None:
    results = [*RESULTS, variant("moe_adapters+top_1", 0, 60), variant("moe_adapters", 0, 9, order="I")]
    figures.panel(tables.by_run(results, "A"), NAMES, "E = 12", figure)
    axes = figure.axes[1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["K = 1\nn = 1", "K = 2\nn = 2"]
    heights = {float(y) for line in axes.get_lines() for y in np.ravel(np.asarray(line.get_ydata()))}
    assert {60.0, 62.0, 71.0, 73.0} <= heights
    assert any("E = 12" in text.get_text() for text in figure.legends[0].get_texts())


def test_the_outcome_marks_what_is_outside_the_band() -> None:
    results = [*RESULTS, variant("moe_adapters+top_1", 0, 40), variant("moe_adapters+top_4", 0, 75)]
    sentence = figures.outcome(tables.by_run(results), NAMES, "E = 12")
    assert "71.0 ± 12.7 %" in sentence  # t(0.975, 1) / sqrt(2) * sd(70, 72)
    assert "K = 1 -31.0*, K = 4 +4.0" in sentence
    assert "K = 4 +3.0*" in figures.outcome(tables.by_run(results[1:]), NAMES, "")  # one seed has no band
