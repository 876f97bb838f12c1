"""Small networks in whole numbers: from what a coefficient sees to the row of the table of probabilities.

    h = min(max(⌊(W₁ x + b₁) / 256⌋, 0), 255);  row = min(max(⌊(w₂ h + b₂ + 1024) / 2048⌋, 0), rows − 1)

The sums are held in float32: none of them, whole or in part, reaches 2^24, so that any BLAS with any number of threads
has the same result to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int16, Int32, UInt16

from codebound.errors import InputError

LEVELS = 8  # that b₁ tells apart: 1 … 7, and all coarser ones as 7; 0 is none
HIGHEST = 255  # of a unit
SHIFT, LAST = 8, 11  # bits that are dropped after each layer, and after the last one
EXACT = 1 << 24


@dataclass(frozen=True, eq=False)
class Network:
    """The networks of one component and phase, one for each orientation, which all see the same.

    Attributes:
        first: W₁ of each orientation.
        first_bias: b₁ of each level and orientation.
        second, second_bias: w₂ and b₂ of each orientation.
    """

    first: Int16[np.ndarray, "i o h"]
    first_bias: Int32[np.ndarray, "8 o h"]
    second: Int16[np.ndarray, "o h"]
    second_bias: Int32[np.ndarray, " o"]

    def check(self, largest: int) -> None:
        """Refuse weights whose sums float32 would round, for inputs up to `largest`.

        Raises:
            InputError: there are such.
        """
        sums = (
            largest * np.abs(self.first.astype(np.int64)).sum(0)
            + np.abs(self.first_bias.astype(np.int64)).max(0),
            HIGHEST * np.abs(self.second.astype(np.int64)).sum(1)
            + np.abs(self.second_bias.astype(np.int64))
            + (1 << LAST),
        )
        if max(int(np.max(each)) for each in sums) >= EXACT:
            raise InputError("the weights of the wavelet model's network are too large to be added exactly")

    @cached_property
    def _scaled(self) -> tuple[Float32[np.ndarray, ...], ...]:
        """The arrays for float32: the shifts are powers of two, so that weights can be divided by them first."""
        unit, last = np.float32(2.0**-SHIFT), np.float32(2.0**-LAST)
        inputs, levels = len(self.first), len(self.first_bias)
        return (
            np.ascontiguousarray(self.first.reshape(inputs, -1).T) * unit,
            self.first_bias.reshape(levels, -1, 1).astype(np.float32) * unit,
            self.second[:, None] * last,
            (self.second_bias[:, None, None] + (1 << (LAST - 1))).astype(np.float32) * last,
        )

    def rows(self, seen: Float32[np.ndarray, "i n"], level: int, rows: int) -> UInt16[np.ndarray, "o n"]:
        """The row of each coefficient of each orientation, 0 … `rows` − 1."""
        first, first_bias, second, second_bias = self._scaled
        hidden = first[:, : len(seen)] @ seen
        hidden += first_bias[min(level, LEVELS - 1)]
        np.floor(hidden, out=hidden)
        np.clip(hidden, np.float32(0), np.float32(HIGHEST), out=hidden)
        total = second @ hidden.reshape(*self.second.shape, -1)
        total += second_bias
        return np.clip(total[:, 0], 0, rows - 1).astype(np.uint16)
