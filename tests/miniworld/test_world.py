"""The pre-training world: the same by seed, streams that never meet, captions that say what they should."""

from functools import cache

import numpy as np
import open_clip
import pytest

from tools.miniworld import pretrain, world
from tools.miniworld.drawing import COLOURS, FINE


@cache
def captions(split: str) -> list[world.Example]:
    """Examples whose pictures are not drawn: captions and contents alone."""
    blank = np.zeros((FINE, FINE, 3))
    with pytest.MonkeyPatch.context() as patch:
        for name, kind in world.KINDS.items():
            patch.setitem(world.KINDS, name, kind._replace(draw=lambda name, rng, look: blank))
        return world.examples(0, range(500), split)


def test_an_example_is_the_same_by_seed_and_index() -> None:
    first, again = (world.examples(3, range(20)) for _ in range(2))
    for one, two in zip(first, again, strict=True):
        assert one.picture.tobytes() == two.picture.tobytes()
        assert one[1:] == two[1:]
    assert world.example(3, 7).picture.tobytes() == first[7].picture.tobytes()  # whoever came before it
    assert world.example(4, 7).picture.tobytes() != first[7].picture.tobytes()
    assert len({example.picture.tobytes() for example in first}) == 20


def test_train_and_held_out_never_share_a_stream() -> None:
    train = {world.example(0, i).picture.tobytes() for i in range(20)}
    held = {world.example(0, i, "held_out").picture.tobytes() for i in range(20)}
    assert not train & held


def test_captions_name_the_content_and_colours_only_where_they_say_so() -> None:
    for example in captions("train"):
        kind, name = example.content
        assert world.KINDS[kind].phrase.format(name) in example.caption
        words = set(example.caption.rstrip(".").split(" "))
        named = " in " in example.caption and " on " in example.caption
        if example.coloured:
            assert named
            assert words & {word for colour in COLOURS for word in colour.split(" ")}
        else:
            tail = example.caption.split(name, 1)[1]
            assert not any(f" {colour}" in tail for colour in COLOURS)


def test_most_captions_name_the_content_alone_and_every_kind_comes_up() -> None:
    coloured = np.mean([example.coloured for example in captions("train")])
    assert 0.1 < coloured < 0.25  # 0.6 in colour, of these 0.3 say so
    assert {example.content[0] for example in captions("train")} == set(world.KINDS)


def test_colours_named_are_told_apart_in_grey() -> None:
    light = {name: float(np.dot(rgb, (0.299, 0.587, 0.114))) for name, rgb in COLOURS.items()}
    rng = np.random.default_rng(0)
    for _ in range(50):
        look = world._look(rng)
        assert abs(light[look.ink] - light[look.ground]) > 60
        assert not (look.grey and look.coloured)


def test_the_vocabulary_covers_every_caption() -> None:
    tokens = open_clip.SimpleTokenizer(context_length=32)
    rows = pretrain.rows_in_use(32)
    assert rows == sorted(set(rows))
    assert rows[0] == 0
    assert rows[-1] == 49407  # the end token stays the largest
    for split in ("train", "held_out"):
        used = tokens([example.caption for example in captions(split)]).unique().tolist()
        assert set(used) <= set(rows)
