"""Levels of a trellis code to symbols and back: a stream for each parity, under frequencies computed in integers.

A level n = 2m + p of parity p is a symbol m. Its low `shift` bits are written as they are, the others are coded in one
of three models, all of integers alone (`coding.integers`; docs/vectors.md describes every step):

    GAUSSIAN   weights 1 + exp2(n²·q / 2^16), q one number
    TABLE      weights exp2(16·c), a byte c for each symbol
    SYMMETRIC  the same, c a function of |n|: a byte for each of the first, then one more than the last by equal rises

Scalars have even levels only: one stream, and |m| in the place of |n|.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from codebound.coding import varint
from codebound.coding.errors import DamagedFile
from codebound.coding.integers import TOTAL, exp2, frequencies
from codebound.coding.range_coder import Coder, Decoder

SYMBOLS = 256  # of one stream, at most
SHIFTS = 20
LARGEST = 1 << 20  # of a level, without its sign
FARTHEST = 1 << 27  # squared level: from there on all weights are the least
FINE = 16  # units of exp2 in one unit of a table's costs: 1/16 bit
DEAREST = 255  # cost of a symbol, at most
RISES = np.array([2, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64, 90, 128])  # of a symmetric model, that are tried
LISTED = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32, 48)  # its costs with a byte of their own
Levels = Int64[np.ndarray, " n"]


class Kind(enum.IntEnum):
    """How the frequencies of a bin come about."""

    GAUSSIAN = 0
    TABLE = 1
    SYMMETRIC = 2


@dataclass(frozen=True, eq=False)
class Model:
    """The frequencies of one bin's levels. `lows`, `counts` and `costs` are for each parity: of its first symbol, how
    many there are, and of all of them."""

    kind: Kind
    shift: int
    lows: tuple[int, ...]
    counts: tuple[int, ...]
    q: int = 0
    costs: tuple[bytes, ...] = ()
    listed: bytes = b""  # of a symmetric model, from |n| = 0 on
    rise: int = 0

    @property
    def parities(self) -> int:
        """How many streams: two, or one of a scalar."""
        return len(self.lows)

    def frequencies(self, parity: int) -> Int64[np.ndarray, "1 a"]:
        """Of the symbols of a parity, of sum 2^16."""
        if self.kind != Kind.GAUSSIAN:
            weights = exp2(FINE * np.frombuffer(self.costs[parity], dtype=np.uint8).astype(np.int64))
        else:
            high = np.arange(self.lows[parity], self.lows[parity] + self.counts[parity])
            # The level, or the middle of those that share a symbol, in units of their number.
            n = 2 * high + (parity if self.shift == 0 else 1)
            weights = exp2((np.minimum(n * n, FARTHEST) * self.q) >> 16) + 1
        return frequencies(weights[None])

    def pack(self) -> bytes:
        """The bytes of the model, as files of version 2 have them."""
        out = bytes([self.kind | self.shift << 2])
        if self.kind == Kind.SYMMETRIC:
            reach = self.lows[0] + self.counts[0] - 1 if self.parities == 1 else sum(self.counts) // 2
            return out + varint.write(reach) + bytes([len(self.listed)]) + self.listed + bytes([self.rise])
        for low, count in zip(self.lows, self.counts, strict=True):
            out += varint.write(zigzag(low)) + varint.write(count)
        return out + (varint.write(self.q) if self.kind == Kind.GAUSSIAN else b"".join(self.costs))

    @staticmethod
    def unpack(reader: varint.Reader, version: int = 2, parities: int = 2) -> Model:
        """The next model.

        Raises:
            DamagedFile: cut off, or a number that none is written with.
        """
        (first,) = reader.take(1, "model")
        kind, shift = (first & 1, first >> 1) if version == 1 else (first & 3, first >> 2)
        if shift > SHIFTS or kind > Kind.SYMMETRIC or (kind == Kind.SYMMETRIC and shift):
            raise DamagedFile(
                f"the file's model is of kind {kind} with a shift of {shift}; accepted: 0 … {SHIFTS}"
            )
        if kind == Kind.SYMMETRIC:
            reach = reader.number("largest level", parities - 1, _reach(parities))
            (count,) = reader.take(1, "model")
            if not parities <= count <= reach + 1:
                raise DamagedFile(f"the file's model lists {count} costs of {reach + 1}")
            return _symmetric(reach, reader.take(count, "model"), reader.take(1, "model")[0], parities)
        lows, counts = [], []
        for _ in range(parities):
            lows.append(unzigzag(reader.number("first symbol", 0, 2 * LARGEST)))
            counts.append(reader.number("number of symbols", 1, SYMBOLS))
        if kind == Kind.GAUSSIAN:
            q = reader.number("model's width", 0, (1 << 35) - 1)
            return Model(Kind(kind), shift, tuple(lows), tuple(counts), q)
        costs = tuple(reader.take(count, "model") for count in counts)
        return Model(Kind(kind), shift, tuple(lows), tuple(counts), costs=costs)


def _reach(parities: int) -> int:
    """The largest |n| of a symmetric model, of a scalar |m|, whose symbols are few enough."""
    return SYMBOLS - 1 if parities == 2 else (SYMBOLS - 1) // 2


def _symmetric(reach: int, listed: bytes, rise: int, parities: int) -> Model:
    """The model of sizes 0 … reach: the costs listed, then `rise` more than the last one of the same parity."""
    costs = list(listed)
    while len(costs) <= reach:
        costs.append(min(costs[-parities] + rise, DEAREST))
    if parities == 1:
        lows, counts = (-reach,), (2 * reach + 1,)
    else:
        lows = (-(reach // 2), -((reach + 1) // 2))
        counts = (2 * (reach // 2) + 1, 2 * ((reach + 1) // 2))
    each = tuple(
        bytes(costs[abs(parities * m + p)] for m in range(lows[p], lows[p] + counts[p]))
        for p in range(parities)
    )
    return Model(Kind.SYMMETRIC, 0, lows, counts, costs=each, listed=listed, rise=rise)


def fitted(levels: Levels, parities: int = 2) -> tuple[Model, float]:
    """The model in which these levels, and itself, take fewest bits, and how many. All must be within ±LARGEST.

    Args:
        parities: 2, or 1 for a scalar's levels, which are even.
    """
    # So many low bits as leave few enough symbols.
    symbols = [levels[(levels & 1) == parity] >> 1 for parity in range(parities)]
    spans = [(int(m.min()), int(m.max())) if len(m) else (0, 0) for m in symbols]
    shift = 0
    while any((high >> shift) - (low >> shift) >= SYMBOLS for low, high in spans):
        shift += 1
    lows = tuple(low >> shift for low, _ in spans)
    counts = tuple((high >> shift) - low + 1 for (_, high), low in zip(spans, lows, strict=True))

    # A Gaussian of the levels' second moment, or a byte of cost for each symbol.
    scaled = levels.astype(np.float64) / (1 << shift)
    square = max(float((scaled**2).mean()) if len(levels) else 0.0, 1e-3)
    q = min(round(2**16 * 256 / (2 * math.log(2) * square)), (1 << 35) - 1)
    seen = [
        np.bincount((m >> shift) - low, minlength=n) for m, low, n in zip(symbols, lows, counts, strict=True)
    ]
    costs = tuple(
        np.clip(np.round(-16 * np.log2(np.maximum(each, 0.1) / max(each.sum(), 1))), 0, DEAREST)
        .astype(np.uint8)
        .tobytes()
        for each in seen
    )
    models = [
        Model(Kind.GAUSSIAN, shift, lows, counts, q),
        Model(Kind.TABLE, shift, lows, counts, costs=costs),
    ]

    # Or a cost for each size.
    sizes = np.abs(levels if parities == 2 else levels >> 1)
    reach = max(int(sizes.max(initial=0)), parities - 1)
    if reach <= _reach(parities):
        models.append(_fitted_symmetric(np.bincount(sizes, minlength=reach + 1), parities))

    def bits(model: Model) -> float:
        total = 8.0 * len(model.pack()) + model.shift * len(levels)
        for parity, (low, each) in enumerate(zip(lows, seen, strict=True)):
            first = low - model.lows[parity]
            row = model.frequencies(parity)[0, first : first + len(each)]
            total += float(-np.log2(row / TOTAL) @ each) if model.counts[parity] > 1 else 0.0
        return total

    return min(((model, bits(model)) for model in models), key=lambda each: each[1])


def _fitted_symmetric(seen: Int64[np.ndarray, " a"], parities: int) -> Model:
    """The number of listed costs and the rise that take fewest bits, for so many levels of each size."""
    size, count = np.arange(len(seen)), np.maximum(seen, 0.1)
    signs = np.where(size > 0, 2.0, 1.0)
    of_parity = [size % parities == p for p in range(parities)]
    totals = sum(np.where(own, count[own].sum(), 0.0) for own in of_parity)
    own_costs = np.clip(np.round(-16 * np.log2(count / (signs * totals))), 0, DEAREST)

    def bits(costs: Float64[np.ndarray, "r a"]) -> Float64[np.ndarray, " r"]:
        weights = signs * 2.0 ** (-costs / 16)
        return costs @ seen / 16 + sum(np.log2(weights[:, o].sum(1)) * seen[o].sum() for o in of_parity)

    best = (math.inf, 0, 0)
    for listed in sorted({min(max(number, parities), len(seen)) for number in LISTED}):
        # Sizes beyond those listed: how many rises, above the last listed one of their parity.
        beyond = np.maximum(size - listed, 0)
        rises = np.where(size < listed, 0, beyond // parities + 1)
        base = np.where(size < listed, size, listed - parities + beyond % parities)
        costs = np.minimum(own_costs[base] + RISES[:, None] * rises, DEAREST)
        found = bits(costs) + 8 * listed
        at = int(found.argmin())
        best = min(best, (float(found[at]), listed, int(RISES[at])))
    _, listed, rise = best
    return _symmetric(len(seen) - 1, own_costs[:listed].astype(np.uint8).tobytes(), rise, parities)


def encode(levels: Levels, parity: int, model: Model, coder: Coder) -> bytes:
    """Give levels of one parity to a coder, under a model that has them all; returns their low bits."""
    symbols = levels >> 1
    if len(symbols) and model.counts[parity] > 1:
        coder.code(model.frequencies(parity), (symbols >> model.shift) - model.lows[parity])
    return low_bits(symbols, model.shift)


def low_size(count: int, model: Model) -> int:
    """How many bytes the low bits of so many levels take."""
    return -(-count * model.shift // 8)


def decode(low: bytes, count: int, parity: int, model: Model, coder: Coder) -> Levels:
    """`count` levels of a parity, of low bits `low`.

    Raises:
        DamagedFile: the coder has none.
    """
    high = np.zeros(count, dtype=np.int64)
    if count and model.counts[parity] > 1:
        high = coder.code(model.frequencies(parity), high)

    # Level = 2·(high·2^shift + low bits) + parity.
    levels = high + model.lows[parity]
    levels <<= model.shift + 1
    if model.shift:
        bits = np.unpackbits(np.frombuffer(low, dtype=np.uint8), bitorder="little")
        shaped = bits[: count * model.shift].reshape(count, model.shift).astype(np.int64)
        levels += shaped @ (2 << np.arange(model.shift, dtype=np.int64))
    levels += parity
    return levels


def decode_stream(stream: bytes, count: int, parity: int, model: Model) -> Levels:
    """The same of a stream with a coder of its own, as files of version 1 have it.

    Raises:
        DamagedFile: the stream can't hold them, or holds more.
    """
    size = low_size(count, model)
    if len(stream) < size:
        raise DamagedFile(f"a stream of {len(stream)} bytes can't hold {count} levels: {size} bytes at least")
    if not count or model.counts[parity] == 1:
        if len(stream) > size:
            raise DamagedFile(f"a stream goes on for {len(stream) - size} bytes after its last level")
        return decode(stream, count, parity, model, Decoder(b""))
    coder = Decoder(stream[size:])
    levels = decode(stream[:size], count, parity, model, coder)
    coder.check_end()
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
