"""Levels of a trellis code to bytes and back: a stream for each parity, under frequencies computed in integers.

A level n = 2m + p of parity p is a symbol m. Its low `shift` bits are written as they are, the others are coded in one
of two models, both of integers alone (`coding.integers`; docs/vectors.md describes every step):

    GAUSSIAN   weights 1 + exp2(n²·q / 2^16), q one number
    TABLE      weights exp2(16·c), a byte c for each symbol
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from codebound.coding import varint
from codebound.coding.errors import DamagedFile
from codebound.coding.integers import TOTAL, exp2, frequencies
from codebound.coding.range_coder import Decoder, Encoder

SYMBOLS = 256  # of one stream, at most
SHIFTS = 20
LARGEST = 1 << 20  # of a level, without its sign
FARTHEST = 1 << 27  # squared level: from there on all weights are the least
FINE = 16  # units of exp2 in one unit of a table's costs: 1/16 bit
Levels = Int64[np.ndarray, " n"]


class Kind(enum.IntEnum):
    """How the frequencies of a bin come about."""

    GAUSSIAN = 0
    TABLE = 1


@dataclass(frozen=True, eq=False)
class Model:
    """The frequencies of one bin's levels. `lows` and `costs` are for each parity: of the first symbol, and of all."""

    kind: Kind
    shift: int
    lows: tuple[int, int]
    counts: tuple[int, int]
    q: int = 0
    costs: tuple[bytes, bytes] = (b"", b"")

    def frequencies(self, parity: int) -> Int64[np.ndarray, "1 a"]:
        """Of the symbols of a parity, of sum 2^16."""
        if self.kind == Kind.TABLE:
            weights = exp2(FINE * np.frombuffer(self.costs[parity], dtype=np.uint8).astype(np.int64))
        else:
            high = np.arange(self.lows[parity], self.lows[parity] + self.counts[parity])
            # The level, or the middle of those that share a symbol, in units of their number.
            n = 2 * high + (parity if self.shift == 0 else 1)
            weights = exp2((np.minimum(n * n, FARTHEST) * self.q) >> 16) + 1
        return frequencies(weights[None])

    def pack(self) -> bytes:
        """The bytes of the model."""
        out = bytes([self.kind | self.shift << 1])
        for low, count in zip(self.lows, self.counts, strict=True):
            out += varint.write(zigzag(low)) + varint.write(count)
        return out + (varint.write(self.q) if self.kind == Kind.GAUSSIAN else b"".join(self.costs))

    @staticmethod
    def unpack(reader: varint.Reader) -> Model:
        """The next model.

        Raises:
            DamagedFile: cut off, or a number that none is written with.
        """
        (first,) = reader.take(1, "model")
        kind, shift = Kind(first & 1), first >> 1
        if shift > SHIFTS:
            raise DamagedFile(f"the file's model has a shift of {shift}; accepted: 0 … {SHIFTS}")
        lows, counts = [0, 0], [0, 0]
        for parity in (0, 1):
            lows[parity] = unzigzag(reader.number("first symbol", 0, 2 * LARGEST))
            counts[parity] = reader.number("number of symbols", 1, SYMBOLS)
        if kind == Kind.GAUSSIAN:
            q = reader.number("model's width", 0, (1 << 35) - 1)
            return Model(kind, shift, (lows[0], lows[1]), (counts[0], counts[1]), q)
        costs = (reader.take(counts[0], "model"), reader.take(counts[1], "model"))
        return Model(kind, shift, (lows[0], lows[1]), (counts[0], counts[1]), costs=costs)


def fitted(levels: Levels) -> Model:
    """The model in which these levels, and itself, take fewest bytes. All must be within ±LARGEST."""
    # So many low bits as leave few enough symbols.
    symbols = [levels[(levels & 1) == parity] >> 1 for parity in (0, 1)]
    spans = [(int(m.min()), int(m.max())) if len(m) else (0, 0) for m in symbols]
    shift = 0
    while any((high >> shift) - (low >> shift) >= SYMBOLS for low, high in spans):
        shift += 1
    lows = (spans[0][0] >> shift, spans[1][0] >> shift)
    counts = tuple((spans[p][1] >> shift) - lows[p] + 1 for p in (0, 1))

    # A Gaussian of the levels' second moment, or a byte of cost for each symbol.
    scaled = levels.astype(np.float64) / (1 << shift)
    square = max(float((scaled**2).mean()) if len(levels) else 0.0, 1e-3)
    q = min(round(2**16 * 256 / (2 * math.log(2) * square)), (1 << 35) - 1)
    seen = [
        np.bincount((m >> shift) - low, minlength=n) for m, low, n in zip(symbols, lows, counts, strict=True)
    ]
    costs = tuple(
        np.clip(np.round(-16 * np.log2(np.maximum(each, 0.1) / max(each.sum(), 1))), 0, 255)
        .astype(np.uint8)
        .tobytes()
        for each in seen
    )
    models = (
        Model(Kind.GAUSSIAN, shift, lows, (counts[0], counts[1]), q),
        Model(Kind.TABLE, shift, lows, (counts[0], counts[1]), costs=(costs[0], costs[1])),
    )

    def size(model: Model) -> float:
        bits = [-np.log2(model.frequencies(p)[0] / TOTAL) @ seen[p] for p in (0, 1)]
        return 8 * len(model.pack()) + float(sum(bits))

    return min(models, key=size)


def encode(levels: Levels, parity: int, model: Model) -> bytes:
    """The stream of levels of one parity, under a model that has them all."""
    symbols = levels >> 1
    coder = Encoder()
    if len(symbols) and model.counts[parity] > 1:
        coder.code(model.frequencies(parity), (symbols >> model.shift) - model.lows[parity])
    return low_bits(symbols, model.shift) + coder.payload()


def decode(stream: bytes, count: int, parity: int, model: Model) -> Levels:
    """`count` levels of a parity.

    Raises:
        DamagedFile: the stream can't hold them, or holds more.
    """
    size = -(-count * model.shift // 8)
    if len(stream) < size:
        raise DamagedFile(f"a stream of {len(stream)} bytes can't hold {count} levels: {size} bytes at least")
    high = np.zeros(count, dtype=np.int64)
    if count and model.counts[parity] > 1:
        coder = Decoder(stream[size:])
        high = coder.code(model.frequencies(parity), high)
        coder.check_end()
    elif len(stream) > size:
        raise DamagedFile(f"a stream goes on for {len(stream) - size} bytes after its last level")

    # Level = 2·(high·2^shift + low bits) + parity.
    levels = high + model.lows[parity]
    levels <<= model.shift + 1
    if model.shift:
        bits = np.unpackbits(np.frombuffer(stream[:size], dtype=np.uint8), bitorder="little")
        shaped = bits[: count * model.shift].reshape(count, model.shift).astype(np.int64)
        levels += shaped @ (2 << np.arange(model.shift, dtype=np.int64))
    levels += parity
    return levels


def low_bits(symbols: Levels, shift: int) -> bytes:
    """The low bits of each symbol, the lowest first, one symbol after the other."""
    bits = (symbols[:, None] >> np.arange(shift, dtype=np.int64)) & 1
    return np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").tobytes()


def zigzag(number: int) -> int:
    """0, −1, 1, −2, … as 0, 1, 2, 3, …."""
    return 2 * number if number >= 0 else -2 * number - 1


def unzigzag(number: int) -> int:
    """What `zigzag` took."""
    return number >> 1 if number % 2 == 0 else -(number + 1) >> 1
