"""The pre-training world: drawings of named things in random looks, digits in print, and grey materials.

Each picture has two captions: one says what it shows, the other how it looks. A model that reads the first alone soon
forgets colours, and with them everything that tells one task's pictures from another's.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from tools.miniworld import glyphs, looks
from tools.miniworld.drawing import placed
from tools.miniworld.materials import MATERIALS, material

SPLITS = ("train", "held_out")
SHARES = {"things": 0.65, "others": 0.2, "digits": 0.05, "materials": 0.1}  # of the world's pictures
PHRASE = "the {}"  # names a thing in a caption, in pre-training and in all tasks
FRAMES = ["a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}", "{}", "this is {}"]


class Example(NamedTuple):
    """A picture (SIZE, SIZE, 3) uint8, the name of what it shows, and words for its look."""

    picture: np.ndarray
    name: str
    look: str


@cache
def drawn() -> dict[str, dict[str, list[np.ndarray]]]:
    """What is drawn: by group and name, its drawings. The others are single words with two drawings or more."""
    things = {name: found for kind in glyphs.things() for name, found in glyphs.of_kind(kind, seen=True).items()}
    taken = {name for kind in glyphs.things().values() for names in kind.values() for name in names}
    others = {n: found for n, found in sorted(glyphs.drawings(seen=True).items()) if len(found) > 1 and n.isalpha()}
    return {
        "things": things,
        "others": {name: found for name, found in others.items() if name not in taken and len(name) > 2},
        "digits": glyphs.digits(),
    }


@cache
def names() -> list[str]:
    """The names of all that the world shows, each once."""
    return sorted({name for group in drawn().values() for name in group} | set(MATERIALS))


def example(seed: int, index: int, split: str = "train", easy: bool = False) -> Example:
    """Picture `index` of the world of `seed`; the splits train and held_out never share a random stream.

    easy: a flat drawing, one colour on another. Training begins with those; without them it stays at chance for long.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    group = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    if group == "materials":
        name = str(rng.choice(list(MATERIALS)))
        return Example(material(name, rng), name, "a grey surface")
    name = str(rng.choice(list(drawn()[group])))
    drawings = drawn()[group][name]
    mask = placed(drawings[int(rng.integers(len(drawings)))], rng, scale=(0.7, 1.1))
    picture, look = (looks.flat if easy else looks.varied)(mask, rng)
    return Example(picture, name, f"a drawing, {look}")


def vocabulary() -> list[str]:
    """Captions that together contain every word of the world."""
    lines = [
        line for effect in ("", "faded ", "shadowed ", "blurred ") for line in (f"{effect}solid", f"{effect}outlined")
    ]
    words = [
        f"a drawing, {line} in {colour} on {ground} {colour}"
        for line in lines
        for colour in looks.COLOURS
        for ground in looks.GROUNDS
    ]
    return [frame.format(PHRASE.format(name)) + "." for frame in FRAMES for name in names()] + [
        *words,
        "a grey surface",
    ]
