"""A picture's coefficients as a stream: the walk over its bands that both sides take, with the same probabilities."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from codebound.coding.integers import TOTAL
from codebound.coding.range_coder import Coder
from codebound.wavelet import bands as band_list
from codebound.wavelet import maps
from codebound.wavelet.bands import Band
from codebound.wavelet.frequencies import Frequencies
from codebound.wavelet.lifting import FRACTION, Pyramid, level_sizes
from codebound.wavelet.model import ESCAPE, ROWS, SHIFTED, WaveletModel, first_row, quiet_row

LARGEST = (1 << 28) - 1  # magnitude
CLIPPED = (1 << 20) - 1  # of a decoded coefficient, in units of 2^−8: no picture has larger ones
_DIGITS = 28  # binary digits of a magnitude beyond the escape, plus 1
_SHIFT_UNIT = 6  # a model's shifts are in 1/64
_BLOCK = 1 << 13  # coefficients at a time, so that they stay near the processor
_EVEN = np.full((1, 2), TOTAL // 2, dtype=np.float64)
_LENGTHS = np.full((1, _DIGITS), TOTAL // _DIGITS, dtype=np.float64)
_LENGTHS[0, 0] += TOTAL - _LENGTHS.sum()


Places = Int64[np.ndarray, " n"]
Rows = Int64[np.ndarray, " n"] | int


class Layout(NamedTuple):
    """What is known of a picture before its stream is read: its size, planes and step number."""

    height: int
    width: int
    components: int
    step: int


@runtime_checkable
class Levels(Protocol):
    """Where an encoder has its levels from."""

    def low(self, component: int, step: int) -> Int64[np.ndarray, "h w"]:
        """The signed levels of the low band."""
        ...

    def choose(
        self, band: Band, phase: int, places: Places, rows: Rows, frequencies: Float64[np.ndarray, "r s"]
    ) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """Magnitudes of a phase's coefficients, and which of them are negative, knowing what each would cost.

        Args:
            places: of the coefficients among those of the phase, counted row by row.
            rows: of the frequencies that each will be coded under, or the one row for all of them.
        """
        ...


def code(layout: Layout, model: WaveletModel, coder: Coder, levels: Levels | None) -> list[Pyramid]:
    """The integer bands of each plane, as a decoder has them; the coder has read or written all levels.

    Args:
        levels: an encoder's; None for a decoder, whose coder knows them.

    Raises:
        DamagedFile: from a decoder's coder.
    """
    # Low bands first: few values, with even probabilities.
    height, width, components, number = layout
    sizes = level_sizes(height, width)
    step = band_list.low_step(height, width, number)
    lows = []
    for component in range(components):
        given = np.zeros(sizes[-1], dtype=np.int64) if levels is None else levels.low(component, step)
        lows.append(_values(_signed(coder, given), np.zeros(given.shape, dtype=np.int64), step))

    # Then the details, from coarse to fine.
    frequencies, known = Frequencies(model), maps.Maps()
    details: list[list[list[np.ndarray]]] = [[[] for _ in sizes[1:]] for _ in range(components)]
    for band in band_list.bands(height, width, components, number):
        found = _band(band, model, coder, levels, frequencies, known)
        details[band.component][band.level - 1].append(found)
    return [
        Pyramid(low, [(first, second, third) for first, second, third in found])
        for low, found in zip(lows, details, strict=True)
    ]


def _band(
    band: Band,
    model: WaveletModel,
    coder: Coder,
    levels: Levels | None,
    frequencies: Frequencies,
    known: maps.Maps,
) -> Int32[np.ndarray, "h w"]:
    """One detail band, phase by phase."""
    known.begin(band)
    values = np.zeros((band.height, band.width), dtype=np.int32)
    elsewhere = known.elsewhere(band)
    for phase, (row, column) in enumerate(maps.PHASES):
        inside = values[row::2, column::2]
        if inside.size == 0:
            continue
        busy = (elsewhere | known.within(band) if phase else elsewhere)[row::2, column::2]

        # Coefficients that see nothing share a row of probabilities; those of the others are the network's.
        quiet_places, places = np.flatnonzero(~busy), np.flatnonzero(busy)
        quiet_rows, rows = quiet_row(band, phase), _network_rows(band, phase, model, known, busy)
        parts = [
            (part, under, *_part(band, phase, coder, levels, frequencies, part, under))
            for part, under in ((quiet_places, quiet_rows), (places, rows))
            if len(part)
        ]

        # What was found there, and what it stands for.
        for part, under, magnitudes, negative in parts:
            there = np.flatnonzero(magnitudes)
            sizes = magnitudes[there]
            which = under[there] if isinstance(under, np.ndarray) else under
            shifts = model.shift[which, np.minimum(sizes, SHIFTED) - 1].astype(np.int64)
            at = np.divmod(part[there], inside.shape[1])
            inside[at] = _values(np.where(negative, -sizes, sizes), shifts, band.step)
            known.put(band, phase, *at, sizes)
    return values


def _network_rows(
    band: Band, phase: int, model: WaveletModel, known: maps.Maps, busy: Bool[np.ndarray, "h w"]
) -> Int64[np.ndarray, " n"]:
    """Rows of the table for the coefficients of a phase that see something."""
    row, column = maps.PHASES[phase]
    rows, columns = np.nonzero(busy)
    network, out = model.network(band, phase), np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        seen = known.seen(band, 2 * rows[block] + row, 2 * columns[block] + column)
        out[block] = network.rows(seen, band.level, ROWS)
    return out + first_row(band)


def _part(
    band: Band,
    phase: int,
    coder: Coder,
    levels: Levels | None,
    frequencies: Frequencies,
    places: Places,
    rows: Rows,
) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " m"]]:
    """Magnitudes of some of a phase's coefficients, and which of those that are not 0 are negative."""
    # What an encoder writes.
    table = frequencies.rows
    if levels is None:
        given, below = np.zeros(len(places), dtype=np.int64), np.zeros(len(places), dtype=bool)
    else:
        given, below = levels.choose(band, phase, places, rows, table)

    # Symbols, block by block, then what is beyond the escape, then signs.
    symbols = np.minimum(given, ESCAPE)
    if isinstance(rows, int):
        symbols = coder.code(table[rows : rows + 1], symbols)
    else:
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            symbols[block] = coder.code(table, symbols[block], rows[block])
    frequencies.learn(rows, symbols)
    beyond = np.flatnonzero(symbols == ESCAPE)
    if len(beyond):
        symbols[beyond] += _beyond(coder, given[beyond] - ESCAPE)
    negative = coder.code(_EVEN, below[symbols > 0].astype(np.int64))
    return symbols, negative == 1


