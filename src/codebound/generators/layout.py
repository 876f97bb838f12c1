"""How the indices of a picture stand in one sequence: which grid, row, column and level each token is of."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Int, Int64
from torch import Tensor

from codebound.errors import InputError
from codebound.tokenizers import sequences


class Grid(NamedTuple):
    """Indices `[height, width, Q]` of a picture, Q codebooks one after the other at each place."""

    height: int
    width: int
    codebook_sizes: tuple[int, ...]

    @property
    def length(self) -> int:
        """Tokens of it."""
        return self.height * self.width * len(self.codebook_sizes)


class Slot(NamedTuple):
    """The tokens of a sequence that share a codebook."""

    positions: tuple[int, ...]  # in the sequence
    first: int  # of its tokens in the vocabulary
    size: int  # of its codebook

    @property
    def tokens(self) -> slice:
        """Its tokens in the vocabulary."""
        return slice(self.first, self.first + self.size)


class Layout:
    """Grids of indices, coarse ones first, as one sequence of tokens: row by row, all levels of a place together.

    The tokens of each codebook are a part of the vocabulary of its own, so a position says which tokens can stand
    there.

    Args:
        grids: of a picture, in the order in which they are generated.

    Raises:
        InputError: no grid, or one without a token or with a codebook of fewer than 2.
    """

    def __init__(self, grids: Sequence[Grid]) -> None:
        self.grids = tuple(Grid(int(h), int(w), tuple(map(int, sizes))) for h, w, sizes in grids)
        for grid in self.grids:
            if grid.length < 1 or grid.height < 1 or min(grid.codebook_sizes) < 2:
                raise InputError(
                    f"each grid needs rows, columns and codebooks of at least 2; got {tuple(grid)}"
                )
        if not self.grids:
            raise InputError("a layout needs at least one grid")
        self.length = sum(grid.length for grid in self.grids)
        self.vocabulary = sum(sum(grid.codebook_sizes) for grid in self.grids)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """One for each codebook: they divide the positions among them."""
        slots, start, first = [], 0, 0
        for grid in self.grids:
            levels = len(grid.codebook_sizes)
            for level, size in enumerate(grid.codebook_sizes):
                slots.append(Slot(tuple(range(start + level, start + grid.length, levels)), first, size))
                first += size
            start += grid.length
        return tuple(slots)

    @cached_property
    def slot_of(self) -> Int64[Tensor, " n"]:
        """The number of each position's slot."""
        numbers = torch.empty(self.length, dtype=torch.int64)
        for number, slot in enumerate(self.slots):
            numbers[list(slot.positions)] = number
        return numbers

    @cached_property
    def places(self) -> Int64[Tensor, "n 3"]:
        """Number of the grid, row and column of each position."""
        return torch.tensor(
            [
                (number, row, column)
                for number, grid in enumerate(self.grids)
                for row, column in itertools.product(range(grid.height), range(grid.width))
                for _ in grid.codebook_sizes
            ]
        )

    @cached_property
    def neighbours(self) -> Int64[Tensor, "n m"]:
        """The positions before each one whose tokens say most about it; −1 where there is none.

        That before it in the sequence, without which nothing would know its token; of the same level those to the left
        and above (three); and all levels of the coarser grid's token at the same place.
        """
        # Of each grid: where it begins, so that a place and a level have a position.
        starts = [0, *itertools.accumulate(grid.length for grid in self.grids)]
        coarser = max((len(grid.codebook_sizes) for grid in self.grids[:-1]), default=0)
        deep = any(len(grid.codebook_sizes) > 1 for grid in self.grids)

        def position(number: int, row: int, column: int, level: int) -> int:
            grid = self.grids[number]
            if not (0 <= row < grid.height and 0 <= column < grid.width and level < len(grid.codebook_sizes)):
                return -1
            return starts[number] + (row * grid.width + column) * len(grid.codebook_sizes) + level

        # Row by row of the table; where places have one token, that to the left is the one before, mostly.
        rows = []
        for number, grid in enumerate(self.grids):
            levels = range(len(grid.codebook_sizes))
            for row, column, level in itertools.product(range(grid.height), range(grid.width), levels):
                left = [position(number, row, column - 1, level)] if deep else []
                above = [position(number, row - 1, column + aside, level) for aside in (-1, 0, 1)]
                parents = [-1] * coarser
                if number:
                    parent = self.grids[number - 1]
                    y, x = row * parent.height // grid.height, column * parent.width // grid.width
                    parents = [position(number - 1, y, x, below) for below in range(coarser)]
                rows.append([len(rows) - 1, *left, *above, *parents])
        return torch.tensor(rows)

    def flatten(self, indices: Tensor | Sequence[Tensor]) -> Int64[Tensor, "b n"]:
        """Sequences of tokens from grids of indices: one tensor `[b, H, W, Q]` for each grid, or alone.

        Raises:
            InputError: other grids than the layout's, or an index out of its codebook's range.
        """
        parts = [indices] if isinstance(indices, Tensor) else list(indices)
        shapes = [(grid.height, grid.width, len(grid.codebook_sizes)) for grid in self.grids]
        if [tuple(part.shape[1:]) for part in parts] != shapes:
            raise InputError(
                f"indices must have shapes {[['b', *shape] for shape in shapes]}; got "
                f"{[list(part.shape) for part in parts]}"
            )
        firsts = [0, *itertools.accumulate(sum(grid.codebook_sizes) for grid in self.grids)]
        return torch.cat(
            [
                sequences.flatten(part, grid.codebook_sizes) + first
                for part, grid, first in zip(parts, self.grids, firsts, strict=False)
            ],
            dim=1,
        )

    def unflatten(self, tokens: Int[Tensor, "b n"]) -> Tensor | tuple[Tensor, ...]:
        """The indices that `flatten` made these tokens of: a tensor, or one for each of several grids."""
        firsts = [0, *itertools.accumulate(sum(grid.codebook_sizes) for grid in self.grids)]
        parts = tuple(
            sequences.unflatten(part - first, (grid.height, grid.width), grid.codebook_sizes)
            for part, grid, first in zip(
                tokens.split([grid.length for grid in self.grids], dim=1), self.grids, firsts, strict=False
            )
        )
        return parts[0] if len(parts) == 1 else parts

    def within(self, grid: tuple[int, int]) -> Layout:
        """The layout of smaller pictures, of so many rows and columns.

        Raises:
            InputError: a larger grid than this one, or several grids, which belong together.
        """
        own = self.grids[0]
        if len(self.grids) > 1 or not (1 <= grid[0] <= own.height and 1 <= grid[1] <= own.width):
            raise InputError(
                f"grid={grid[0]}x{grid[1]} is not accepted; the prior was trained on {self.describe()}"
                + (", which belong together" if len(self.grids) > 1 else " and knows no larger ones")
            )
        return Layout([Grid(*grid, own.codebook_sizes)])

    @property
    def nominal_bits(self) -> float:
        """log₂ of the number of sequences: what a picture costs without a prior."""
        return sum(len(slot.positions) * math.log2(slot.size) for slot in self.slots)

    def describe(self) -> str:
        """The grids in words."""
        return ", ".join(f"{grid.height}x{grid.width} of {list(grid.codebook_sizes)}" for grid in self.grids)
