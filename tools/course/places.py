"""Where the sounds of notebook 11 come from: the first family, five tasks' places, and one that is never learned.

`FIRST` is what a transformer is pre-trained on. `TASKS` are five places that it has never heard, with five classes
each. Nobody learns `STRANGE`. Sounds of a class are (N, SAMPLES).
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.random import Generator

from tools.course.sounds import (
    CLOCK,
    SAMPLES,
    Place,
    noise,
    plucked,
    some,
    spoken,
    steady,
    strikes,
    swell,
    tone,
    wobble,
)

U = CLOCK / 0.5  # time from 0 to 1 (SAMPLES,)


# the first family: twelve plain sounds, each in any timbre
def _timbre(rng: Generator, count: int) -> np.ndarray:
    """Strengths of the partials (N, 6), from a pure tone to a buzz."""
    return rng.uniform(0.2, 1, (count, 6)) / np.arange(1, 7) ** some(rng, count, 0.5, 4)


def _first_tone(rng: Generator, count: int, bend: float = 0, rate: float = 0, pulses: float = 0) -> np.ndarray:
    """A tone that rises or falls by `bend` octaves, trembles, or comes in pulses."""
    middle = some(rng, count, 200, 1200)
    octaves = bend * rng.uniform(0.6, 1.4, (count, 1)) * (U - 0.5)
    pitch = steady(middle) * 2**octaves * (wobble(rng, count, 0.12, rate, 1.5 * rate) if rate else 1)
    gate = wobble(rng, count, 1, pulses, 2 * pulses) > 1 if pulses else 1
    return tone(rng, pitch, _timbre(rng, count)) * swell(rng, count) * gate


def _first_pair(rng: Generator, count: int) -> np.ndarray:
    """Two tones at once, half an octave to one and a half apart."""
    low, apart, timbre = some(rng, count, 200, 700), rng.uniform(0.4, 1.5, (count, 1)), _timbre(rng, count)
    return (tone(rng, steady(low), timbre) + tone(rng, steady(low * 2**apart), timbre)) * swell(rng, count)


def _first_pluck(rng: Generator, count: int) -> np.ndarray:
    onset = rng.uniform(0, 0.2, (count, 1))
    return plucked(rng, some(rng, count, 150, 900), onset, some(rng, count, 0.04, 0.15))


def _first_noise(rng: Generator, count: int, low: float, high: float) -> np.ndarray:
    edge = some(rng, count, low, high)
    return noise(rng, edge, 2 * edge) * swell(rng, count)


def _first_clicks(rng: Generator, count: int, number: int) -> np.ndarray:
    """Bursts of noise, `number` of them, evenly spaced."""
    onsets = rng.uniform(0, 0.1, (count, 1)) + np.arange(number) * rng.uniform(0.7, 1, (count, 1)) * 0.4 / number
    edge, loud = some(rng, count, 200, 1500), strikes(onsets, some(rng, count, 0.01, 0.03)).sum(axis=1)
    return noise(rng, edge, 3 * edge) * loud


def _first_buzz(rng: Generator, count: int) -> np.ndarray:
    formants = [some(rng, count, 300, 900), some(rng, count, 900, 2800)]
    return spoken(rng, steady(some(rng, count, 80, 250)), formants) * swell(rng, count)


def _any_noise(rng: Generator, count: int, low: float = 50, high: float = 2000) -> np.ndarray:
    edge = some(rng, count, low, high)
    return noise(rng, edge, edge * some(rng, count, 1.5, 8))


FIRST = Place(
    {
        "steady tone": _first_tone,
        "rising tone": partial(_first_tone, bend=1),
        "falling tone": partial(_first_tone, bend=-1),
        "trembling tone": partial(_first_tone, rate=5),
        "pulsed tone": partial(_first_tone, pulses=6),
        "two tones": _first_pair,
        "pluck": _first_pluck,
        "low noise": partial(_first_noise, low=80, high=400),
        "high noise": partial(_first_noise, low=800, high=1900),
        "two clicks": partial(_first_clicks, number=2),
        "many clicks": partial(_first_clicks, number=6),
        "buzz": _first_buzz,
    },
    _any_noise,
    (8, 30),
)


# the places of the tasks
def _chord(rng: Generator, count: int, halftones: tuple[float, ...]) -> np.ndarray:
    """Soft tones so many halftones above a low one, with one vibrato."""
    low, shake = some(rng, count, 260, 520), wobble(rng, count, 0.006, 4, 7)
    strengths = np.array([[1, 0.25, 0.08]]) * rng.uniform(0.6, 1.4, (count, 3))
    wave = np.zeros((count, SAMPLES))
    for number in halftones:
        wave += tone(rng, steady(low * 2 ** (number / 12)) * shake, strengths) * some(rng, count, 0.6, 1.6)
    return wave * swell(rng, count)


def _whistle(rng: Generator, count: int, way: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """An almost pure tone on a way from 0 to 1, over about an octave."""
    octaves = some(rng, count, 0.7, 1.3) * way(U ** some(rng, count, 0.6, 1.6))
    return tone(rng, some(rng, count, 600, 1200) * 2**octaves, np.array([[1, 0.1]])) * swell(rng, count)


def _wind(rng: Generator, count: int) -> np.ndarray:
    return noise(rng, some(rng, count, 80, 150), some(rng, count, 400, 800)) * wobble(rng, count, 0.6, 1, 4)


def _beat(rng: Generator, count: int, pattern: str) -> np.ndarray:
    """A drum that is struck at every x of a pattern of four: its skin sounds low, its rim like noise."""
    places = np.array([i for i, letter in enumerate(pattern) if letter == "x"])
    onsets = rng.uniform(0, 0.05, (count, 1)) + places * some(rng, count, 0.09, 0.12)
    onsets = onsets + rng.normal(0, 0.004, onsets.shape)
    force = rng.uniform(0.5, 1, (*onsets.shape, 1))
    skin = (strikes(onsets, some(rng, count, 0.02, 0.05)) * force).sum(axis=1)
    rim = (strikes(onsets, some(rng, count, 0.008, 0.02)) * force).sum(axis=1)
    edge = some(rng, count, 400, 1200)
    return skin * tone(rng, steady(some(rng, count, 90, 160)), np.ones((1, 1))) + rim * noise(rng, edge, 3 * edge)


def _hum(rng: Generator, count: int) -> np.ndarray:
    """The hum of the mains."""
    strengths = rng.uniform(0, 1, (count, 8)) * np.array([1, 1, 0.3, 0.6, 0.2, 0.4, 0.2, 0.3])
    return tone(rng, steady(np.full((count, 1), 50.0) * some(rng, count, 0.995, 1.005)), strengths)


def _vowel(rng: Generator, count: int, formants: tuple[float, float, float]) -> np.ndarray:
    """A vowel by its formants in Hz, spoken by throats of different sizes."""
    throat, pitch = some(rng, count, 0.85, 1.2), some(rng, count, 90, 220)
    melody = steady(pitch) * 2 ** (rng.uniform(-0.4, 0.2, (count, 1)) * U) * wobble(rng, count, 0.02, 4, 6)
    shaped = [throat * f * some(rng, count, 0.95, 1.05) for f in formants]
    return spoken(rng, melody, shaped, 70) * swell(rng, count)


def _babble(rng: Generator, count: int) -> np.ndarray:
    """Two other voices, far away."""
    wave = np.zeros((count, SAMPLES))
    for _ in range(2):
        formants = [some(rng, count, 300, 800), some(rng, count, 900, 2300)]
        voice = spoken(rng, steady(some(rng, count, 90, 250)), formants, 120)
        wave += voice * wobble(rng, count, 0.8, 2, 5)
    return wave


def _strings(rng: Generator, count: int, halftones: tuple[float, ...], apart: float) -> np.ndarray:
    """Strings so many halftones above a low one, plucked one after the other."""
    pitches = some(rng, count, 150, 300) * 2 ** (np.array(halftones) / 12)
    onsets = rng.uniform(0, 0.05, (count, 1)) + np.arange(len(halftones)) * apart * some(rng, count, 0.85, 1.2)
    return plucked(rng, pitches, onsets, some(rng, count, 0.1, 0.25))


def _hiss(rng: Generator, count: int) -> np.ndarray:
    return noise(rng, some(rng, count, 1500, 2500), np.full((count, 1), 3900.0))


def _bell(rng: Generator, count: int, blows: int) -> np.ndarray:
    """A bell, whose partials are no multiples of its pitch, struck so many times."""
    pitch, last = some(rng, count, 300, 800), some(rng, count, 0.15, 0.4)
    onsets = rng.uniform(0, 0.05, (count, 1)) + np.arange(blows) * some(rng, count, 0.1, 0.15)
    wave = np.zeros((count, SAMPLES))
    for ratio, strength in ((0.5, 0.6), (1, 1), (1.19, 0.8), (1.56, 0.5), (2, 0.7), (2.66, 0.4), (3.76, 0.3)):
        ring = strikes(onsets, last / ratio**0.7).sum(axis=1)
        wave += strength * ring * np.sin(2 * np.pi * (ratio * pitch * CLOCK + rng.uniform(0, 1, (count, 1))))
    return wave


def _breath(rng: Generator, count: int) -> np.ndarray:
    return noise(rng, some(rng, count, 800, 1500), some(rng, count, 2500, 3500))


CHORDS = {"octave": (0, 12), "fifth": (0, 7), "major": (0, 4, 7), "minor": (0, 3, 7), "cluster": (0, 1, 2)}
WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "up": lambda u: u,
    "down": lambda u: 1 - u,
    "arch": lambda u: 1 - np.abs(2 * u - 1),
    "dip": lambda u: np.abs(2 * u - 1),
    "zigzag": lambda u: np.abs((3 * u + 0.5) % 2 - 1),
}
VOWELS = {
    "a": (750, 1200, 2500), "e": (450, 1900, 2550), "i": (290, 2250, 2950), "o": (480, 850, 2500), "u": (310, 700, 2300)
}  # fmt: skip
PLUCKS = {
    "one": ((0,), 0.1), "again": ((0, 0, 0), 0.13), "up": ((0, 5, 9), 0.13), "down": ((9, 5, 0), 0.13),
    "strum": ((0, 5, 9), 0.012),
}  # fmt: skip
BELLS = {"one": 1, "two": 2, "three": 3}

TASKS = {
    "flutes": Place({k: partial(_chord, halftones=v) for k, v in CHORDS.items()}, _breath, (14, 26)),
    "whistle": Place({k: partial(_whistle, way=v) for k, v in WAYS.items()}, _wind, (4, 14)),
    "drum": Place({k: partial(_beat, pattern=k) for k in ("x...", "x.x.", "x.xx", "xx.x", "xxxx")}, _hum, (2, 10)),
    "voice": Place({k: partial(_vowel, formants=v) for k, v in VOWELS.items()}, _babble, (0, 8)),
    "strings": Place({k: partial(_strings, halftones=h, apart=a) for k, (h, a) in PLUCKS.items()}, _hiss, (3, 12)),
}
STRANGE = Place({k: partial(_bell, blows=v) for k, v in BELLS.items()}, _hum, (25, 35))
