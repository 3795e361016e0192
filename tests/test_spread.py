"""How far studies spread: hand-worked schedules, and shares that add up to a run."""

from dataclasses import replace

import pytest

from lib import extent, params, plan, spread


@pytest.fixture(scope="module")
def mtil() -> params.Study:
    return params.load("studies/mtil/params.yaml")


DIAMOND = {"top": set(), "left": {"top"}, "right": {"top"}, "bottom": {"left", "right"}}
HOURS = {"top": 1.0, "left": 2.0, "right": 3.0, "bottom": 1.0}


@pytest.mark.parametrize(("gpus", "hours"), [(1, 7.0), (2, 5.0), (64, 5.0)])
def test_a_diamond_takes_its_sum_on_one_gpu_and_its_longest_way_on_two(gpus: int, hours: float) -> None:
    assert spread.wall(HOURS, DIAMOND, gpus) == hours


def test_the_longest_way_starts_first() -> None:
    hours = {"heavy": 2.5, "one": 1.0, "two": 1.0, "three": 1.0}
    waiting: dict[str, set[str]] = {"heavy": set(), "one": set(), "two": {"one"}, "three": {"two"}}
    assert spread.wall(hours, waiting, 2) == 3.0
    lone = {name: 1.0 for name in "abcde"}
    assert spread.wall(lone, {name: set() for name in lone}, 2) == 3.0


def test_the_stages_of_a_run_share_its_hours(mtil: params.Study) -> None:
    found = spread.hours(mtil, {})
    whole = replace(mtil, runs={"moe_adapters": replace(mtil.runs["moe_adapters"], by_task=False)})
    chain = [hours for key, hours in found.items() if key.startswith("moe_adapters--I--s0--")]
    assert len(chain) == 11
    assert sum(chain) == pytest.approx(spread.hours(whole, {})["moe_adapters--I--s0"])


def test_a_measured_ratio_scales_training_alone(mtil: params.Study) -> None:
    once, twice = (spread.hours(mtil, {"zscl": ratio})["zscl--I--s0"] for ratio in (1.0, 2.0))
    assert twice - once == pytest.approx(extent.training(mtil, "zscl") / extent.RATE / 3600)
    nothing = spread.hours(mtil, {"zscl": float("nan")})["zscl--I--s0"]  # as for methods that train nothing
    assert nothing == pytest.approx(extent.testing(mtil, "zscl") / extent.RATE / 3600)


def test_a_chained_task_waits_for_the_one_before(mtil: params.Study) -> None:
    needs = spread.waiting(mtil, "here/")
    names = [f"here/{key}" for key in plan.items(mtil) if key.startswith("moe_adapters--I--s0--")]
    assert [needs[name] for name in names] == [set(), *({name} for name in names[:-1])]
    assert needs["here/finetune--I--s0"] == set()


def test_the_table_has_a_line_for_each_study_and_one_for_all() -> None:
    lines = spread.table().splitlines()
    assert [line.split("|")[1].strip(" `") for line in lines[2:]] == [*spread.STUDIES, "all four"]
    wall = [float(cell.strip().removesuffix(" h")) for cell in lines[-1].split("|")[6:9]]
    assert wall == sorted(wall, reverse=True)
