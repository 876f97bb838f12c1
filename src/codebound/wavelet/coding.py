"""A picture's coefficients as a stream: the walk over its bands that both sides take, with the same probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, UInt16

from codebound.coding.integers import TOTAL
from codebound.coding.picture_container import STEP
from codebound.coding.range_coder import Coder
from codebound.wavelet import bands as band_list
from codebound.wavelet import maps
from codebound.wavelet.bands import Group
from codebound.wavelet.frequencies import Frequencies
from codebound.wavelet.lifting import FRACTION, Pyramid, level_sizes
from codebound.wavelet.model import ESCAPE, ROWS, SHIFTED, WaveletModel, quiet_rows

LARGEST = (1 << 28) - 1  # magnitude
CLIPPED = (1 << 20) - 1  # of a decoded coefficient, in units of 2^−8: no picture has larger ones
STRIP = 1 << 14  # coefficients of a band's phase that are coded at a time, in whole rows
_DIGITS = 28  # binary digits of a magnitude beyond the escape, plus 1
_SHIFT_UNIT = 6  # a model's shifts are in 1/64
_BLOCK = 1 << 12  # coefficients that a network takes at a time, so that they stay near the processor
_DENSE = 0.6  # share of coefficients that see something, from which on networks are asked about all
_EVEN = np.full((1, 2), TOTAL // 2, dtype=np.float64)
_LENGTHS = np.full((1, _DIGITS), TOTAL // _DIGITS, dtype=np.float64)
_LENGTHS[0, 0] += TOTAL - _LENGTHS.sum()


class Layout(NamedTuple):
    """What is known of a picture before its stream is read: its size, planes and step numbers, as `bands.groups`."""

    height: int
    width: int
    components: int
    step: int
    flat: int = STEP


class Strip(NamedTuple):
    """Some rows of one phase of a group's bands: arrays of it have shape [band, row, column], of the largest band.

    Attributes:
        group, phase: what it is a part of.
        top, bottom: its rows among the phase's, the last excluded.
        width: of the largest band's phase.
    """

    group: Group
    phase: int
    top: int
    bottom: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.group.bands), self.bottom - self.top, self.width

    def inside(self, number: int) -> tuple[int, int]:
        """How many of its rows and columns a band has, counted like the group's bands."""
        band, (row, column) = self.group.bands[number], maps.PHASES[self.phase]
        rows = (band.height - row + 1) // 2 - self.top
        return max(min(rows, self.bottom - self.top), 0), (band.width - column + 1) // 2

    def of(self, band: np.ndarray) -> np.ndarray:
        """Its coefficients in a whole band."""
        row, column = maps.PHASES[self.phase]
        return band[row::2, column::2][self.top : self.bottom]


