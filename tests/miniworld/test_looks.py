"""Looks: a picture follows from its generator, shows the drawing, and its words say what was drawn."""

import numpy as np
import pytest
from PIL import Image

from tools.miniworld import drawing, looks
from tools.miniworld.drawing import FINE, SIZE


def square(side: int = 12) -> Image.Image:
    """A white square in the middle of a mask."""
    mask = np.zeros((FINE, FINE), dtype=np.uint8)
    mask[FINE // 2 - side : FINE // 2 + side, FINE // 2 - side : FINE // 2 + side] = 255
    return Image.fromarray(mask)


@pytest.mark.parametrize("name", looks.LOOKS)
def test_a_look_depends_on_its_generator_alone_and_shows_the_drawing(name: str) -> None:
    look, empty = looks.LOOKS[name], Image.new("L", (FINE, FINE))
    first, again, other = (look(square(), np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.shape == (SIZE, SIZE, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    changed = np.abs(first.astype(int) - look(empty, np.random.default_rng(0)).astype(int)).max(axis=2) > 10
    assert changed[8:24, 8:24].any()
    assert not changed[0].any()  # far from the square nothing changes


def test_the_easiest_look_is_two_colours_that_its_words_name() -> None:
    for seed in range(20):
        picture, words = looks.flat(square(), np.random.default_rng(seed))
        _, ink, ground = (words.split()[i] for i in (0, 2, 5))
        for colour, pixel in ((ink, picture[SIZE // 2, SIZE // 2]), (ground, picture[0, 0])):
            assert np.abs(pixel - np.array(looks.COLOURS[colour])).max() <= 31  # 18 for a channel, 12 for all


def test_words_of_a_varied_look_say_what_is_drawn() -> None:
    outlined, solid = [], []
    for seed in range(300):
        picture, words = looks.varied(square(), np.random.default_rng(seed))
        if words.startswith(("outlined", "solid")) and " plain " in words:
            inside = np.abs(picture[SIZE // 2, SIZE // 2].astype(int) - picture[1, 1].astype(int)).max()
            (outlined if words.startswith("outlined") else solid).append(inside)
    assert len(outlined) > 10
    assert max(outlined) < 50 < min(solid)  # an outline leaves the ground inside


def test_a_drawing_is_placed_by_the_generator_within_the_frame() -> None:
    full = np.full((64, 64), 255, dtype=np.uint8)
    masks = [np.asarray(drawing.placed(full, np.random.default_rng(seed), 0, (0.5, 0.5))) for seed in range(40)]
    shares = np.array([mask.mean() / 255 for mask in masks])
    assert 0.15 < shares.min() < shares.max() < 0.35  # a quarter of the frame, stretched by up to a tenth each way
    assert len({mask.tobytes() for mask in masks}) == 40


def test_outline_ink_and_averaging_by_hand() -> None:
    edge = np.asarray(drawing.outline(square()))
    assert edge[FINE // 2, FINE // 2] == 0
    assert edge[FINE // 2, FINE // 2 - 12] == 255
    ground = drawing.sheet((10, 20, 30))
    laid = drawing.ink(ground, np.full((FINE, FINE, 1), 0.25), (50, 60, 70))
    assert laid[0, 0].tolist() == [20, 30, 40]
    assert drawing.finished(laid, np.random.default_rng(0), 0)[0, 0].tolist() == [20, 30, 40]
