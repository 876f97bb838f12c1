"""Whole samples at one rate to whole samples at another, the same on every machine and however they come in.

A band-limited interpolation by a Kaiser-windowed sinc (Smith & Gossett 1984): output n lies at n·M/L of the input's
samples, so that there are L sets of taps. Taps are whole multiples of 2^−15; float64 holds every sum exactly. Rates
without a common factor have up to 384,000 sets: a set is computed when an output first needs it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64

from codebound import arguments

UNIT = 1 << 15
CROSSINGS = 16  # of the sinc on each side
BETA = 8.0  # of the Kaiser window: 80 dB
PASS = 0.94  # of the lower Nyquist frequency
LOWEST_RATE, HIGHEST_RATE = 1_000, 384_000
LOUDEST = 1 << 15  # samples stay in −2^15 … 2^15 − 1
PIECE = 1 << 16  # taps that are computed, or multiplied, at a time
SHARED = 8  # outputs of equal taps, from which on they are multiplied together


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


class Taps:
    """The taps from a rate to another: output n has set n·M mod L, and begins at input ⌊n·M/L⌋ − before.

    Attributes:
        up, down: L and M.
        before, width: inputs before the one at an output's place, and all inputs of an output.

    Raises:
        InputError: rates out of range.
    """

    def __init__(self, rate: int, target: int) -> None:
        check_rates(rate, target)
        common = math.gcd(rate, target)
        self.up, self.down = target // common, rate // common

        # The filter ends below the lower of both Nyquist frequencies.
        self._cutoff = PASS * min(1.0, self.up / self.down)
        self._reach = math.ceil(CROSSINGS / min(1.0, self.up / self.down))
        self.before, self.width = self._reach - 1, 2 * self._reach
        self._table = np.zeros((self.up, self.width), dtype=np.float32)  # exact: whole numbers of 16 bits
        self._known = np.zeros(self.up, dtype=bool)

    def sets(self, numbers: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, "n k"]:
        """The sets of these numbers, in units of 2^−15."""
        missing = np.unique(numbers[~self._known[numbers]])
        step = max(PIECE // self.width, 1)
        for at in range(0, len(missing), step):
            part = missing[at : at + step]
            self._table[part] = self._computed(part)
            self._known[part] = True
        return self._table[numbers].astype(np.float64)

    def _computed(self, numbers: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, "n k"]:
        offsets = np.arange(-self._reach + 1, self._reach + 1)
        distance = offsets[None, :] - numbers[:, None] / self.up
        inside = np.clip(1 - (distance / self._reach) ** 2, 0, None)
        windowed = np.i0(BETA * np.sqrt(inside)) / np.i0(BETA)
        shape = np.sinc(self._cutoff * distance) * self._cutoff * windowed

        # A constant stays the same: each set sums to 1, before it is rounded.
        return np.rint(shape / shape.sum(1, keepdims=True) * UNIT)


@lru_cache(maxsize=4)
def taps(rate: int, target: int) -> Taps:
    """The taps from a rate to another, kept for the next who asks; raises as `Taps`."""
    return Taps(rate, target)


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
        ready = self._first + len(self._held) - self._taps.width + self._taps.before
        return self._outputs(max((ready + 1) * self._taps.up - 1, -1) // self._taps.down + 1)

    def flush(self) -> Float64[np.ndarray, " m"]:
        """The rest, as if silence followed."""
        if self._same:
            return np.zeros(0)
        self._held = np.concatenate([self._held, np.zeros(self._taps.width)])
        return self._outputs(resampled_length(self._taken, self._rate, self._target))

    def _outputs(self, end: int) -> Float64[np.ndarray, " m"]:
        """The outputs up to number `end`."""
        start, up, down = self.given, self._taps.up, self._taps.down
        if end <= start:
            return np.zeros(0)
        out = self._shared(end) if end - start >= SHARED * up else self._single(end)
        self.given = end

        # What no later output needs is let go.
        spent = end * down // up - self._taps.before - self._first
        self._held, self._first = self._held[spent:], self._first + spent
        return np.clip(np.rint(out / UNIT), -LOUDEST, LOUDEST - 1)

    def _shared(self, end: int) -> Float64[np.ndarray, " m"]:
        """Sums for the outputs up to number `end`, many for each set of taps: those of equal taps together."""
        start, up, down = self.given, self._taps.up, self._taps.down
        out = np.empty(end - start)
        sets = self._taps.sets((start + np.arange(up)) * down % up)
        for at in range(up):
            number = start + at
            count = -(-(end - number) // up)
            first = number * down // up - self._taps.before - self._first
            rows = np.lib.stride_tricks.as_strided(
                self._held[first:],
                (count, self._taps.width),
                (down * self._held.itemsize, self._held.itemsize),
            )
            out[at::up] = rows @ sets[at]
        return out

    def _single(self, end: int) -> Float64[np.ndarray, " m"]:
        """The same sums, few for each set of taps: one by one."""
        windows = np.lib.stride_tricks.sliding_window_view(self._held, self._taps.width)
        step = max(PIECE // self._taps.width, 1)
        out = []
        for at in range(self.given, end, step):
            places = np.arange(at, min(at + step, end)) * self._taps.down
            rows = windows[places // self._taps.up - self._taps.before - self._first]
            out.append(np.einsum("nk,nk->n", rows, self._taps.sets(places % self._taps.up)))
        return np.concatenate(out)


def resample(samples: Float64[np.ndarray, " n"], rate: int, target: int) -> Float64[np.ndarray, " m"]:
    """All of them at once; raises `InputError` as `check_rates`."""
    stream = Resampler(rate, target)
    return np.concatenate([stream.push(samples), stream.flush()])