def _beyond(coder: Coder, given: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Numbers from 0, each plus 1: how many binary digits follow its first one, and then these, high ones first."""
    if len(given) == 0:
        return given
    plus = given + 1
    lengths = coder.code(_LENGTHS, np.frexp(plus.astype(np.float64))[1].astype(np.int64) - 1)
    out = np.ones(len(given), dtype=np.int64)
    for digit in range(int(lengths.max()) - 1, -1, -1):
        longer = lengths > digit
        out[longer] = 2 * out[longer] + coder.code(_EVEN, plus[longer] >> digit & 1)
    return out - 1


def _signed(coder: Coder, given: Int64[np.ndarray, "h w"]) -> Int64[np.ndarray, "h w"]:
    """Whole numbers without a model: their magnitudes, then the signs of those that are not 0."""
    flat = given.reshape(-1)
    magnitudes = _beyond(coder, np.abs(flat))
    there = magnitudes > 0
    magnitudes[there] *= 1 - 2 * coder.code(_EVEN, (flat[there] < 0).astype(np.int64))
    return magnitudes.reshape(given.shape)


def _values(
    signed: Int64[np.ndarray, "*n"], shifts: Int64[np.ndarray, "*n"], step: int
) -> Int32[np.ndarray, "*n"]:
    """What levels stand for, in units of 2^−8: (64·magnitude + shift)·step, rounded half up, with the sign."""
    drop = _SHIFT_UNIT + band_list.POINT - FRACTION
    sizes = (np.abs(signed) << _SHIFT_UNIT) + shifts
    sizes = np.clip((sizes * step + (1 << (drop - 1))) >> drop, 0, CLIPPED)
    return (np.sign(signed) * sizes).astype(np.int32)
