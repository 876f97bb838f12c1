"""Whole samples at one rate to whole samples at another, the same on every machine and however they come in.

A band-limited interpolation by a Kaiser-windowed sinc (Smith & Gossett 1984): output n lies at n·M/L of the input's
samples, so that there are L sets of taps. Taps are whole multiples of 2^−15; float64 holds every sum exactly.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from codebound import arguments

UNIT = 1 << 15
CROSSINGS = 16  # of the sinc on each side
BETA = 8.0  # of the Kaiser window: 80 dB
PASS = 0.94  # of the lower Nyquist frequency
LOWEST_RATE, HIGHEST_RATE = 1_000, 384_000
LOUDEST = 1 << 15  # samples stay in −2^15 … 2^15 − 1


class Taps(NamedTuple):
    """Every L-th output has the same taps; output n begins at input ⌊n·M/L⌋ − before."""

    up: int
    down: int
    before: int
    table: Float64[np.ndarray, "l k"]


def check_rates(rate: int, target: int) -> None:
    """Refuse a rate, or one that it is to become, that no sound has here.

    Raises:
        InputError: one out of range.
    """
    for name, value in (("sample_rate", rate), ("target sample_rate", target)):
        arguments.whole(name, value, least=LOWEST_RATE, most=HIGHEST_RATE)


def resampled_length(samples: int, rate: int, target: int) -> int:
    """How many samples there are at the other rate: ⌈samples · target / rate⌉; raises as `check_rates`."""
    check_rates(rate, target)
    return -(-samples * target // rate)


@lru_cache(maxsize=8)
def taps(rate: int, target: int) -> Taps:
    """The taps from a rate to another.

    Raises:
        InputError: rates out of range.
    """
    check_rates(rate, target)
    common = math.gcd(rate, target)
    up, down = target // common, rate // common

    # The filter ends below the lower of both Nyquist frequencies.
    cutoff = PASS * min(1.0, up / down)
    reach = math.ceil(CROSSINGS / min(1.0, up / down))
    offsets = np.arange(-reach + 1, reach + 1)
    distance = offsets[None, :] - np.arange(up)[:, None] / up
    inside = np.clip(1 - (distance / reach) ** 2, 0, None)
    shape = np.sinc(cutoff * distance) * cutoff * np.i0(BETA * np.sqrt(inside)) / np.i0(BETA)

    # A constant stays the same: each set of taps sums to 1, before it is rounded.
    return Taps(up, down, reach - 1, np.rint(shape / shape.sum(1, keepdims=True) * UNIT))


class Resampler:
    """A stream of samples at another rate; what is pushed in pieces comes out as if it came at once.

    Args:
        rate: of what is pushed.
        target: of what comes out.
        begin: the number of the first sample that is pushed. What lies before it counts as silence: of the outputs
            from there on the first are wrong, unless it is 0.

    Attributes:
        given: the number of the next output.
    """

    def __init__(self, rate: int, target: int, begin: int = 0) -> None:
        self._taps = taps(rate, target)
        self._same = rate == target
        self._rate, self._target = rate, target
        self._held = np.zeros(self._taps.before)  # the input from `_first` on
        self._first = begin - self._taps.before
        self._taken = begin
        self.given = -(-begin * self._taps.up // self._taps.down)

    def push(self, samples: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " m"]:
        """The outputs that more input completes."""
        self._taken += len(samples)
        if self._same:
            self.given += len(samples)
            return samples
        self._held = np.concatenate([self._held, samples])

        # Output n needs input up to ⌊n·M/L⌋ − before + k − 1.
        ready = self._first + len(self._held) - self._taps.table.shape[1] + self._taps.before
        return self._outputs(max((ready + 1) * self._taps.up - 1, -1) // self._taps.down + 1)

    def flush(self) -> Float64[np.ndarray, " m"]:
        """The rest, as if silence followed."""
        if self._same:
            return np.zeros(0)
        self._held = np.concatenate([self._held, np.zeros(self._taps.table.shape[1])])
        return self._outputs(resampled_length(self._taken, self._rate, self._target))

    def _outputs(self, end: int) -> Float64[np.ndarray, " m"]:
        """The outputs up to number `end`, those of equal taps together."""
        start, (up, down, before, table) = self.given, self._taps
        if end <= start:
            return np.zeros(0)
        out = np.empty(end - start)
        for at in range(min(up, end - start)):
            number = start + at
            count = -(-(end - number) // up)
            first = number * down // up - before - self._first
            rows = np.lib.stride_tricks.as_strided(
                self._held[first:],
                (count, table.shape[1]),
                (down * self._held.itemsize, self._held.itemsize),
            )
            out[at::up] = rows @ table[number * down % up]
        self.given = end

        # What no later output needs is let go.
        spent = end * down // up - before - self._first
        self._held, self._first = self._held[spent:], self._first + spent
        return np.clip(np.rint(out / UNIT), -LOUDEST, LOUDEST - 1)


def resample(samples: Float64[np.ndarray, " n"], rate: int, target: int) -> Float64[np.ndarray, " m"]:
    """All of them at once; raises `InputError` as `check_rates`."""
    stream = Resampler(rate, target)
    return np.concatenate([stream.push(samples), stream.flush()])
