"""A grid of indices while it is coded: the order of its positions, and what each one sees of the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

MARGIN = 2  # rows above and columns at both sides that no picture covers: they hold the codebook size


class Slot(NamedTuple):
    """One neighbour: of which level, how many rows below and columns right of the position."""

    level: int
    down: int
    right: int


# W and N come first: contexts are made of them. All lie on earlier diagonals (`Field.diagonals`).
_CAUSAL = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-2, 1), (-1, -2))
_AROUND = ((0, 0), (-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def slots(level: int) -> list[Slot]:
    """What a position of a level sees: 8 causal neighbours; 3×3 of the level below; 1 of each further below.

    Levels are coded one after the other, so a lower one is known on all sides.
    """
    neighbours = [Slot(level, *offset) for offset in _CAUSAL]
    if level:
        neighbours += [Slot(level - 1, *offset) for offset in _AROUND]
    return neighbours + [Slot(lower, 0, 0) for lower in range(level - 2, -1, -1)]


class Field:
    """The indices of all levels with a margin, read and written at positions.

    Args:
        indices: the grid; a decoder's starts as zeros.
        codebook_sizes: one per level.
    """

    def __init__(self, indices: Int64[np.ndarray, "h w q"], codebook_sizes: Sequence[int]) -> None:
        # One flat array for each level, with a margin, so that a neighbour is always at a fixed distance.
        self.height, self.width, levels = indices.shape
        self.sizes = tuple(codebook_sizes)
        self.stride = self.width + 2 * MARGIN
        padded = np.empty((levels, self.height + 2 * MARGIN, self.stride), dtype=np.int64)
        padded[:] = np.array(self.sizes[:levels])[:, None, None]
        padded[:, MARGIN:-MARGIN, MARGIN:-MARGIN] = indices.transpose(2, 0, 1)
        self._padded, self._all = padded, padded.reshape(-1)
        self._levels = list(padded.reshape(levels, -1))

        # Those distances in the array of all levels, one after the other.
        plane = len(self._levels[0])
        self._steps = [
            np.array([slot.level * plane + slot.down * self.stride + slot.right for slot in slots(level)])
            for level in range(levels)
        ]

    def diagonals(self) -> Iterator[Int64[np.ndarray, " n"]]:
        """Positions (row i, column j) by j + 2i, on one diagonal from the top: none sees another of its own."""
        # All positions of a step see only earlier steps, so they can be coded together.
        for step in range(self.width + 2 * (self.height - 1)):
            first = max(0, (step - self.width + 2) // 2)
            rows = np.arange(first, min(self.height - 1, step // 2) + 1)
            if len(rows):  # a grid one column wide has no odd diagonals
                yield (rows + MARGIN) * self.stride + (step - 2 * rows) + MARGIN

    def rows(self) -> Int64[np.ndarray, " n"]:
        """All positions, row by row."""
        rows, columns = np.arange(self.height) + MARGIN, np.arange(self.width) + MARGIN
        return (rows[:, None] * self.stride + columns).reshape(-1)

    def read(self, level: int, at: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """The indices of a level at these positions."""
        return self._levels[level][at]

    def write(self, level: int, at: Int64[np.ndarray, " n"], indices: Int64[np.ndarray, " n"]) -> None:
        """Put indices at these positions."""
        self._levels[level][at] = indices

    def seen(self, level: int, at: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, "n s"]:
        """What each position sees, in the order of `slots(level)`; the codebook size outside the grid."""
        return self._all[at[:, None] + self._steps[level]]

    def indices(self) -> Int64[np.ndarray, "h w q"]:
        """The grid without its margin."""
        return np.stack(list(self._padded[:, MARGIN:-MARGIN, MARGIN:-MARGIN]), axis=-1)
