"""The pictures of the ideas: what they show is what they are given, and every name is inside the sheet."""

import pytest
from matplotlib.figure import Figure

from tools.course import diagrams

pytestmark = pytest.mark.usefixtures("no_window")


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("draw", [diagrams.block, diagrams.prediction], ids=["block", "prediction"])
def test_every_word_is_inside_the_sheet(draw: object) -> None:
    figure = draw()  # type: ignore[operator]
    figure.canvas.draw()
    sheet = figure.bbox
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert sheet.x0 <= box.x0, text.get_text()
        assert box.x1 <= sheet.x1, text.get_text()
        assert sheet.y0 <= box.y0, text.get_text()
        assert box.y1 <= sheet.y1, text.get_text()


def test_a_block_shows_what_is_frozen_and_what_learns() -> None:
    assert {"attention", "MLP", "router of task t", "expert 1", "frozen", "learns"} <= set(words(diagrams.block()))


def test_frozen_experts_stay_frozen_in_the_rows_below() -> None:
    figure = diagrams.frozen_when([[0, 2], [2, 3]], 4, ["a", "b"])
    axes = figure.axes[0]
    hatched = [bool(patch.get_hatch()) for patch in axes.patches]
    assert hatched == [False] * 4 + [True, False, True, False]
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines]  # type: ignore[index]
    assert dots == [(0, 0), (2, 0), (2, 1), (3, 1)]
