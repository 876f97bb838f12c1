"""What a coefficient's probabilities are told: how large the coefficients around it are that are already coded."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from codebound.wavelet.bands import ORIENTATIONS, Group

LARGEST = 127  # size of a magnitude in a map
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # rows and columns modulo 2, in the order in which they are coded
Offsets = tuple[tuple[int, int], ...]
_SIDES: Offsets = ((-1, 0), (1, 0), (0, -1), (0, 1))
_CORNERS: Offsets = ((-1, -1), (-1, 1), (1, -1), (1, 1))
_KNIGHTS: Offsets = ((-2, -1), (-2, 1), (2, -1), (2, 1), (-1, -2), (1, -2), (-1, 2), (1, 2))
_HERE: Offsets = ((0, 0),)


class Input(NamedTuple):
    """What the networks are given of each orientation: the sum of sizes over places of a component's band.

    Attributes:
        component: the coefficient's own one, or one that is coded before it.
        coarser: by how many levels the band is coarser.
        offsets: rows down and columns right of the place.
    """

    component: int
    coarser: int
    offsets: Offsets


@cache
def inputs(component: int, phase: int) -> tuple[Input, ...]:
    """What is seen from a coefficient, in the order in which the networks take it; each of all three orientations."""
    # What of the same level belongs to phases before this one.
    row, column = PHASES[phase]
    before = PHASES[:phase]

    def known(offsets: Offsets) -> Offsets:
        return tuple(each for each in offsets if ((row + each[0]) % 2, (column + each[1]) % 2) in before)

    def each(offsets: Offsets) -> list[Offsets]:
        return [(offset,) for offset in offsets]

    # Brightness, which takes most bits, is told of its neighbours one by one, differences of colours by pairs.
    sides, corners, knights = known(_SIDES), known(_CORNERS), known(_KNIGHTS)
    if component == 0:
        near = [*each(sides), *(each(corners) if phase == 1 else [corners]), knights]
    else:
        near = [sides[:2], sides[2:], *([corners[::3], corners[1:3]] if phase == 1 else [corners])]
    found = [Input(component, 0, part) for part in near if part]

    # Coarser levels: the parent, its neighbours on the coefficient's side, and the others.
    down, right = 2 * row - 1, 2 * column - 1
    found += [Input(component, 1, part) for part in each(((0, 0), (down, 0), (0, right), (down, right)))]
    if component == 0:
        far: Offsets = ((-down, 0), (0, -right), (down, -right), (-down, right), (-down, -right))
        found += [Input(component, 1, far), Input(component, 2, _HERE), Input(component, 2, _SIDES)]
    else:
        found += [Input(component, 2, _HERE)]

    # The same places of the components that are coded before, and beside them in the last of these.
    found += [Input(before, 0, _HERE) for before in range(component)]
    found += [Input(component - 1, 0, _SIDES)] if component else []
    return tuple(found)


INPUTS = ORIENTATIONS * max(len(inputs(component, phase)) for component in range(3) for phase in range(4))
MOST = LARGEST * len(_KNIGHTS)


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
    """The sizes of all coefficients of the level that is coded and of the two before it.

    A level is held as four maps, one of each phase, so that the neighbours of a phase's coefficients stand in one
    piece, just as the level before does: coefficient (y, x) of a phase has parent (y, x). All have a border of zeros.

    Args:
        components: 1 or 3.
    """

    def __init__(self, components: int) -> None:
        # Of the phases, (0, 0), (0, 1), …; one and two levels coarser.
        self._maps = np.zeros((len(PHASES) + 2, components, ORIENTATIONS, 2, 2), dtype=np.uint8)

    def begin(self, height: int, width: int) -> None:
        """A level whose largest band has this size: what was coded becomes what is one level coarser."""
        below = -(-height // 2), -(-width // 2)
        *phases, parent, _ = self._maps
        self._maps = np.zeros((*self._maps.shape[:3], below[0] + 2, below[1] + 2), dtype=np.uint8)

        # What is one level coarser is made of four phases; of what is two levels coarser each value counts four times.
        inner = self._maps[-2][..., 1:-1, 1:-1]
        for number, phase in enumerate(phases):
            target = inner[..., number // 2 :: 2, number % 2 :: 2]
            target[...] = phase[..., 1 : target.shape[-2] + 1, 1 : target.shape[-1] + 1]
        grand = parent[..., 1:-1, 1:-1].repeat(2, axis=-2).repeat(2, axis=-1)[..., : below[0], : below[1]]
        self._maps[-1][..., 1 : grand.shape[-2] + 1, 1 : grand.shape[-1] + 1] = grand

    def of_phase(self, group: Group, phase: int) -> UInt8[np.ndarray, "o h w"]:
        """The map of a phase, without its border: what is found is written there."""
        row, column = PHASES[phase]
        return self._maps[2 * row + column, group.component, :, 1:-1, 1:-1]

    def seen(
        self, group: Group, phase: int, top: int, bottom: int, left: int, right: int
    ) -> Float32[np.ndarray, "i n"] | None:
        """What the networks are given for some rows and columns of a phase; None where all of it is 0."""
        if not self._maps[..., top : bottom + 2, left : right + 2].any():
            return None
        plan = _plan(group.component, phase)
        out = np.empty((len(plan), ORIENTATIONS, bottom - top, right - left), dtype=np.float32)
        for number, (component, places) in enumerate(plan):
            # Two sizes are added as bytes, which can hold them.
            parts = [
                self._maps[k, component, :, top + y : bottom + y, left + x : right + x] for k, y, x in places
            ]
            pairs = [np.add(*parts[at : at + 2]) for at in range(0, len(parts) - 1, 2)]
            pairs += parts[-1:] if len(parts) % 2 else []
            out[number] = pairs[0]
            for pair in pairs[1:]:
                out[number] += pair
        return out.reshape(ORIENTATIONS * len(plan), -1)


@cache
def _plan(component: int, phase: int) -> list[tuple[int, list[tuple[int, int, int]]]]:
    """Of each input the component, and for each place the number of its map and where the map's part begins."""
    found = []
    row, column = PHASES[phase]
    for each in inputs(component, phase):
        places = []
        for down, right in each.offsets:
            if each.coarser:
                places.append((len(PHASES) - 1 + each.coarser, 1 + down, 1 + right))
            else:
                # On a coefficient's own level it is another phase.
                y, x = row + down, column + right
                places.append((2 * (y & 1) + (x & 1), 1 + (y >> 1), 1 + (x >> 1)))
        found.append((each.component, places))
    return found
