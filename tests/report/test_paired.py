"""Paired differences: against scipy, which results make a pair, Holm's correction by hand, how many seeds would do."""

import math

import numpy as np
import pytest
from scipy import stats

from lib.report import paired
from lib.report.paired import Difference, difference, holm, of_gaps
from tests.support.made_results import result


def runs(name: str, *last: float, order: str = "I", **changes: float) -> list[dict]:
    return [result(name, seed, order, last=value, **changes) for seed, value in enumerate(last)]


def test_a_difference_is_scipys_over_the_orders_and_seeds_that_both_have() -> None:
    ours = [*runs("zscl", 75, 77, 82), *runs("zscl", 60, order="II"), *runs("zscl", 9, order="A")]
    theirs = [*runs("mas", 74, 75, 77, 0), *runs("mas", 61, order="II")]  # in another order than ours
    gap = difference(ours, theirs[::-1], "last")
    expected = stats.ttest_rel([75, 77, 82, 60], [74, 75, 77, 61])
    low, high = expected.confidence_interval(0.95)
    assert (gap.pairs, gap.mean, gap.p) == (4, pytest.approx(1.75), pytest.approx(expected.pvalue))
    assert (gap.low, gap.high) == (pytest.approx(low), pytest.approx(high))
    assert str(gap) == f"+1.8 [{low:.1f}, {high:.1f}]"


def test_without_spread_or_pairs_nothing_is_made_up() -> None:
    alone, same, still = of_gaps(np.array([2.0])), of_gaps(np.full(3, 2.0)), of_gaps(np.zeros(3))
    assert (str(alone), alone.pairs) == ("+2.0", 1)
    assert math.isnan(alone.half)
    assert [(gap.half, gap.p) for gap in (same, still)] == [(0, 0), (0, 1)]
    assert str(of_gaps(np.array([]))) == ""
    assert difference(runs("joint", 70, 71), runs("mas", 70, 71), "transfer").pairs == 0  # joint has no Transfer


def test_what_draws_nothing_stands_for_all_seeds_of_its_order() -> None:
    theirs = [*runs("zero_shot", 40), *runs("zero_shot", 50, order="II")]
    gap = difference([*runs("mas", 44, 46), *runs("mas", 51, order="II")], theirs, "last")
    assert (gap.pairs, gap.mean) == (3, pytest.approx((4 + 6 + 1) / 3))


def test_a_run_that_decides_nothing_is_compared_by_what_it_has_in_the_same_label_space() -> None:
    ours, theirs = runs("moe_adapters", 70, 72, union=5), runs("mas", 60, 61, union=20)
    assert difference(ours, theirs, "last", "oracle").mean == pytest.approx(12.5)  # 2 more by the oracle
    assert difference(ours, theirs, "last", "union_batch").mean == pytest.approx(10.5 + 15 + 1)
    assert difference(ours, ours, "last", "sample", "oracle").mean == -2


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, math.nan, 0.03]) == pytest.approx([0.03, 0.06, math.nan, 0.06], nan_ok=True)
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_the_family_is_all_runs_and_metrics() -> None:
    results = [*runs("moe_adapters", 70, 72, 77), *runs("mas", 69, 70, 72), *runs("zscl", 50, 56, 55)]
    table = paired.against(results, "moe_adapters", ["mas", "zscl", "gone"], ["last", "average"], "sample")
    assert {run: list(cells) for run, cells in table.items()} == {run: ["last", "average"] for run in ("mas", "zscl")}
    cells = [cell for line in table.values() for cell in line.values()]
    assert [p for _, p in cells] == holm([gap.p for gap, _ in cells])
    assert table["zscl"]["last"][0].mean == pytest.approx(58 / 3)


@pytest.mark.parametrize(("mean", "spread"), [(1.0, 2.0), (-3.0, 2.0), (0.1, 1.0)])
def test_so_many_seeds_would_show_the_difference_and_one_fewer_would_not(mean: float, spread: float) -> None:
    needed = Difference(mean, 1.0, 0.5, 3, spread).seeds_needed()
    assert needed is not None
    half = [stats.t.ppf(0.975, count - 1) * spread / count**0.5 for count in (needed, max(2, needed - 1))]
    assert half[0] < abs(mean) <= half[1] or needed == 2
    assert Difference(0.0, 1.0, 1.0, 3, spread).seeds_needed() is None
    assert Difference(0.001, 1.0, 1.0, 3, spread).seeds_needed() == 1000
