"""Resampling in whole numbers: what a tone becomes, and that pieces change nothing."""

import tracemalloc

import numpy as np
import pytest

from codebound.errors import InputError
from codebound.sound.resampling import UNIT, Resampler, Taps, resample, resampled_length


@pytest.mark.parametrize(
    ("rate", "target"), [(44_100, 16_000), (16_000, 44_100), (8_000, 16_000), (11_025, 16_000)]
)
def test_a_tone_stays_that_tone(rate: int, target: int) -> None:
    def tone(at: int) -> np.ndarray:
        return np.rint(20_000 * np.sin(2 * np.pi * 1000.0 * np.arange(at) / at + 0.3))

    again = resample(tone(rate), rate, target)
    assert len(again) == resampled_length(rate, rate, target) == target
    middle = slice(target // 4, 3 * target // 4)
    error = (again - tone(target))[middle]
    assert 10 * np.log10(np.square(tone(target)[middle]).mean() / np.square(error).mean()) > 60


def test_what_the_lower_rate_cannot_hold_is_gone() -> None:
    tone = np.rint(20_000 * np.sin(2 * np.pi * 9_500.0 * np.arange(44_100) / 44_100))
    assert np.abs(resample(tone, 44_100, 16_000)[1000:-1000]).max() < 10


@pytest.mark.parametrize("pieces", [1, 7, 320, 4001])
def test_pieces_change_nothing(pieces: int) -> None:
    samples = np.rint(np.random.default_rng(0).normal(0, 3000, 6_000))
    stream = Resampler(44_100, 16_000)
    parts = [stream.push(samples[at : at + pieces]) for at in range(0, len(samples), pieces)]
    assert np.array_equal(np.concatenate([*parts, stream.flush()]), resample(samples, 44_100, 16_000))


def test_a_stream_may_begin_within_a_sound() -> None:
    samples = np.rint(np.random.default_rng(1).normal(0, 3000, 40_000))
    late = Resampler(16_000, 44_100, 16_000)
    first = late.given
    part = np.concatenate([late.push(samples[16_000:]), late.flush()])
    whole = resample(samples, 16_000, 44_100)
    assert np.array_equal(part[200:], whole[first + 200 :])


def test_rates_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="sample_rate is 400000"):
        resample(np.zeros(3), 400_000, 16_000)


@pytest.mark.parametrize("target", [0, -16_000, 10**9 + 7])
def test_a_target_out_of_range_is_refused(target: int) -> None:
    for wrong in (lambda: resample(np.zeros(3), 16_000, target), lambda: resampled_length(3, 16_000, target)):
        with pytest.raises(
            InputError, match=f"target sample_rate is {target}; it must be an int in 1000 … 384000"
        ):
            wrong()


@pytest.mark.parametrize(("rate", "target"), [(16_000, 383_999), (383_999, 16_000)])
def test_rates_without_a_common_factor_cost_what_is_asked(rate: int, target: int) -> None:
    """Sets of taps are computed for the outputs that there are: all sets have 12 million taps."""
    tracemalloc.start()
    again = resample(np.full(500, 7_000.0), rate, target)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(again) == resampled_length(500, rate, target)
    assert peak < 80 * 2**20
    fresh = Taps(rate, target)
    sets = fresh.sets(np.array([0, 5, 0]))
    assert np.array_equal(sets, Taps(rate, target).sets(np.arange(6))[[0, 5, 0]])
    assert np.abs(sets.sum(1) - UNIT).max() < sets.shape[1]
