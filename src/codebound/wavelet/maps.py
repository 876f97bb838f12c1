"""What a coefficient's probabilities are told: how large the coefficients around it are that are already coded."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from codebound.wavelet.bands import ORIENTATIONS, Band

MARGIN = 2  # rows and columns of zeros around a map
LARGEST = 127  # size of a magnitude in a map
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # rows and columns modulo 2, in the order in which they are coded
Places = Int64[np.ndarray, " n"]
Offsets = tuple[tuple[int, int], ...]
_SIDES: Offsets = ((-1, 0), (1, 0), (0, -1), (0, 1))
_CORNERS: Offsets = ((-1, -1), (-1, 1), (1, -1), (1, 1))
_AROUND: Offsets = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
_FAR: Offsets = ((-2, 0), (2, 0), (0, -2), (0, 2))
_KNIGHTS: Offsets = ((-2, -1), (-2, 1), (2, -1), (2, 1), (-1, -2), (1, -2), (-1, 2), (1, 2))
_HERE: Offsets = ((0, 0),)


class Source(NamedTuple):
    """A band that is looked at: component, how many levels coarser, orientation."""

    component: int
    coarser: int
    orientation: int


class Input(NamedTuple):
    """One number that the network is given: the mean over 1, 2, 4 or 8 places of a band, rounded down."""

    source: Source
    offsets: Offsets


@cache
def inputs(component: int, orientation: int) -> tuple[Input, ...]:
    """What is seen from a coefficient of a band, in the order in which the network takes it; 25 to 43 numbers."""
    own = Source(component, 0, orientation)
    others = [(orientation + turn) % ORIENTATIONS for turn in (1, 2)]
    found = [Input(own, (offset,)) for offset in _AROUND + _FAR] + [Input(own, _KNIGHTS)]

    # The same place on coarser levels.
    parent = Source(component, 1, orientation)
    found += [Input(parent, (offset,)) for offset in _HERE + _SIDES] + [Input(parent, _CORNERS)]
    found += [Input(Source(component, 2, orientation), offsets) for offsets in (_HERE, _AROUND)]
    found += [Input(Source(component, 1, other), offsets) for other in others for offsets in (_HERE, _AROUND)]

    # The bands of this level that are already coded: other orientations, and the components before.
    for other in range(orientation):
        found += [Input(Source(component, 0, other), part) for part in (_HERE, _SIDES[:2], _SIDES[2:])]
    for before in range(component):
        same = Source(before, 0, orientation)
        found += [Input(same, part) for part in (_HERE, _SIDES[:2], _SIDES[2:], _CORNERS)]
        found += [Input(Source(before, 0, other), _HERE) for other in others]
    return tuple(found)


@cache
def sources(component: int, orientation: int) -> tuple[Source, ...]:
    """The bands that are seen from a coefficient of a band."""
    return tuple(dict.fromkeys(each.source for each in inputs(component, orientation)))


INPUTS = max(
    len(inputs(component, orientation)) for component in range(3) for orientation in range(ORIENTATIONS)
)


def sizes(magnitudes: Int64[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n"]:
    """Magnitudes on a scale that is straight between powers of two: 0, 16, 24, 32, 36, … and at most 127.

    With e = ⌊log2(m + 1)⌋:  16·(e − 1) + ⌊16·(m + 1) / 2^e⌋.
    """
    return _SIZES[np.minimum(magnitudes, len(_SIZES) - 1)]


def _table() -> UInt8[np.ndarray, " n"]:
    table = []
    while not table or table[-1] < LARGEST:
        e = (len(table) + 1).bit_length() - 1
        table.append(min(16 * (e - 1) + (16 * (len(table) + 1) >> e), LARGEST))
    return np.array(table, dtype=np.uint8)


_SIZES = _table()


class Maps:
    """The sizes of all coefficients coded so far, a map for each band, with two rows and columns of zeros around it."""

    def __init__(self) -> None:
        self._maps: dict[tuple[int, int, int], UInt8[np.ndarray, "h+4 w+4"]] = {}
        self._means: dict[tuple[int, int, int, Offsets], UInt8[np.ndarray, "h+4 w+4"]] = {}

    def begin(self, band: Band) -> None:
        """A map of zeros for a band; what is more than two levels coarser is seen no longer."""
        shape = band.height + 2 * MARGIN, band.width + 2 * MARGIN
        self._maps[band[:3]] = np.zeros(shape, dtype=np.uint8)
        self._maps = {key: found for key, found in self._maps.items() if key[1] <= band.level + 2}
        self._means = {key: found for key, found in self._means.items() if key[1] <= band.level + 2}

    def put(self, band: Band, phase: int, rows: Places, columns: Places, magnitudes: Places) -> None:
        """Magnitudes of a phase are known: those that are not 0, by their rows and columns among the phase's."""
        row, column = PHASES[phase]
        self._maps[band[:3]][2 * rows + (MARGIN + row), 2 * columns + (MARGIN + column)] = sizes(magnitudes)

    def elsewhere(self, band: Band) -> Bool[np.ndarray, "h w"]:
        """Where anything but 0 is seen in other bands: at the same place, or beside it."""
        # From coarse to fine: what is seen on a coarser level is seen from two rows and columns of the next.
        near = np.zeros((-(-band.height // 4), -(-band.width // 4)), dtype=bool)
        for coarser in (2, 1, 0):
            height, width = -(-band.height // (1 << coarser)), -(-band.width // (1 << coarser))
            if coarser < 2:
                near = near.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
            for source, key in self._seen(band):
                if source.coarser == coarser and key != band[:3]:
                    near |= _grown(self._maps[key] > 0)[MARGIN : MARGIN + height, MARGIN : MARGIN + width]
        return near

    def within(self, band: Band) -> Bool[np.ndarray, "h w"]:
        """Where anything but 0 is seen in the band itself: within two rows and columns."""
        near = _grown(_grown(self._maps[band[:3]] > 0))
        return near[MARGIN:-MARGIN, MARGIN:-MARGIN]

    def seen(self, band: Band, rows: Places, columns: Places) -> UInt8[np.ndarray, "i n"]:
        """What the network is given for coefficients: a row for each of `inputs`, 0 where there is nothing."""
        keys, corners = dict(self._seen(band)), {}
        out = np.zeros((INPUTS, len(rows)), dtype=np.uint8)
        for number, (source, offsets) in enumerate(inputs(band.component, band.orientation)):
            if source not in keys:
                continue
            # Means are made once for a finished band, and for the band itself, which grows, place by place.
            key = keys[source]
            if len(offsets) > 1 and key != band[:3]:
                found, offsets = self._mean(key, offsets), _HERE
            else:
                found = self._maps[key]
            width, flat = found.shape[1], found.reshape(-1)
            if (source.coarser, width) not in corners:
                corners[source.coarser, width] = (rows >> source.coarser) * width + (
                    columns >> source.coarser
                )
            corner = corners[source.coarser, width]  # of the 5×5 places around
            views = [flat[(MARGIN + down) * width + MARGIN + right :] for down, right in offsets]
            if len(views) == 1:
                views[0].take(corner, out=out[number], mode="clip")
            else:
                total = np.zeros(len(rows), dtype=np.uint16)
                for view in views:
                    total += view.take(corner)
                out[number] = total >> (len(views).bit_length() - 1)
        return out

    def _mean(self, key: tuple[int, int, int], offsets: Offsets) -> UInt8[np.ndarray, "h w"]:
        """A finished band's mean over places beside each place, rounded down."""
        if (*key, offsets) not in self._means:
            found = self._maps[key]
            height, width = found.shape
            total = np.zeros((height - 2, width - 2), dtype=np.uint16)
            for down, right in offsets:
                total += found[1 + down : height - 1 + down, 1 + right : width - 1 + right]
            mean = np.zeros_like(found)
            mean[1:-1, 1:-1] = total >> (len(offsets).bit_length() - 1)
            self._means[*key, offsets] = mean
        return self._means[*key, offsets]

    def _seen(self, band: Band) -> Iterator[tuple[Source, tuple[int, int, int]]]:
        """Which maps there are of those that a band's coefficients see."""
        for source in sources(band.component, band.orientation):
            key = source.component, band.level + source.coarser, source.orientation
            if key in self._maps:
                yield source, key


def _grown(found: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """What is true, and all beside it, corners too."""
    down = found.copy()
    down[1:] |= found[:-1]
    down[:-1] |= found[1:]
    out = down.copy()
    out[:, 1:] |= down[:, :-1]
    out[:, :-1] |= down[:, 1:]
    return out
