"""Short sounds that are computed, for the notebook that takes the method away from pictures (11_elsewhere).

A sound is half a second at 8 kHz: a dry sound of its class, and behind it the background of its place. The places
themselves are in tools/course/places.py. N sounds are computed side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

RATE, SAMPLES = 8000, 4000
CLOCK = np.arange(SAMPLES) / RATE  # the time of each sample in seconds (SAMPLES,)
WINDOW, HOP, BINS, FRAMES = 400, 240, 40, 16  # of the log spectrogram; a window is 50 ms, a frame follows after 30 ms

Maker = Callable[[Generator, int], np.ndarray]  # draws so many sounds (N, SAMPLES)


@dataclass(frozen=True)
class Place:
    """Classes of sounds by name, and the background behind all of them, at so many decibels below the sound."""

    kinds: dict[str, Maker]
    background: Maker
    below: tuple[float, float]


class Sounds(NamedTuple):
    """Waves (N, SAMPLES) between -1 and 1, and the number of each one's class (N,)."""

    waves: np.ndarray
    labels: np.ndarray


def draw(place: Place, per_class: int, seed: list[int]) -> Sounds:
    """So many sounds of each class of a place. The same seed gives the same bytes."""
    rng = np.random.default_rng(seed)
    dry = np.concatenate([_level(make(rng, per_class)) for make in place.kinds.values()])
    behind = _level(place.background(rng, len(dry))) * 10 ** (-rng.uniform(*place.below, (len(dry), 1)) / 20)
    waves = dry + behind
    waves /= np.abs(waves).max(axis=1, keepdims=True)
    return Sounds(waves.astype(np.float32), np.repeat(np.arange(len(place.kinds)), per_class))


def log_spectrogram(waves: np.ndarray) -> np.ndarray:
    """The energy (N, FRAMES, BINS) of sounds (N, SAMPLES) in time and pitch: logarithms, floored 50 dB below the peak.

    Between about -1 and 1. The loudness of a sound is divided out.
    """
    windows = np.lib.stride_tricks.sliding_window_view(waves, WINDOW, axis=1)[:, ::HOP]  # (N, FRAMES, WINDOW)
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), axis=2)) ** 2
    bands = power @ _triangles()  # (N, FRAMES, BINS)
    bands /= bands.max(axis=(1, 2), keepdims=True)
    return (np.log10(bands + 1e-5) / 2.5 + 1).astype(np.float32)


def _triangles() -> np.ndarray:
    """Overlapping bands (WINDOW // 2 + 1, BINS), narrow for low pitches and wide for high ones."""
    hertz = np.fft.rfftfreq(WINDOW, 1 / RATE)
    lowest, highest = np.log(1 + 60 / 700), np.log(1 + 3900 / 700)  # the mel scale: 700 Hz bend it
    corners = 700 * (np.exp(np.linspace(lowest, highest, BINS + 2)) - 1)
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    rising = (hertz[:, None] - low) / (middle - low)
    falling = (high - hertz[:, None]) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling))


def _level(waves: np.ndarray) -> np.ndarray:
    """Sounds (N, SAMPLES) of equal loudness."""
    return waves / np.sqrt((waves**2).mean(axis=1, keepdims=True))


# Parts of sounds. `some` draws a number for each sound, as a column (N, 1).
def some(rng: Generator, count: int, low: float, high: float) -> np.ndarray:
    """A number between low and high for each sound (N, 1), evenly on a logarithmic scale."""
    return np.exp(rng.uniform(np.log(low), np.log(high), (count, 1)))


def tone(rng: Generator, pitch: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """A tone with overtones (N, SAMPLES). pitch: (N, SAMPLES) in Hz; strengths of the partials (N or 1, H)."""
    phase, wave = 2 * np.pi * np.cumsum(pitch, axis=1) / RATE, np.zeros_like(pitch)
    for number, strength in enumerate(strengths.T, 1):
        audible = number * pitch < 0.45 * RATE
        wave += strength[:, None] * audible * np.sin(number * phase + rng.uniform(0, 2 * np.pi, (len(pitch), 1)))
    return wave


def steady(pitch: np.ndarray) -> np.ndarray:
    """A pitch (N, 1) that stays (N, SAMPLES)."""
    return np.repeat(pitch, SAMPLES, axis=1)


def noise(rng: Generator, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Noise (N, SAMPLES) between two pitches (N, 1) in Hz."""
    hertz = np.fft.rfftfreq(SAMPLES, 1 / RATE)
    spectrum = np.fft.rfft(rng.standard_normal((len(low), SAMPLES)), axis=1)
    return np.fft.irfft(spectrum / (1 + (low / (hertz + 1)) ** 6) / (1 + (hertz / high) ** 6), SAMPLES, axis=1)


def strikes(onsets: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Loudness (N, J, SAMPLES) that starts at J onsets (N, J) and falls to a third in `last` (N, 1), all in seconds."""
    since = CLOCK - onsets[:, :, None]
    return np.where(since >= 0, np.exp(-np.maximum(since, 0) / last[:, :, None]), 0)


def plucked(rng: Generator, pitches: np.ndarray, onsets: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Strings (N, SAMPLES) of J pitches (N, J) plucked at J onsets (N, J); high partials die first."""
    wave = np.zeros((len(pitches), SAMPLES))
    for number in range(1, 6):
        ring = strikes(onsets, last / number) / number
        turns = number * pitches[:, :, None] * CLOCK + rng.uniform(0, 1, (*pitches.shape, 1))
        wave += (ring * np.sin(2 * np.pi * turns) * (number * pitches < 0.45 * RATE)[:, :, None]).sum(axis=1)
    return wave


def spoken(rng: Generator, pitch: np.ndarray, formants: list[np.ndarray], width: float = 90) -> np.ndarray:
    """Pulses (N, SAMPLES) of a voice of pitch (N, SAMPLES) through resonances at formants (N, 1), all in Hz."""
    turns = np.cumsum(pitch, axis=1) / RATE
    pulses = np.diff(np.floor(turns), axis=1, prepend=0) + 0.02 * rng.standard_normal(turns.shape)
    hertz = np.fft.rfftfreq(SAMPLES, 1 / RATE)
    response = sum(0.5**i / (1 + ((hertz - f) / width) ** 2) for i, f in enumerate(formants))
    return np.fft.irfft(np.fft.rfft(pulses, axis=1) * response, SAMPLES, axis=1)


def wobble(rng: Generator, count: int, depth: float, low: float, high: float) -> np.ndarray:
    """A factor (N, SAMPLES) around 1 that swings `low` to `high` times a second."""
    return 1 + depth * np.sin(2 * np.pi * (some(rng, count, low, high) * CLOCK + rng.uniform(0, 1, (count, 1))))


def swell(rng: Generator, count: int) -> np.ndarray:
    """Loudness (N, SAMPLES) that rises and falls softly."""
    rise, fall = some(rng, count, 0.01, 0.08), some(rng, count, 0.03, 0.15)
    return np.minimum(1, CLOCK / rise) * np.minimum(1, (0.5 - CLOCK) / fall)
