"""The range coder: symbols to bytes and back, under frequencies that are integers over 2^16.

The arithmetic is `constriction`'s (Bamler 2022, arXiv:2201.01741; range coding: Martin 1979), 24-bit probabilities,
32-bit words. It takes floats; ours are multiples of 2^−16, whose sums and products there are exact, so that nothing
depends on the machine. `perfect=False` is part of the format: the left end of symbol s among a is then
⌊F_s · (2^24 − a) / 2^16⌋ + s with F_s the sum of the frequencies before it. docs/format.md has a decoder in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import constriction
import numpy as np
from jaxtyping import Float64, Int64

from codebound.coding.errors import DamagedFile
from codebound.coding.integers import TOTAL, Rows

_stream = constriction.stream  # pyright: ignore[reportAttributeAccessIssue]  a compiled module
_queue = _stream.queue
_Categorical = _stream.model.Categorical
_EACH = _Categorical(perfect=False)  # with a row of probabilities for each symbol
_LIKELY = (
    0.5  # a symbol 0 of at least this probability is found soonest by looking at one symbol after the other
)

# Frequencies are of sum 2^16 in each row, none below 1; one row serves all symbols.
Symbols = Int64[np.ndarray, " m"]


@runtime_checkable
class Coder(Protocol):
    """One side of a stream. Both sides call `code` with the same frequencies in the same order."""

    def code(self, frequencies: Rows, symbols: Symbols, rows: Symbols | None = None) -> Symbols:
        """The symbols: an encoder's are those given; a decoder looks at how many they are, and returns its own.

        Args:
            frequencies: a row for each symbol, or one for all of them.
            rows: which of the frequencies' rows each symbol has, if they are a table; they must ascend.
        """
        ...


class Encoder:
    """Symbols to bytes."""

    def __init__(self) -> None:
        self._coder = _queue.RangeEncoder()

    def clone(self) -> Encoder:
        """One in the same state that goes on by itself."""
        other = Encoder()
        other._coder = self._coder.clone()
        return other

    def code(self, frequencies: Rows, symbols: Symbols, rows: Symbols | None = None) -> Symbols:
        numbers, probabilities = symbols.astype(np.int32), frequencies / TOTAL
        if rows is not None:
            for row, part in _runs(rows):
                self._coder.encode(numbers[part], _one(probabilities[row]))
        elif len(probabilities) == 1:
            self._coder.encode(numbers, _one(probabilities[0]))
        else:
            self._coder.encode(numbers, _EACH, probabilities)
        return symbols

    def payload(self) -> bytes:
        """All words, big-endian, without the zero bytes at the end: a decoder reads zeros there."""
        return self._coder.get_compressed().astype(">u4").tobytes().rstrip(b"\0")


class Decoder:
    """Bytes to symbols.

    `code` raises `DamagedFile` for some bytes that no encoder wrote; most decode to wrong symbols unnoticed, so the
    container has checksums.

    Args:
        payload: an encoder's, filled up with zeros to `least` bytes.
    """

    def __init__(self, payload: bytes, least: int = 0) -> None:
        # A decoder is always a word ahead of an encoder, so that one of zeros behind the last is read, too.
        bare = payload.rstrip(b"\0")
        whole = bare + bytes(-len(bare) % 4 + 4)
        self._coder = _queue.RangeDecoder(np.frombuffer(whole, dtype=">u4").astype(np.uint32))
        self._filled = len(payload) > max(len(bare), least)

    def code(self, frequencies: Rows, symbols: Symbols, rows: Symbols | None = None) -> Symbols:
        probabilities = frequencies / TOTAL
        try:
            if rows is not None:
                numbers = np.empty(len(symbols), dtype=np.int32)
                for row, part in _runs(rows):
                    numbers[part] = self._coder.decode(_one(probabilities[row]), part.stop - part.start)
            elif len(probabilities) == 1:
                numbers = self._coder.decode(_one(probabilities[0]), len(symbols))
            else:
                numbers = self._coder.decode(_EACH, probabilities)
        except AssertionError:  # how constriction reports bytes that no encoder wrote
            raise DamagedFile("a stream can't be decoded: its bytes are no range coder's") from None
        return numbers.astype(np.int64)

    def check_end(self) -> None:
        """Refuse bytes behind those that the symbols took.

        Raises:
            DamagedFile: there are such.
        """
        if self._filled or not self._coder.maybe_exhausted():
            raise DamagedFile("a stream goes on after its last symbol")


class Meter:
    """What symbols cost in theory, in bits: Σ −log2(f / 2^16)."""

    def __init__(self) -> None:
        self.bits = 0.0

    def code(self, frequencies: Rows, symbols: Symbols, rows: Symbols | None = None) -> Symbols:
        if rows is None:
            rows = np.zeros(1, dtype=np.int64) if len(frequencies) == 1 else np.arange(len(symbols))
        self.bits -= float(np.log2(frequencies[rows, symbols] / TOTAL).sum())
        return symbols


def _one(probabilities: Float64[np.ndarray, " a"]) -> object:
    """constriction's model of one row, the same whichever way it is searched."""
    return _Categorical(probabilities, lazy=bool(probabilities[0] >= _LIKELY), perfect=False)


def _runs(rows: Symbols) -> Iterator[tuple[int, slice]]:
    """Each row that there is, and which symbols have it."""
    ends = [*(np.flatnonzero(rows[1:] != rows[:-1]) + 1).tolist(), len(rows)]
    start = 0
    for end in ends if len(rows) else ():
        yield int(rows[start]), slice(start, end)
        start = end
