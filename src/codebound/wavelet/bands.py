"""The detail bands of a picture in the order in which they are coded, and the step of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from codebound.coding.integers import exp2
from codebound.coding.picture_container import STEP
from codebound.wavelet.lifting import level_sizes

ORIENTATIONS = 3  # high along the rows, along the columns, along both
POINT = 16  # bits after the point of a step
UNIT = 10  # and of the lengths below
PATCHES = 3  # the first level whose waves reach the middle of a patch of 48 pixels

# How long the pattern of pixels is that a value of 1 stands for in one direction, after so many divisions: of low
# values and of high ones, times 1024. A step divided by it makes errors of all bands weigh the same.
_LOW = (1024, 1436, 2080, 2973, 4218, 5971, 8448, 11951)
_HIGH = (0, 909, 1239, 1817, 2614, 3716, 5263, 7448)
_ROOT, _GAIN = 1448, 1260  # √2 and the gain of a division, times 1024


class Group(NamedTuple):
    """The three bands of one level and component, which are coded together.

    Attributes:
        component: 0 for brightness, 1 and 2 for the differences of colours.
        level: 1 is the finest.
        height, width: of its largest band.
        bands: by orientation.
    """

    component: int
    level: int
    height: int
    width: int
    bands: tuple[Band, ...]


class Band(NamedTuple):
    """One detail band.

    Attributes:
        component: 0 for brightness, 1 and 2 for the differences of colours.
        level: 1 is the finest.
        orientation: 0 high along the rows, 1 along the columns, 2 along both.
        height, width: of the band.
        step: between levels, in units of 2^−16.
    """

    component: int
    level: int
    orientation: int
    height: int
    width: int
    step: int


def base_step(number: int) -> int:
    """The step of a plane's pixels, 2^(number / 16), in units of 2^−16, for a number in 0 … 143."""
    return int(exp2(np.array([256 * 8 - 16 * (number % 16)]))[0]) << (number // 16)


def low_step(height: int, width: int, number: int) -> int:
    """The step of the low band that is left at the end: at most a level of grey, so that flat pictures are right."""
    levels = len(level_sizes(height, width)) - 1
    down, across = (_length(_LOW, min(levels, _divisions(side))) for side in (height, width))
    return min(max((base_step(number) << (2 * UNIT)) // (down * across), 1), 1 << POINT)


def groups(height: int, width: int, components: int, number: int, flat: int = STEP) -> Iterator[Group]:
    """All detail bands of a picture, from coarse to fine; on each level those of brightness first.

    Args:
        number: step number.
        flat: flat step number: from level 3 on the step of a level's waves is at most that one's times 2^(level − 2),
            since a wave's height is about 2^level times smaller than its length.
    """
    sizes = level_sizes(height, width)
    for level in range(len(sizes) - 1, 0, -1):
        step = base_step(number)
        if level >= PATCHES:
            step = min(step, base_step(flat) << (level - 2))
        step <<= 2 * UNIT
        (high, wide), (low_rows, low_columns) = sizes[level - 1], sizes[level]
        rows, columns = (low_rows, high - low_rows), (low_columns, wide - low_columns)
        down = _lengths(high > 1, min(level, _divisions(height)))
        across = _lengths(wide > 1, min(level, _divisions(width)))
        for component in range(components):
            found = [
                Band(
                    component, level, orientation, rows[v], columns[h], max(step // (down[v] * across[h]), 1)
                )
                for orientation, (v, h) in enumerate(((0, 1), (1, 0), (1, 1)))
            ]
            yield Group(component, level, low_rows, low_columns, tuple(found))


def _divisions(side: int) -> int:
    """How often a side is divided before it is 1; a side of 2 is divided as long as the other is larger."""
    return (side - 1).bit_length()


def _lengths(divided: bool, divisions: int) -> tuple[int, int]:
    """Of low and of high values in one direction; low ones have not had this level's gain yet."""
    low = _length(_LOW, divisions)
    return (low << UNIT) // _GAIN if divided else low, max(_length(_HIGH, divisions), 1)


def _length(table: tuple[int, ...], divisions: int) -> int:
    """A length of the table, and beyond its end √2 times the one before."""
    length = table[min(divisions, len(table) - 1)]
    for _ in range(len(table), divisions + 1):
        length = length * _ROOT >> UNIT
    return length
