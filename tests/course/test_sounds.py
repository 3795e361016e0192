"""The sounds of notebook 11: drawn from a seed, and each class sounds as its name says."""

import numpy as np
import pytest

from tools.course.places import FIRST, STRANGE, TASKS
from tools.course.sounds import BINS, CLOCK, FRAMES, RATE, SAMPLES, Place, draw, log_spectrogram

PLACES = {"first": FIRST, **TASKS, "strange": STRANGE}


def frames(place: str, kind: str, count: int = 6) -> np.ndarray:
    """Spectrograms (count, FRAMES, BINS) of a class."""
    sounds = draw(PLACES[place], count, [0])
    return log_spectrogram(sounds.waves[sounds.labels == [*PLACES[place].kinds].index(kind)])


def hertz(place: str, kind: str) -> np.ndarray:
    """Mean spectrum of a class in Hz (SAMPLES // 2 + 1,): a number every 2 Hz."""
    sounds = draw(PLACES[place], 12, [0])
    waves = sounds.waves[sounds.labels == [*PLACES[place].kinds].index(kind)]
    return np.abs(np.fft.rfft(waves, axis=1)).mean(axis=0)


def sharpest(place: str, kind: str) -> np.ndarray:
    """The band with the most energy in each frame, in the mean over sounds (FRAMES,)."""
    return frames(place, kind).argmax(axis=2).mean(axis=0)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_place_has_so_many_sounds_of_each_class_between_minus_one_and_one(place: Place) -> None:
    waves, labels = draw(place, 3, [0])
    assert waves.shape == (3 * len(place.kinds), SAMPLES)
    assert waves.dtype == np.float32
    assert np.bincount(labels).tolist() == [3] * len(place.kinds)
    assert np.isfinite(waves).all()
    np.testing.assert_allclose(np.abs(waves).max(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(place: Place) -> None:
    first, again, other = (draw(place, 2, seed).waves for seed in ([1, 2], [1, 2], [1, 3]))
    assert first.tobytes() == again.tobytes()
    assert not (first == other).all(axis=1).any()
    assert len(np.unique(first, axis=0)) == len(first)  # no sound twice


def test_a_spectrogram_shows_when_and_how_high_and_not_how_loud() -> None:
    tones = np.stack([np.sin(2 * np.pi * pitch * CLOCK) for pitch in (200, 500, 1200, 3000)])
    late = tones[2] * (CLOCK > 0.25)
    shown = log_spectrogram(np.stack([*tones, late, 0.1 * tones[1]]))
    assert shown.shape == (6, FRAMES, BINS)
    bands = shown.argmax(axis=2)
    assert (np.diff(bands[:4], axis=0) > 0).all()  # a higher tone lies in a higher band, in every frame
    assert shown[4, :6].max() < shown[4, 9:].max() - 0.5
    np.testing.assert_allclose(shown[5], shown[1], atol=1e-5)
    assert -1.001 <= shown.min() < shown.max() <= 1.001


def test_whistles_go_the_way_of_their_names() -> None:
    up, down, arch, dip = (sharpest("whistle", kind) for kind in ("up", "down", "arch", "dip"))
    assert up[-2] > up[1] + 3
    assert down[-2] < down[1] - 3
    assert arch.argmax() in range(4, 12)
    assert dip.argmin() in range(4, 12)


def test_a_drum_is_struck_as_often_as_its_pattern_says() -> None:
    for kind in TASKS["drum"].kinds:
        rim = frames("drum", kind)[:, :, 20:].mean(axis=2)  # far above the hum (6, FRAMES)
        loud = rim > rim.min(axis=1, keepdims=True) + 0.4
        rises = (loud[:, 1:] & ~loud[:, :-1]).sum(axis=1) + loud[:, 0]
        assert np.median(rises) == kind.count("x"), kind


def test_an_octave_and_a_fifth_have_partials_at_their_distance() -> None:
    for kind, ratio in (("octave", 2), ("fifth", 1.5)):
        sounds = draw(TASKS["flutes"], 12, [0])
        waves = sounds.waves[sounds.labels == [*TASKS["flutes"].kinds].index(kind)]
        spectra = np.abs(np.fft.rfft(waves, 8 * SAMPLES, axis=1))
        pitches = np.fft.rfftfreq(8 * SAMPLES, 1 / RATE)
        low = [
            pitches[(pitches < 530) & (pitches > 250)][s[(pitches < 530) & (pitches > 250)].argmax()] for s in spectra
        ]
        above = [s[np.abs(pitches / f - ratio) < 0.02].max() / s.max() for s, f in zip(spectra, low, strict=True)]
        assert np.median(above) > 0.2, kind


def test_an_i_is_brighter_than_a_u_and_the_hum_lower_than_the_hiss() -> None:
    bright = {kind: hertz("voice", kind)[800:1400].sum() / hertz("voice", kind)[300:600].sum() for kind in "iu"}
    assert bright["i"] > 2 * bright["u"]
    low, high = slice(0, 10), slice(30, BINS)
    hum, hiss = frames("drum", "x...")[:, 10:].mean(axis=(0, 1)), frames("strings", "one")[:, 10:].mean(axis=(0, 1))
    assert hum[low].mean() > hum[high].mean() + 0.3
    assert hiss[high].mean() > hum[high].mean() + 0.3


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_classes_of_a_place_can_be_told_apart_by_their_mean_spectrograms(place: Place) -> None:
    shown = [log_spectrogram(draw(place, 30, [seed]).waves).reshape(-1, FRAMES * BINS) for seed in (0, 1)]
    labels = draw(place, 30, [0]).labels
    means = np.stack([shown[0][labels == kind].mean(axis=0) for kind in range(len(place.kinds))])
    nearest = ((shown[1][:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == labels).mean() > 1.5 / len(place.kinds)
