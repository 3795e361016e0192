"""Icons, charts and clock faces as strokes."""

import numpy as np

from tools.miniworld.drawing import Mark, Stroke, disc

HOURS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
CHARTS = ["bar chart", "line chart", "pie chart", "scatter plot", "area chart", "box plot", "heat map", "radar chart"]


def _line(width: float, *points: tuple[float, float]) -> Stroke:
    return Stroke("line", np.array(points, dtype=float), width)


def _blob(radius: float, x: float, y: float, kind: Mark = "fill") -> Stroke:
    return Stroke(kind, disc(radius, (x, y)))


def _box(left: float, top: float, right: float, bottom: float, kind: Mark = "fill") -> Stroke:
    return Stroke(kind, np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=float))


def _icon(text: str) -> list[Stroke]:
    """Strokes from text: `fill x y ...`, `line width x y ...`, `disc radius x y`, `box left top right bottom`.

    A minus sign before the word cuts a hole.
    """
    strokes = []
    for mark in text.split(";"):
        word, *rest = mark.split()
        numbers = [float(number) for number in rest]
        kind: Mark = "hole" if word.startswith("-") else "fill"
        match word.removeprefix("-"):
            case "disc":
                strokes.append(_blob(*numbers, kind=kind))
            case "box":
                strokes.append(_box(*numbers, kind=kind))
            case "line":
                strokes.append(Stroke("line", np.reshape(numbers[1:], (-1, 2)), numbers[0]))
            case _:
                strokes.append(Stroke(kind, np.reshape(numbers, (-1, 2))))
    return strokes


_PETALS = [_blob(0.34, 0.5 * np.cos(a), 0.5 * np.sin(a)) for a in np.arange(8) * np.pi / 4]
_BODY = Stroke("fill", disc(0.6, (0, 0)) * [1.1, 0.65] - [0.2, 0])  # of the fish
_WHEELS = "disc 0.4 -0.52 0.42; -disc 0.22 -0.52 0.42; disc 0.4 0.52 0.42; -disc 0.22 0.52 0.42"
ICONS: dict[str, list[Stroke]] = {
    "flower": [*_PETALS, *_icon("-disc 0.24 0 0; disc 0.14 0 0")],
    "cat": _icon(
        "fill -0.7 -0.9 -0.65 0 -0.1 -0.45; fill 0.7 -0.9 0.65 0 0.1 -0.45; disc 0.7 0 0.15;"
        "-disc 0.13 -0.28 0.02; -disc 0.13 0.28 0.02; -fill -0.1 0.32 0.1 0.32 0 0.45"
    ),
    "motorcycle": _icon(
        f"{_WHEELS}; line 0.14 -0.52 0.42 -0.1 -0.05 0.35 0 0.52 0.42; line 0.12 0.4 0.1 0.3 -0.5 0.08 -0.55;"
        "fill -0.6 -0.2 0 -0.3 0.3 -0.1 0 0.15 -0.3 0.05"
    ),
    "cup of coffee": _icon("disc 0.36 0.5 0; -disc 0.2 0.5 0; box -0.7 -0.5 0.5 0.55; box -0.9 0.65 0.75 0.8"),
    "rocket": _icon(
        "fill 0 -0.95 0.28 -0.4 0.28 0.5 -0.28 0.5 -0.28 -0.4; fill -0.28 0.1 -0.65 0.7 -0.28 0.5;"
        "fill 0.28 0.1 0.65 0.7 0.28 0.5; fill -0.18 0.58 0.18 0.58 0 0.95; -disc 0.13 0 -0.25"
    ),
    "tower": _icon(
        "fill -0.5 -0.35 0 -0.95 0.5 -0.35; box -0.28 -0.35 0.28 0; fill -0.7 0.25 -0.3 -0.05 0.3 -0.05 0.7 0.25;"
        "box -0.4 0.25 0.4 0.55; fill -0.9 0.75 -0.4 0.5 0.4 0.5 0.9 0.75; box -0.5 0.7 0.5 0.95"
    ),
    "face": _icon(
        "disc 0.75 0 0; -disc 0.12 -0.28 -0.18; -disc 0.12 0.28 -0.18; -fill -0.35 0.3 0.35 0.3 0.2 0.48 -0.2 0.48"
    ),
    "tree": _icon("box -0.12 0.2 0.12 0.95; disc 0.45 0 -0.4; disc 0.35 -0.35 -0.05; disc 0.35 0.35 -0.05"),
    "house": _icon("fill -0.9 -0.1 0 -0.85 0.9 -0.1; box -0.65 -0.1 0.65 0.8; -box -0.15 0.3 0.15 0.8"),
    "fish": [*_icon("fill 0.9 -0.45 0.9 0.45 0.3 0"), _BODY, *_icon("-disc 0.08 -0.55 -0.1")],
}


