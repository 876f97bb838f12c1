"""The header of a `.cbv` file: shape and type of the vectors, the trellis, and what levels stand for, in integers.

docs/vectors.md describes every field. What the numbers mean is `codec.vectors`' business; here they are bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from codebound.coding import varint
from codebound.coding.container import VECTORS as SIGNATURE
from codebound.coding.errors import DamagedFile, UnsupportedFile
from codebound.coding.level_streams import unzigzag, zigzag

VERSION = 2  # of vectors of any number of bits; of a fixed number it is still 1
DTYPES = ("float32", "float64", "float16", "bfloat16")
VALUES = 8  # of a component that has some of its own, n = 1 … 8
BLOCK = 1 << 20  # values of a block where the file names no size
DIM = 1 << 16
_AXES, _WIDE, _MASK, _FIXED, _ALONE = 4, 8, 16, 32, 64  # flags, beside two bits of type
_NUMBER = 1 << 34


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says before its blocks. K of D components are coded; K, D below.

    Level n of component i stands for sign(n)·v(|n|) units of 2^−exponent, v(n) = `values`[i][n − 1] for n ≤ 8 where it
    has values, then evenly on; elsewhere v(n) = ⌊(n·pitch + 2^15) / 2^16⌋. The vector is mean + Σ v·axis.
    """

    shape: tuple[int, ...]  # the last is D
    dtype: str
    states: int
    block: int  # vectors
    exponent: int
    mean: Int64[np.ndarray, " D"]  # in units of 2^−exponent
    kept: Bool[np.ndarray, " D"]
    alone: Bool[np.ndarray, " K"]  # scalars, which are no step of the trellis: their levels are even
    pitch: Int64[np.ndarray, " K"]  # in units of 2^−(exponent + 16)
    values: dict[int, Int64[np.ndarray, " 8"]]
    axes: Int64[np.ndarray, "K D"] | None  # in units of 2^−axis_bits; without them each component is its own
    axis_bits: int
    mask: bytes | None  # a bit for each vector, the first lowest: whether there is one
    bits: int = 0  # of each component where there is a fixed number: then levels are those of `table`,
    table: Int64[np.ndarray, " S"] | None = None  # by the register of a bit-shift trellis
    version: int = VERSION  # that it was read from

    @property
    def vectors(self) -> int:
        """How many there are room for."""
        return math.prod(self.shape[:-1])

    def pack(self) -> bytes:
        """The bytes of the header."""
        flags = DTYPES.index(self.dtype) | _AXES * (self.axes is not None) | _MASK * (self.mask is not None)
        flags |= _WIDE * (self.axes is not None and self.axis_bits > 15) | _FIXED * (self.table is not None)
        flags |= _ALONE * bool(self.alone.any())
        default = max(1, BLOCK // max(self.shape[-1], 1))
        numbers = [
            self.states.bit_length() - 1,
            len(self.shape),
            *self.shape,
            0 if self.block == default else self.block,
        ]
        version = VERSION if self.table is None else 1
        out = SIGNATURE + bytes([version, flags]) + b"".join(map(varint.write, numbers))
        if self.mask is not None:
            out += self.mask
        out += b"".join(varint.write(zigzag(int(x))) for x in (self.exponent, *self.mean))
        out += np.packbits(self.kept, bitorder="little").tobytes()
        own = np.array([i in self.values for i in range(len(self.pitch))], dtype=bool)
        out += np.packbits(own, bitorder="little").tobytes()
        if flags & _ALONE:
            out += np.packbits(self.alone, bitorder="little").tobytes()
        out += b"".join(varint.write(int(x)) for x in self.pitch)
        out += b"".join(varint.write(int(x)) for i in sorted(self.values) for x in self._own(i))
        if self.table is not None:
            out += bytes([self.bits]) + self.table.astype("<i2").tobytes()
        if self.axes is not None:
            size = 3 if self.axis_bits > 15 else 2
            octets = self.axes.astype("<i8").reshape(-1, 1).view(np.uint8)
            out += np.ascontiguousarray(octets[:, :size]).tobytes()
        return out

    def _own(self, i: int) -> Int64[np.ndarray, " v"]:
        """The values of a component that stand in the file: a scalar's odd ones do not."""
        return self.values[i][1::2] if self.alone[i] else self.values[i]

    @staticmethod
    def unpack(reader: varint.Reader) -> Header:
        """The header at the front.

        Raises:
            DamagedFile: not a `.cbv` file, cut off, or a number that none is written with.
            UnsupportedFile: of another version.
        """
        start = reader.take(min(len(SIGNATURE), len(reader.data)), "signature")
        if start != SIGNATURE:
            raise DamagedFile("not a .cbv file: " + (f"it starts with {start!r}" if start else "it is empty"))
        version, flags = reader.take(2, "header")
        if not 1 <= version <= VERSION:
            raise UnsupportedFile(
                f"the file has format version {version}; this package reads versions 1 to {VERSION}"
            )
        known = _ALONE - 1 if version == 1 else 2 * _ALONE - 1 - _FIXED
        if flags & ~known:
            raise UnsupportedFile(f"the file has flags {flags:#04x}; this package knows {known:#04x}")
        states = 1 << reader.number("states", 2, 16 if flags & _FIXED else 10)
        ndim = reader.number("number of axes", 1, 16)
        shape = [reader.number("size", 0, _NUMBER) for _ in range(ndim - 1)]
        dim = reader.number("dimension", 1, DIM)
        vectors = math.prod(shape)
        block = reader.number("block", 0, _NUMBER) or max(1, BLOCK // dim)
        mask = reader.take(-(-vectors // 8), "mask") if flags & _MASK else None

        # What levels stand for.
        exponent, *mean = (unzigzag(reader.number("mean", 0, 2 * _NUMBER - 1)) for _ in range(1 + dim))
        if abs(exponent) > 2000:
            raise DamagedFile(f"the file's exponent is {exponent}; accepted: −2000 … 2000")
        kept = _bits(reader, dim)
        coded = int(kept.sum())
        own = np.flatnonzero(_bits(reader, coded))
        alone = _bits(reader, coded) if flags & _ALONE else np.zeros(coded, dtype=bool)
        pitch = np.array([reader.number("pitch", 0, 2 * _NUMBER - 1) for _ in range(coded)], dtype=np.int64)
        values = {int(i): _values(reader, bool(alone[i])) for i in own}
        bits, table = _table(reader, states, kept, own) if flags & _FIXED else (0, None)
        axes, axis_bits = None, 22 if flags & _WIDE else 15
        if flags & _AXES:
            size = 3 if flags & _WIDE else 2
            octets = np.frombuffer(reader.take(coded * dim * size, "axes"), dtype=np.uint8).reshape(-1, size)
            number = octets.astype(np.int64) @ (1 << 8 * np.arange(size, dtype=np.int64))
            axes = np.where(number >> (8 * size - 1), number - (1 << 8 * size), number).reshape(coded, dim)
        return Header(
            (*shape, dim), DTYPES[flags & 3], states, block, exponent, np.array(mean, dtype=np.int64), kept, alone,
            pitch, values, axes, axis_bits, mask, bits, table, version,
        )  # fmt: skip


def _values(reader: varint.Reader, alone: bool) -> Int64[np.ndarray, " 8"]:
    """v(1) … v(8); of a scalar, whose odd levels do not occur, every second one stands for the one before, too."""
    count = VALUES // 2 if alone else VALUES
    found = np.array([reader.number("value", 0, _NUMBER) for _ in range(count)], dtype=np.int64)
    return np.repeat(found, 2) if alone else found


def _table(
    reader: varint.Reader, states: int, kept: Bool[np.ndarray, " D"], own: np.ndarray
) -> tuple[int, Int64[np.ndarray, " S"]]:
    """How many bits a component has, and the level of each register."""
    (bits,) = reader.take(1, "bits")
    length = states.bit_length() - 1
    if not 1 <= bits <= 4 or length % bits or length < 2 * bits or length > bits * len(kept):
        raise DamagedFile(
            f"the file has {bits} bits for a component and {length} state bits: no such trellis"
        )
    if len(own) or not kept.all():
        raise DamagedFile("the file's components of a fixed number of bits can't be dropped or have values")
    return bits, np.frombuffer(reader.take(2 * states, "table"), dtype="<i2").astype(np.int64)


def _bits(reader: varint.Reader, count: int) -> Bool[np.ndarray, " n"]:
    octets = np.frombuffer(reader.take(-(-count // 8), "components"), dtype=np.uint8)
    bits = np.unpackbits(octets, bitorder="little").astype(bool)
    if bits[count:].any():
        raise DamagedFile("the file names components that there are not")
    return bits[:count]