@runtime_checkable
class Levels(Protocol):
    """Where an encoder has its levels from."""

    def low(self, component: int, step: int) -> Int64[np.ndarray, "h w"]:
        """The signed levels of the low band."""
        ...

    def choose(
        self, strip: Strip, rows: UInt16[np.ndarray, "k h w"], frequencies: Float64[np.ndarray, "r s"]
    ) -> tuple[Int64[np.ndarray, "k h w"], Bool[np.ndarray, "k h w"]]:
        """Magnitudes of a strip's coefficients, and which of them are negative, knowing what each would cost.

        Args:
            rows: of the frequencies that each will be coded under.
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
    height, width, components, number, flat = layout
    sizes = level_sizes(height, width)
    step = band_list.low_step(height, width, number)
    lows = []
    for component in range(components):
        given = np.zeros(sizes[-1], dtype=np.int64) if levels is None else levels.low(component, step)
        lows.append(_values(_signed(coder, given), np.zeros(given.shape, dtype=np.int64), step))

    # Then the details, from coarse to fine, phase by phase.
    frequencies, known = Frequencies(model), maps.Maps(components)
    details: list[list[list[np.ndarray]]] = [[[] for _ in sizes[1:]] for _ in range(components)]
    for group in band_list.groups(height, width, components, number, flat):
        if group.component == 0:
            known.begin(group.height, group.width)
        found = [np.zeros((band.height, band.width), dtype=np.int32) for band in group.bands]
        for strip in _strips(group):
            _strip(strip, model, coder, levels, frequencies, known, found)
        for band, values in zip(group.bands, found, strict=True):
            details[band.component][band.level - 1].append(values)
    return [
        Pyramid(low, [(first, second, third) for first, second, third in found])
        for low, found in zip(lows, details, strict=True)
    ]


def _strips(group: Group) -> Iterator[Strip]:
    """The phases of a group, each from top to bottom."""
    for phase, (row, column) in enumerate(maps.PHASES):
        height, width = (group.height - row + 1) // 2, (group.width - column + 1) // 2
        rows = max(STRIP // max(width, 1), 1)
        if width:
            for top in range(0, height, rows):
                yield Strip(group, phase, top, min(top + rows, height), width)


def _strip(
    strip: Strip,
    model: WaveletModel,
    coder: Coder,
    levels: Levels | None,
    frequencies: Frequencies,
    known: maps.Maps,
    values: list[Int32[np.ndarray, "_ _"]],
) -> None:
    """Read or write a strip: its values and sizes are put where they belong."""
    rows = _rows(strip, model, known).reshape(-1)
    there, signed = _levels(strip, rows, coder, levels, frequencies)
    if len(there) == 0:
        return

    # What the levels stand for.
    magnitudes, (_, height, width) = np.abs(signed), strip.shape
    shifts = model.shift[rows[there], np.minimum(magnitudes, SHIFTED) - 1].astype(np.int64)
    steps = np.array([band.step for band in strip.group.bands])[there // (height * width)]
    dense, seen = np.zeros(strip.shape, dtype=np.int32), np.zeros(strip.shape, dtype=np.uint8)
    dense.reshape(-1)[there] = _values(signed, shifts, steps)
    seen.reshape(-1)[there] = maps.sizes(magnitudes)
    for number, band in enumerate(values):
        inside_rows, inside_columns = strip.inside(number)
        strip.of(band)[...] = dense[number, :inside_rows, :inside_columns]
    target = known.of_phase(strip.group, strip.phase)[..., strip.top : strip.bottom, :width]
    target[...] = seen.reshape(target.shape)


def _levels(
    strip: Strip,
    rows: UInt16[np.ndarray, " n"],
    coder: Coder,
    levels: Levels | None,
    frequencies: Frequencies,
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """The places of a strip's levels that are not 0, and these levels, read or written."""
    # What there is of the bands, in the order of the rows of probabilities.
    places = places_of(strip)
    order = np.argsort(rows if places is None else rows[places], kind="stable")
    places = order if places is None else places[order]
    which = rows[places].astype(np.int64)

    # Symbols; what is beyond the escape; signs.
    symbols = np.zeros(len(places), dtype=np.int64)
    given, below = np.zeros(rows.size, dtype=np.int64), np.zeros(rows.size, dtype=bool)
    if levels is not None:
        chosen = levels.choose(strip, rows.reshape(strip.shape), frequencies.rows)
        given, below = (each.reshape(-1) for each in chosen)
        symbols = np.minimum(given[places], ESCAPE)
    symbols = coder.code(frequencies.rows, symbols, which)
    frequencies.learn(which, symbols)
    found = np.zeros(rows.size, dtype=np.int64)
    found[places] = symbols
    there = np.flatnonzero(found)
    magnitudes = found[there]
    beyond = np.flatnonzero(magnitudes == ESCAPE)
    if len(beyond):
        magnitudes[beyond] += _beyond(coder, given[there[beyond]] - ESCAPE)
    if len(there):
        magnitudes *= 1 - 2 * coder.code(_EVEN, below[there].astype(np.int64))
    return there, magnitudes


def _rows(strip: Strip, model: WaveletModel, known: maps.Maps) -> UInt16[np.ndarray, "k h w"]:
    """The rows of probabilities: the networks', and where nothing is seen those of its band and phase."""
    group, (count, height, width) = strip.group, strip.shape
    network, first = model.network(group.component, strip.phase), np.uint16(group.component * ROWS)
    out = np.empty(strip.shape, dtype=np.uint16)
    out[:] = quiet_rows(group, strip.phase)[:, None, None]
    for top, bottom, left, right in _blocks(height, width):
        seen = known.seen(group, strip.phase, strip.top + top, strip.top + bottom, left, right)
        if seen is None:
            continue
        busy = np.ones(len(seen), dtype=np.float32) @ seen > 0
        found = out[:, top:bottom, left:right].reshape(count, -1)
        if np.count_nonzero(busy) > _DENSE * busy.size:
            np.copyto(found, network.rows(seen, group.level, ROWS) + first, where=busy)
        else:
            # Copies of some columns take less time than networks take for all.
            places = np.flatnonzero(busy)
            found[:, places] = network.rows(seen[:, places], group.level, ROWS) + first
        out[:, top:bottom, left:right] = found.reshape(count, bottom - top, right - left)
    return out


def _blocks(height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """Where blocks of about `_BLOCK` coefficients begin and end, in rows and in columns."""
    rows, columns = max(_BLOCK // width, 1), min(_BLOCK, width)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield top, min(top + rows, height), left, min(left + columns, width)


def places_of(strip: Strip) -> Int64[np.ndarray, " n"] | None:
    """Which coefficients of a strip there are, as bands may lack a row or a column; None if all of them."""
    inside = [strip.inside(number) for number in range(len(strip.group.bands))]
    if all(each == strip.shape[1:] for each in inside):
        return None
    mask = np.zeros(strip.shape, dtype=bool)
    for number, (height, width) in enumerate(inside):
        mask[number, :height, :width] = True
    return np.flatnonzero(mask)


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
    signed: Int64[np.ndarray, "*n"],
    shifts: Int64[np.ndarray, "*n"],
    step: Int64[np.ndarray, "*n"] | int,
) -> Int32[np.ndarray, "*n"]:
    """What levels stand for, in units of 2^−8: (64·magnitude + shift)·step, rounded half up, with the sign."""
    drop = _SHIFT_UNIT + band_list.POINT - FRACTION
    sizes = (np.abs(signed) << _SHIFT_UNIT) + shifts
    sizes = np.clip((sizes * step + (1 << (drop - 1))) >> drop, 0, CLIPPED)
    return (np.sign(signed) * sizes).astype(np.int32)