def clock(hour: int, width: float, face: float = 0.9) -> list[Stroke]:
    """A clock at `hour` o'clock (1 to 12): the rim, a long hand up, a short hand at the hour. width: of the lines."""
    turn = np.pi * (hour / 6 - 0.5)
    short = (0.5 * face * np.cos(turn), 0.5 * face * np.sin(turn))
    rim = np.vstack([disc(face), disc(face)[:1]])
    return [Stroke("line", rim, width), _line(width, (0, 0), (0, -0.8 * face)), _line(1.6 * width, (0, 0), short)]


def chart(name: str, rng: np.random.Generator, width: float) -> list[Stroke]:
    """A chart (one of CHARTS) with random data. width: of its lines, in unit coordinates."""
    if name == "pie chart":
        cuts = np.cumsum(rng.dirichlet([4, 4, 4, 4])) * 2 * np.pi
        sides = [((np.cos(a - 0.09), np.sin(a - 0.09)), (np.cos(a + 0.09), np.sin(a + 0.09))) for a in cuts]
        return [_blob(0.85, 0, 0), *(Stroke("hole", np.array([(0, 0), *pair])) for pair in sides)]
    if name == "radar chart":
        turn = np.arange(6) * np.pi / 3
        web = [_line(width, (0, 0), (0.9 * np.cos(a), 0.9 * np.sin(a))) for a in turn]
        reach = rng.uniform(0.3, 0.9, 6)
        return [*web, Stroke("fill", np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=1))]
    if name == "heat map":
        cells = [(x, y) for x in range(5) for y in range(5) if rng.random() < 0.5]
        return [_box(-0.9 + 0.36 * x, -0.9 + 0.36 * y, -0.57 + 0.36 * x, -0.57 + 0.36 * y) for x, y in cells]
    return [_line(width, (-0.9, -0.9), (-0.9, 0.9), (0.9, 0.9)), *_plotted(name, rng, width)]


def _plotted(name: str, rng: np.random.Generator, width: float) -> list[Stroke]:
    x = np.linspace(-0.7, 0.85, 6)
    if name == "bar chart":
        return [_box(a - 0.11, rng.uniform(-0.8, 0.5), a + 0.11, 0.9) for a in np.linspace(-0.65, 0.7, 5)]
    if name == "scatter plot":
        return [_blob(0.07, a, b) for a, b in rng.uniform([-0.75, -0.8], [0.85, 0.75], (14, 2))]
    if name == "box plot":
        return [s for a in (-0.5, 0.1, 0.65) for s in _whisker(a, rng, width)]
    y = np.clip(np.cumsum(rng.normal(0, 0.45, 6)) + rng.uniform(-0.3, 0.3), -0.8, 0.7)
    curve = np.stack([x, y], axis=1)
    if name == "area chart":
        return [Stroke("fill", np.vstack([curve, [(0.85, 0.9), (-0.7, 0.9)]]))]
    return [Stroke("line", curve, 1.5 * width)]


def _whisker(at: float, rng: np.random.Generator, width: float) -> list[Stroke]:
    top, bottom = rng.uniform(-0.5, -0.05), rng.uniform(0.15, 0.5)
    middle = (top + bottom) / 2
    box = [_box(at - 0.17, top, at + 0.17, bottom), _box(at - 0.17, middle - 0.04, at + 0.17, middle + 0.04, "hole")]
    return [_line(width, (at, top - 0.3), (at, bottom + 0.3)), *box]
