"""The 9/7 wavelet of JPEG 2000 as lifting steps with rational factors (Daubechies and Sweldens 1998).

A plane of any size becomes a low band of at most 2×2 and three detail bands per level. The decoder's side is in 32-bit
integers with 8 bits after the point, the encoder's in float32: it only has to come close.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Num

FRACTION = 8  # bits after the point of the decoder's coefficients
SMALLEST = 2  # a side of at most so many is not divided


class Lift(NamedTuple):
    """A factor of numerator / 2^shift."""

    numerator: int
    shift: int

    @property
    def value(self) -> float:
        return self.numerator / (1 << self.shift)


# The four steps of the analysis, details first, and what the low band of one division is then divided by.
STEPS = (Lift(-203, 7), Lift(-217, 12), Lift(113, 7), Lift(227, 9))
GAIN, GAIN_BOTH = Lift(1260, 10), Lift(1550, 10)  # of one side, and of both: about 1.23 and its square

Plane = Num[np.ndarray, "h w"]


class Pyramid(NamedTuple):
    """A plane's bands: what is left at the end, and each level's details, the finest level first.

    Details are high along the rows, high along the columns, high along both.
    """

    low: Plane
    details: Sequence[tuple[Plane, Plane, Plane]]


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """The sizes of the plane and of the low band of each level, down to at most 2×2."""
    sizes = [(height, width)]
    while max(sizes[-1]) > SMALLEST:
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


def analyse(plane: Float32[np.ndarray, "h w"]) -> Pyramid:
    """A plane's bands."""
    details = []
    while max(plane.shape) > SMALLEST:
        # Rows above one another, then, transposed, columns beside one another.
        low, high = _split(plane)
        low_low, low_high = _split(np.ascontiguousarray(low.T))
        high_low, high_high = _split(np.ascontiguousarray(high.T))
        details.append(tuple(np.ascontiguousarray(band.T) for band in (low_high, high_low, high_high)))
        plane = np.ascontiguousarray(low_low.T) / np.float32(_gain(*plane.shape).value)
    return Pyramid(plane, details)


def synthesise(pyramid: Pyramid) -> Int32[np.ndarray, "h w"]:
    """The plane of integer bands, in units of 2^−8: the same on every machine."""
    plane = pyramid.low
    for low_high, high_low, high_high in reversed(pyramid.details):
        shape = len(plane) + len(high_low), plane.shape[1] + low_high.shape[1]
        plane = _times(plane, _gain(*shape))
        plane = _join(_join(plane.T, low_high.T).T, _join(high_low.T, high_high.T).T)
    return plane


def _gain(height: int, width: int) -> Lift:
    """What the low band is multiplied by: the gain of each side that was divided, of which there is at least one."""
    return GAIN_BOTH if min(height, width) > 1 else GAIN


def _split(x: Float32[np.ndarray, "n m"]) -> tuple[np.ndarray, np.ndarray]:
    """Low and high rows, each half of them; of a single row all of it and nothing."""
    low, high = x[0::2].copy(), x[1::2].copy()
    if len(high):
        for number, step in enumerate(STEPS):
            target, source = (high, low) if number % 2 == 0 else (low, high)
            for rows, first, second in _neighbours(len(low), len(high), number % 2 == 0):
                target[rows] += np.float32(step.value) * (source[first] + source[second])
    return low, high


def _join(low: Int32[np.ndarray, "n m"], high: Int32[np.ndarray, "k m"]) -> Int32[np.ndarray, "n+k m"]:
    """The rows that were split: the steps backwards, each with the rounding that the format has."""
    # Copies in the memory's own order, so that the sides of a transposed plane are not moved.
    low, high = low.copy("K"), high.copy("K")
    if len(high):
        for number, step in reversed(list(enumerate(STEPS))):
            target, source = (high, low) if number % 2 == 0 else (low, high)
            for rows, first, second in _neighbours(len(low), len(high), number % 2 == 0):
                target[rows] -= _times(source[first] + source[second], step)
    joined = np.empty_like(low, shape=(len(low) + len(high), low.shape[1]))
    joined[0::2], joined[1::2] = low, high
    return joined


def _times(x: Int32[np.ndarray, "n m"], factor: Lift) -> Int32[np.ndarray, "n m"]:
    """⌊x · numerator / 2^shift + ½⌋ in 32 bits."""
    product = x * np.int32(factor.numerator)
    product += np.int32(1 << (factor.shift - 1))
    product >>= factor.shift
    return product


def _neighbours(low: int, high: int, of_high: bool) -> list[tuple[slice, slice, slice]]:
    """Rows of one kind, and which of the other stand before and behind them; at the ends the one there counts twice.

    High row i stands between low rows i and i + 1, low row i between high rows i − 1 and i.
    """
    if of_high:
        inner = min(high, low - 1)
        parts = [(slice(0, inner), slice(0, inner), slice(1, inner + 1))]
        if high > inner:
            parts.append((slice(inner, high), slice(low - 1, low), slice(low - 1, low)))
        return parts
    inner = min(low, high)
    parts = [(slice(0, 1),) * 3, (slice(1, inner), slice(0, inner - 1), slice(1, inner))]
    if low > inner:
        parts.append((slice(high, low), slice(high - 1, high), slice(high - 1, high)))
    return parts
