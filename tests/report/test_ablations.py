"""The ablations' arithmetic: which answers a selector picks, what shared decisions do, what a panel shows."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import Tensor

from lib.report import ablations, tables
from lib.selector import CLIP, DDAS
from lib.selector import SelectorSettings as Settings
from lib.study.params import build
from tests.support import small_study


class Known(DDAS):
    """A selector whose errors are its features."""

    def __init__(self, tasks: int, threshold: float) -> None:
        super().__init__(tasks, build(Settings, small_study.RAW["selector"], "selector"))
        self.thresholds = torch.full((tasks,), threshold)
        self.tasks = torch.nn.ModuleList(torch.nn.Identity() for _ in range(tasks))

    def errors(self, features: Tensor, chunk: int = 256) -> Tensor:
        return features


def test_last_takes_each_pictures_answer_from_the_router_it_was_sent_to() -> None:
    right = [torch.tensor([[True, False, False], [False, True, False]]), torch.tensor([[False, False, True]])]
    assert ablations.last_of([torch.tensor([0, 1]), torch.tensor([CLIP])], right) == 100
    assert ablations.last_of([torch.tensor([0, 0]), torch.tensor([0])], right) == 25  # mean of 50 and 0


def test_all_answers_are_those_of_each_router_and_of_clip() -> None:
    method, lessons = small_study.learned("moe_adapters", 3), small_study.lessons()
    for lesson, table in zip(lessons, ablations.answers_of_all(method, lessons), strict=True):
        found = method.predict(lesson.task, lesson.features, lesson.number)
        labels = lesson.task.test.labels
        assert table.shape == (len(labels), 4)
        assert torch.equal(table[:, lesson.number], found.classes["oracle"] == labels)
        assert torch.equal(table[:, -1], lesson.features.zero_shot == labels)
        picked = table.gather(1, found.routes["sample"].remainder(4)[:, None])[:, 0]
        assert torch.equal(picked, found.classes["sample"] == labels)


def test_a_group_shares_the_decision_of_its_mean_error() -> None:
    errors = [torch.tensor([[0.1, 0.4], [0.5, 0.2], [0.9, 0.8]]), torch.tensor([[0.6, 0.1]])]
    alone = ablations.grouped(errors, Known(2, 0.7), 1, mixed=False)
    assert [part.tolist() for part in alone] == [[0, 1, CLIP], [1]]
    pairs = ablations.grouped(errors, Known(2, 0.7), 2, mixed=False)
    assert [part.tolist() for part in pairs] == [[0, 0, CLIP], [1]]  # means 0.3, 0.3: of equals the first


def test_groups_of_one_are_the_same_mixed_or_not_and_larger_ones_join_tasks() -> None:
    errors = [torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    selector = Known(3, 2.0)
    for mixed, pure in zip(*(ablations.grouped(errors, selector, 1, m) for m in (True, False)), strict=True):
        assert torch.equal(mixed, pure)
    together = torch.cat(ablations.grouped(errors, selector, 10, mixed=True))
    assert together.unique().numel() == 1


def test_a_task_not_learned_is_judged_by_the_others_alone() -> None:
    features = [torch.tensor([[0.1, 0.9], [0.1, 0.2]]), torch.tensor([[0.9, 0.1]])]
    # task 0's pictures meet coder 1 alone: 0.9 goes to CLIP, 0.2 is claimed; task 1's meet coder 0: 0.9 goes
    assert ablations.to_clip_when_unlearned(Known(2, 0.5), features) == pytest.approx((50 + 100) / 2)


def result(seed: int, last: float, order: str = "A", variant: str = "") -> dict[str, Any]:
    scores = {"sample": last, "oracle": last + 1}
    return {"method": "moe_adapters", "variant": variant, "order": order, "seed": seed} | {
        metric: scores for metric in ("transfer", "last")
    }


def test_a_panel_shows_the_variants_that_were_run_on_the_order() -> None:
    runs = tables.by_run(
        [result(0, 70), result(1, 72), result(0, 60, variant="experts_2"), result(0, 9, order="I")], "A"
    )
    assert {run: len(contents) for run, contents in runs.items()} == {
        "moe_adapters": 2,
        "moe_adapters+experts_2": 1,
    }
    figure = plt.figure()
    names = {"E = 2": "moe_adapters+experts_2", "E = 12": "moe_adapters", "E = 99": "moe_adapters+never_run"}
    ablations.panel(runs, names, figure)
    ticks = [label.get_text() for label in figure.axes[1].get_xticklabels()]
    assert ticks == ["E = 2\nn = 1", "E = 12\nn = 2"]
    points = [np.asarray(line.get_ydata()) for line in figure.axes[1].get_lines()]
    heights = {float(values[0]) for values in points if len(values) == 1}
    assert {60.0, 61.0, 71.0, 72.0} <= heights
    plt.close(figure)


def test_what_came_out_sets_each_variant_against_the_papers_band() -> None:
    runs = tables.by_run([result(0, 70), result(1, 72), result(0, 40, variant="top_1"), result(0, 75, variant="top_4")])
    names = {"K = 1": "moe_adapters+top_1", "K = 2": "moe_adapters", "K = 4": "moe_adapters+top_4"}
    told = ablations.outcome(runs, names | {"K = 9": "moe_adapters+never_run"})
    assert "(71.0 %, ± 12.7)" in told  # t(0.975, 1) / sqrt(2) * sd(70, 72)
    assert "Outside its interval: K = 1 -31.0." in told
    assert "not told apart: K = 4 +4.0." in told


def test_without_a_band_every_difference_is_told() -> None:
    runs = tables.by_run([result(0, 70), result(0, 70.5, variant="top_4")])
    told = ablations.outcome(runs, {"K = 2": "moe_adapters", "K = 4": "moe_adapters+top_4"})
    assert "(70.0 %, one seed)" in told
    assert "Outside its interval: K = 4 +0.5." in told
