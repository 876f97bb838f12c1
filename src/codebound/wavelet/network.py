"""A small network in whole numbers: from what a coefficient sees to the row of the table of probabilities.

    h₁ = act(W₁ x + b₁);  h₂ = act(W₂ h₁ + b₂);  row = min(max(⌊(w₃ h₂ + b₃ + 1024) / 2048⌋, 0), rows − 1)
    act(a) = min(max(⌊a / 256⌋, 0), 255)

The sums are held in float32: none of them, whole or in part, reaches 2^24, so that any BLAS with any number of threads
has the same result to the last bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int16, Int32, Int64, UInt8

from codebound.errors import InputError

LEVELS = 8  # that b₁ tells apart: 1 … 7, and all coarser ones as 7; 0 is none
HIGHEST = 255  # of a unit
SHIFT, LAST = 8, 11  # bits that are dropped after each layer, and after the last one
EXACT = 1 << 24


class Network(NamedTuple):
    """The network of one component, orientation and phase.

    Attributes:
        first: W₁.
        first_bias: b₁ of each level.
        second, second_bias: W₂ and b₂.
        third, third_bias: w₃ and b₃.
    """

    first: Int16[np.ndarray, "i h"]
    first_bias: Int32[np.ndarray, "8 h"]
    second: Int16[np.ndarray, "h k"]
    second_bias: Int32[np.ndarray, " k"]
    third: Int16[np.ndarray, " k"]
    third_bias: Int32[np.ndarray, ""]

    def check(self, largest: int) -> None:
        """Refuse weights whose sums float32 would round, for inputs up to `largest`.

        Raises:
            InputError: there are such.
        """
        sums = (
            largest * np.abs(self.first.astype(np.int64)).sum(0)
            + np.abs(self.first_bias.astype(np.int64)).max(0),
            HIGHEST * np.abs(self.second.astype(np.int64)).sum(0) + np.abs(self.second_bias.astype(np.int64)),
            HIGHEST * np.abs(self.third.astype(np.int64)).sum() + abs(int(self.third_bias)) + (1 << LAST),
        )
        if max(int(np.max(each)) for each in sums) >= EXACT:
            raise InputError("the weights of the wavelet model's network are too large to be added exactly")

    def rows(self, seen: UInt8[np.ndarray, "i n"], level: int, rows: int) -> Int64[np.ndarray, " n"]:
        """The row of each coefficient, 0 … `rows` − 1."""
        # The shifts are powers of two, so that weights can be divided by them before they are added up.
        bias = self.first_bias[min(level, LEVELS - 1)]
        hidden = _act(_sums(self.first.T, seen.astype(np.float32), bias[:, None], SHIFT))
        hidden = _act(_sums(self.second.T, hidden, self.second_bias[:, None], SHIFT))
        total = _sums(self.third, hidden, self.third_bias + (1 << (LAST - 1)), LAST)
        return np.clip(np.floor(total), 0, rows - 1).astype(np.int64)


def _sums(
    weight: Int16[np.ndarray, "*o i"],
    values: Float32[np.ndarray, "i n"],
    bias: np.ndarray | np.generic,
    shift: int,
) -> Float32[np.ndarray, "*o n"]:
    """(weight · values + bias) / 2^shift, exactly."""
    unit = np.float32(2.0**-shift)
    sums = (weight.astype(np.float32) * unit) @ values
    sums += bias.astype(np.float32) * unit
    return sums


def _act(sums: Float32[np.ndarray, "h n"]) -> Float32[np.ndarray, "h n"]:
    """What becomes of a layer's sums, in their place."""
    np.floor(sums, out=sums)
    return np.clip(sums, np.float32(0), np.float32(HIGHEST), out=sums)
