"""The pre-training world: a picture depends on its seed and index alone, and captions say what they should."""

from functools import cache

import numpy as np
import open_clip
import pytest

from tools.miniworld import pretrain, world
from tools.miniworld.drawing import COLOURS, FINE


@cache
def captions(split: str) -> list[world.Example]:
    """Examples whose pictures are not drawn."""
    blank = np.zeros((FINE, FINE, 3))
    with pytest.MonkeyPatch.context() as patch:
        for name, kind in world.KINDS.items():
            patch.setitem(world.KINDS, name, kind._replace(draw=lambda name, rng, look: blank))
        return world.examples(0, range(500), split)


def test_a_picture_depends_on_seed_split_and_index_alone() -> None:
    first, again, held_out = (world.examples(3, range(20), split) for split in ("train", "train", "held_out"))
    pictures = [example.picture.tobytes() for example in (*first, *held_out, world.example(4, 7))]
    assert len(set(pictures)) == 41
    assert pictures[:20] == [example.picture.tobytes() for example in again]
    assert [example[1:] for example in first] == [example[1:] for example in again]
    assert pictures[7] == world.example(3, 7).picture.tobytes()  # whatever was drawn before it


def test_captions_name_the_content_and_colours_only_where_they_say_so() -> None:
    for example in captions("train"):
        kind, name = example.content
        assert world.KINDS[kind].phrase.format(name) in example.caption
        rest = example.caption.split(name, 1)[1]
        assert any(f" {colour}" in rest for colour in COLOURS) == example.coloured
    coloured = np.mean([example.coloured for example in captions("train")])
    assert 0.1 < coloured < 0.25  # 0.6 of the pictures are in colour, and 0.3 of their captions say so
    assert {example.content[0] for example in captions("train")} == set(world.KINDS)


def test_the_vocabulary_covers_every_caption() -> None:
    rows = pretrain.rows_in_use(32)
    assert rows == sorted(set(rows))
    assert (rows[0], rows[-1]) == (0, 49407)  # the end token stays the largest
    for split in ("train", "held_out"):
        texts = [example.caption for example in captions(split)]
        assert set(open_clip.SimpleTokenizer(context_length=32)(texts).unique().tolist()) <= set(rows)
