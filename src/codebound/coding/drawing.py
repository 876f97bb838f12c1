"""A coder that reads no bytes: it draws symbols by their frequencies, so that a file's prior makes new files."""

from __future__ import annotations

import numpy as np

from codebound.coding.integers import TOTAL, Rows
from codebound.coding.range_coder import Symbols


class Drawer:
    """Takes a decoder's place; `bits` is what the drawn symbols would cost.

    Args:
        generator: equal ones draw equal symbols.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self.bits = 0.0

    def code(self, frequencies: Rows, symbols: Symbols, rows: Symbols | None = None) -> Symbols:
        """As many symbols as are asked for; which ones are given is not looked at."""
        if rows is not None:
            frequencies = frequencies[rows]
        table = np.broadcast_to(frequencies, (len(symbols), frequencies.shape[1])).astype(np.int64)

        # A whole number below the sum of the row lies in the part of one symbol.
        drawn = self._generator.integers(TOTAL, size=(len(symbols), 1))
        found = (drawn >= table.cumsum(1)).sum(1)
        self.bits += float(np.log2(TOTAL / table[np.arange(len(found)), found]).sum())
        return found
