"""Things that people drew and named: the icon fonts that the package QtAwesome brings, read as masks.

Pre-training sees some families of icons and the tasks others, by other designers. Nothing is copied into the project:
the fonts are read from the installed package. No Qt is needed for that.
"""

import json
from collections import defaultdict
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lib.strict_yaml import read_yaml

SIDE = 64  # pixels of a mask


class Family(NamedTuple):
    """A font of one designer: its file in QtAwesome, and the ends of its names that tell a weight, not a thing."""

    font: str
    weights: tuple[str, ...] = ()


SEEN = [  # by pre-training
    Family("materialdesignicons6-webfont", ("-outline",)),
    Family("remixicon", ("-line", "-fill")),
    Family("elusiveicons-webfont"),
    Family("codicon"),
]
UNSEEN = [  # only the tasks are drawn with these
    Family("fontawesome6-solid-webfont"),
    Family("fontawesome6-regular-webfont"),
    Family("phosphor", ("-thin", "-light", "-bold", "-fill")),
]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
DIGITS = [f"digit {number}" for number in NUMBERS]
PRINT = ["DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral", "STIXGeneralBol", "cmr10"]


@cache
def things() -> dict[str, dict[str, list[str]]]:
    """By kind, the names of things, each with all names that the fonts give it."""
    file = Path(__file__).with_name("things.yaml")
    table = read_yaml(file, file.name)
    named = {kind: [entry.split("|") for entry in entries] for kind, entries in table.items()}
    return {kind: {name: [name.replace(" ", "-"), *more] for name, *more in rows} for kind, rows in named.items()}


def mask(face: ImageFont.FreeTypeFont, text: str) -> np.ndarray | None:
    """A glyph in the middle of a square, (SIDE, SIDE) uint8, as large as it fits; None if nothing is drawn."""
    left, top, right, bottom = (int(edge) for edge in face.getbbox(text))
    glyph = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(glyph).text((-left, -top), text, 255, face)
    zoom = 0.94 * SIDE / max(glyph.size)
    width, height = (max(1, round(side * zoom)) for side in glyph.size)
    square = Image.new("L", (SIDE, SIDE))
    small = glyph.resize((width, height), Image.Resampling.BOX)
    square.paste(small, ((SIDE - width) // 2, (SIDE - height) // 2))
    return np.asarray(square) if square.getbbox() else None


@cache
def drawings(seen: bool) -> dict[str, list[np.ndarray]]:
    """All drawings (SIDE, SIDE) of the families that pre-training has seen, or has not, by the fonts' names."""
    package = find_spec("qtawesome")
    assert package is not None, "the package QtAwesome is missing; `make` installs it"
    folder, drawn = Path(str(package.origin)).parent / "fonts", defaultdict(list)
    for family in SEEN if seen else UNSEEN:
        (file,), (charmap,) = (list(folder.glob(f"{family.font}-{end}")) for end in ("[0-9]*.ttf", "charmap-*.json"))
        face = ImageFont.truetype(str(file), 2 * SIDE)
        for name, code in json.loads(charmap.read_text()).items():
            thing = next((name.removesuffix(end) for end in family.weights if name.endswith(end)), name)
            if (glyph := mask(face, chr(int(code, 16)))) is not None:
                drawn[thing].append(glyph)
    return dict(drawn)


def of_kind(kind: str, seen: bool) -> dict[str, list[np.ndarray]]:
    """The drawings (SIDE, SIDE) of each thing of a kind."""
    drawn = drawings(seen)
    return {
        thing: [glyph for name in names for glyph in drawn.get(name, [])] for thing, names in things()[kind].items()
    }


def print_folder() -> Path:
    """Where matplotlib's fonts lie."""
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@cache
def digits() -> dict[str, list[np.ndarray]]:
    """The ten digits, each in matplotlib's fonts, (SIDE, SIDE)."""
    faces = [ImageFont.truetype(str(print_folder() / f"{name}.ttf"), 2 * SIDE) for name in PRINT]
    made = {name: [mask(face, str(number)) for face in faces] for number, name in enumerate(DIGITS)}
    return {name: [glyph for glyph in glyphs if glyph is not None] for name, glyphs in made.items()}
