"""The figures show every run and nothing that a run does not have; and what is counted inside the mixture, by hand."""

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from lib.report import comparison, inside, tables
from tests.support.made_results import result


@pytest.fixture
def figure() -> Iterator[Figure]:
    figure = plt.figure()
    yield figure
    plt.close(figure)


def points(axes: Axes) -> list[tuple[list[float], list[float]]]:
    """x and y of each series with intervals."""
    drawn = [part[0] for part in axes.containers if isinstance(part, ErrorbarContainer) and part[0] is not None]
    return [([float(x) for x in line.get_xdata()], [float(y) for y in line.get_ydata()]) for line in drawn]


def test_every_run_has_a_point_a_label_space_but_joint_training_none_for_transfer(figure: Figure) -> None:
    names = ("mine", "joint", "finetune")
    comparison.methods([result(run, seed, union=5) for run in names for seed in (0, 1)], figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert [name.partition(",")[0] for name in labels] == ["joint training", "continual fine-tuning", "mine"]
    found = [[x for (x,), _ in points(axes)] for axes in figure.axes]
    assert [len(each) for each in found] == [6, 6, 6]
    assert [int(np.isnan(each).sum()) for each in found] == [2, 0, 0]
    assert sorted(found[2]) == pytest.approx([68] * 3 + [73] * 3)  # (46 + 88 + 85) / 3, and 5 less


def test_a_difference_is_the_reference_minus_the_run(figure: Figure) -> None:
    results = [result(run, seed, last=last + seed**2) for run, last in (("mas", 70), ("zscl", 60)) for seed in (0, 1)]
    results += [result("moe_adapters", seed, last=75 + seed) for seed in (0, 1)]
    comparison.differences(results, "moe_adapters", figure, "sample")
    assert [x for (x,), _ in points(figure.axes[2])] == [15, 5]  # ZSCL comes first
    assert len(figure.axes[0].get_yticklabels()) == 2


def variant(run: str, seed: int, average: float, order: str = "A") -> dict[str, Any]:
    return result(run, seed, order, union=5, average=average)


NAMES = {f"K = {k}": f"moe_adapters+top_{k}" for k in (1, 4, 9)} | {"K = 2": "moe_adapters"}
RESULTS = [variant("moe_adapters", seed, average) for seed, average in enumerate((70, 72))]
RESULTS += [variant("moe_adapters+top_1", seed, average) for seed, average in enumerate((60, 61))]
RESULTS += [variant("moe_adapters+top_4", 0, 75), variant("moe_adapters", 0, 9, order="I")]


def test_an_ablation_shows_the_variants_that_were_run_on_the_order_and_their_differences(figure: Figure) -> None:
    comparison.ablation(tables.by_run(RESULTS, "A"), NAMES, "moe_adapters", figure)
    left, right = figure.axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["K = 1\nn = 2", "K = 4\nn = 1", "K = 2\nn = 2"]
    own, union, oracle = (y for _, y in points(left))
    assert (own, union, oracle) == ([60.5, 75, 71], [55.5, 70, 66], [62.5, 77, 73])
    assert points(right)[1][1] == [-10.5, 5, 0]
    assert min(axes.get_ylim()[1] - axes.get_ylim()[0] for axes in figure.axes) >= comparison.LEAST_SPAN


def test_the_outcome_says_what_is_decided_and_what_more_seeds_would() -> None:
    results = [*RESULTS, *(variant("moe_adapters+top_9", seed, 72 + 3 * seed) for seed in (0, 1))]
    sentence = comparison.outcome(tables.by_run(results, "A"), NAMES, "moe_adapters")
    assert "K = 1 -10.5 [-16.9, -4.1];" in sentence  # t(0.975, 1) * 0.7071 / sqrt(2)
    assert "K = 4 +5.0, not told apart" in sentence
    assert "K = 9 +2.5 [-3.9, 8.9], not told apart; about 3 seeds would decide" in sentence


def test_accuracy_over_steps_has_the_studys_own_steps_and_all_variants(figure: Figure) -> None:
    results = [result(f"mas{run}", 0, union=3, last=v) for run, v in (("", 70), ("+steps_100", 60), ("+more", 1))]
    comparison.over_steps(results, ["mas", "gone"], 400, figure)
    assert points(figure.axes[1]) == [([100, 400], [60, 70]), ([100, 400], [57, 67])]


def test_the_front_joins_what_no_other_run_beats_in_both(figure: Figure) -> None:
    results = [result(run, average=a) for run, a in (("mas", 50), ("zscl", 60), ("lwf", 55), ("lora", 70))]
    seconds = {"mas": 10.0, "zscl": 20.0, "lwf": 30.0, "lora": 40.0, "gone": 1.0}
    comparison.at_a_cost(results, seconds, figure, "sample")
    front = figure.axes[0].lines[-1]
    assert [list(front.get_xdata()), list(front.get_ydata())] == [[10, 20, 40], [50, 60, 70]]  # type: ignore[arg-type]


# --- inside the mixture

BLOCK = {"counts": [[6, 4, 0], [0, 5, 5], [1, 1, 8]], "froze": [[0], [1], [2]]}
INSIDE = result("moe_adapters", experts={"image": {"0": BLOCK, "1": BLOCK}, "text": {"0": BLOCK}})


def test_what_is_counted_inside_by_hand() -> None:
    assert inside.on_frozen(BLOCK).tolist() == pytest.approx([0, 0, 0.2])  # expert 0, then 0 and 1, were frozen
    assert inside.entropy(BLOCK)[:2].tolist() == pytest.approx([-0.6 * np.log2(0.6) - 0.4 * np.log2(0.4), 1])
    first, second, third = inside.overlap(BLOCK)
    assert np.isnan(first)
    assert (second, third) == pytest.approx((0.4, 0.1 + 0.5))  # with the task before: 0.1 of expert 1, 0.5 of 2
    # by the oracle 52, 92 and 87 at first; the second row has moved by 2 and 0, the third by 4, 2 and 0
    assert inside.drift(INSIDE).tolist() == pytest.approx([0, 1, 2])


def test_the_experts_of_every_block_are_numbered_and_shades_have_a_scale(figure: Figure) -> None:
    inside.expert_use(INSIDE, figure)
    drawn = [axes for axes in figure.axes if axes.get_xlabel() == "expert"]
    assert [[label.get_text() for label in axes.get_xticklabels()] for axes in drawn] == [["0", "1", "2"]] * 3
    assert "%" in figure.axes[-1].get_ylabel()


def test_the_panels_of_the_mixture_are_means_over_blocks_and_runs(figure: Figure) -> None:
    inside.mixture({"freezing": [INSIDE, INSIDE], "none": [INSIDE]}, figure)
    frozen, _, _, moved = figure.axes
    for axes, expected in ((frozen, [0, 0, 20]), (moved, [0, 1, 2])):
        np.testing.assert_allclose([y for _, y in points(axes)], [expected] * 2)  # both towers; both groups
