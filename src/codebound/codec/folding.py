"""Long thin grids cut into strips: a grid one index wide has a diagonal for each, and no two can be coded together."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Shaped

THIN = 16  # a side that is so many times the other is cut


def strips(height: int, width: int) -> int:
    """How many pieces the longer side is cut into, so that there are fewest diagonals; 1 where it is not cut."""
    if max(height, width) < THIN * min(height, width):
        return 1
    return math.isqrt(width // (2 * height) if width > height else 2 * height // width)


def folded_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the grid that is coded in place of one of this size."""
    count = strips(height, width)
    if width > height:
        return height * count, -(-width // count)
    return -(-height // count), width * count


def fold(grid: Shaped[np.ndarray, "h w q"]) -> Shaped[np.ndarray, "_ _ q"]:
    """The pieces of a wide grid below one another, of a high one side by side; its end is repeated to fill the last.

    A grid that is not cut stays what it is.
    """
    height, width, levels = grid.shape
    count, (rows, columns) = strips(height, width), folded_size(height, width)
    missing = (0, columns * count - width) if width > height else (rows * count - height, 0)
    whole = np.pad(grid, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    if width > height:
        return whole.reshape(height, count, columns, levels).swapaxes(0, 1).reshape(rows, columns, levels)
    return whole.reshape(count, rows, width, levels).swapaxes(0, 1).reshape(rows, columns, levels)


def unfold(folded: Shaped[np.ndarray, "_ _ q"], height: int, width: int) -> Shaped[np.ndarray, "h w q"]:
    """The grid of this size that `fold` made the other of."""
    rows, columns, levels = folded.shape
    count = strips(height, width)
    if width > height:
        whole = folded.reshape(count, height, columns, levels).swapaxes(0, 1).reshape(height, -1, levels)
    else:
        whole = folded.reshape(rows, count, width, levels).swapaxes(0, 1).reshape(-1, width, levels)
    return whole[:height, :width]
