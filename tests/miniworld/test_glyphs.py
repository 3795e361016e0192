"""The drawings: every thing is drawn by hands that pre-training has seen and by hands that it has not."""

import numpy as np
import pytest
from PIL import ImageFont

from tools.miniworld import glyphs
from tools.miniworld.glyphs import SIDE


def test_every_thing_has_drawings_in_both_families_and_no_name_stands_twice() -> None:
    names = [name for kind in glyphs.things().values() for name in kind]
    assert len(names) == len(set(names)) == 180
    for kind in glyphs.things():
        for seen in (True, False):
            for thing, drawn in glyphs.of_kind(kind, seen).items():
                assert drawn, f"{thing} of {kind}, {seen=}"
                assert {glyph.shape for glyph in drawn} == {(SIDE, SIDE)}


def test_no_drawing_of_the_tasks_is_seen_in_pre_training() -> None:
    seen = {glyph.tobytes() for drawn in glyphs.drawings(seen=True).values() for glyph in drawn}
    ours = [glyph for kind in glyphs.things() for drawn in glyphs.of_kind(kind, seen=False).values() for glyph in drawn]
    assert not [glyph for glyph in ours if glyph.tobytes() in seen]


def test_weights_of_a_font_are_drawings_of_one_thing() -> None:
    assert len(glyphs.drawings(seen=False)["cat"]) == 1 + 5  # one of Font Awesome, five weights of Phosphor
    assert "cat-thin" not in glyphs.drawings(seen=False)


def test_a_mask_is_in_the_middle_and_as_large_as_it_fits() -> None:
    face = ImageFont.truetype(str(glyphs.print_folder() / "DejaVuSans.ttf"), 50)
    drawn = glyphs.mask(face, "H")
    assert drawn is not None
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    for inked in (rows, columns):
        assert inked[0] + inked[-1] == pytest.approx(SIDE - 1, abs=2)
    assert max(len(rows), len(columns)) == pytest.approx(0.94 * SIDE, abs=4)
    assert glyphs.mask(face, " ") is None


def test_digits_are_ten_and_differ() -> None:
    assert list(glyphs.digits()) == glyphs.DIGITS
    assert len({drawn[0].tobytes() for drawn in glyphs.digits().values()}) == 10
