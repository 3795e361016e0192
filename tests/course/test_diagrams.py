"""The pictures of the ideas: what they show is what they are given, and every name is inside the sheet."""

import pytest

from tools.course import diagrams

pytestmark = pytest.mark.usefixtures("no_window")


@pytest.mark.parametrize("draw", [diagrams.block, diagrams.prediction], ids=["block", "prediction"])
def test_every_word_is_inside_the_sheet(draw: object) -> None:
    figure = draw()  # type: ignore[operator]
    figure.canvas.draw()
    sheet = figure.bbox
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert sheet.x0 <= box.x0 <= box.x1 <= sheet.x1, text.get_text()
        assert sheet.y0 <= box.y0 <= box.y1 <= sheet.y1, text.get_text()


def test_frozen_experts_stay_frozen_in_the_rows_below() -> None:
    figure = diagrams.frozen_when([[0, 2], [2, 3]], 4, ["a", "b"])
    axes = figure.axes[0]
    hatched = [bool(patch.get_hatch()) for patch in axes.patches]
    assert hatched == [False] * 4 + [True, False, True, False]
    assert [list(line.get_xdata()) for line in axes.lines] == [[0, 2], [2, 3]]  # type: ignore[arg-type]
