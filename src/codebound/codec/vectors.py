"""Vectors to bytes and back through a trellis code: `.cbv` files (docs/vectors.md).

What is decoded is computed in integers, or in float64 sums of integers that stay below 2^53 and so are exact: the same
vectors on every machine.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound.codec.sources import Data, read_bytes
from codebound.codec.vector_blocks import pack_block, unpack_block
from codebound.codec.vector_means import MEAN_BITS, check_mean
from codebound.coding import level_streams, varint
from codebound.coding.errors import CodecError, DamagedFile
from codebound.coding.vector_container import BLOCK, DTYPES, VALUES, Header
from codebound.quantize.bit_trellis import BitTrellis
from codebound.quantize.bit_trellis_search import reproduced
from codebound.quantize.trellis import Trellis
from codebound.quantize.trellis_search import HALF

EXACT = 52  # bits of a float64 sum that is exact
MOST_VALUES = 1 << 28
PART = 1 << 16  # vectors looked at at once
TABLE = (1 << 15) - 1  # the largest level of a table


class VectorReport(NamedTuple):
    """What is in a `.cbv` file."""

    shape: tuple[int, ...]
    dtype: str
    states: int
    coded: int  # components that have bits
    blocks: int
    bytes: int
    header_bytes: int
    bits_per_value: float


def compress_vectors(
    z: Float[Tensor, "*b D"],
    quantizer: Trellis | BitTrellis,
    *,
    mask: Bool[Tensor, "*b"] | None = None,
    block: int | None = None,
    power: int = 0,
    centre: Float[Tensor, " D"] | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> bytes:
    """A `.cbv` file of vectors; `decompress_vectors` gives back what `quantizer` makes of them, to rounding.

    All vectors are one sequence, in blocks that decode alone. Frequencies are those of the levels of each block.

    Args:
        quantizer: a `Trellis` or `BitTrellis` after `init_`; what its levels stand for is written to the file.
        mask: where there is a vector at all; elsewhere zeros come back.
        block: vectors of a block, about 2²⁰ values if not given. Each costs the models of its levels and 1.15 bits.
        power: what is decoded is 2^power times the reproduction: for vectors divided by that, as they were too large or
            too small for a quantizer's float32.
        centre: what is decoded is that much more, before it is multiplied: for float64 vectors that the quantizer is to
            see less a mean which float32 does not hold (`large_means`). A file keeps 33 bits of it.
        progress: called with the vectors done and all of them.

    Raises:
        CodecError: vectors that are not finite, of another dimension or type, a quantizer of another kind, or float64
            with a mean so large that its rounding exceeds the code's error, or the spread of that component.
    """
    rows, there = _checked(z, quantizer, mask)
    check_mean(rows, quantizer, power, centre)
    header = _header(z, quantizer, there if mask is not None else None, block, power, centre)
    out = [header.pack()]
    running = zlib.crc32(out[0])
    for begin in range(0, len(rows), header.block):
        indices = quantizer.encode(rows[begin : begin + header.block]).cpu().numpy()
        fixed = header.table is not None
        body = (
            _pack_symbols(indices, header.bits)
            if fixed
            else pack_block(indices[:, header.kept] - HALF, header)
        )
        body = varint.write(len(body)) + body
        running = zlib.crc32(body, running)
        out += [body, running.to_bytes(4, "little")]
        progress(min(begin + header.block, len(rows)), len(rows))
    if len(out) == 1:
        out.append(running.to_bytes(4, "little"))
    return b"".join(out)


def decompress_vectors(data: Data, *, max_values: int = MOST_VALUES) -> Tensor:
    """The vectors in a file, of the shape and type that they had; the same bits on every machine.

    Args:
        max_values: refuse files of more numbers.

    Raises:
        CodecError: the file has more than `max_values` numbers.
        DamagedFile: it is not as it was written.
        UnsupportedFile: it is of another version.
    """
    header, blocks, _ = _opened(read_bytes(data))
    if math.prod(header.shape) > max_values:
        raise CodecError(
            f"the file has {math.prod(header.shape)} numbers; at most max_values={max_values} are accepted"
        )
    # One block after the other in the type of the whole: beside that there is room for a block's float64 only.
    places, done = torch.from_numpy(np.flatnonzero(_there(header))), 0
    rows = torch.zeros(header.vectors, header.shape[-1], dtype=getattr(torch, header.dtype))
    most = torch.finfo(rows.dtype).max
    for body in blocks:
        at = places[done : done + header.block]
        unpack = unpack_block if header.table is None else _unpack_symbols
        # What is beyond the type's largest number becomes that: data of a half's full range stays finite.
        found = _reproduced(unpack(body, len(at), header), header)
        np.clip(found, -most, most, out=found)
        rows[at] = torch.from_numpy(found).to(rows.dtype)
        done += len(at)
    return rows.view(header.shape)


def inspect_vectors(data: Data) -> VectorReport:
    """What is in a file; its checksums are checked, its levels are not decoded.

    Raises:
        DamagedFile: it is not as it was written.
        UnsupportedFile: it is of another version.
    """
    raw = read_bytes(data)
    header, blocks, size = _opened(raw)
    return VectorReport(
        shape=header.shape,
        dtype=header.dtype,
        states=header.states,
        coded=len(header.pitch),
        blocks=len(blocks),
        bytes=len(raw),
        header_bytes=size,
        bits_per_value=8 * len(raw) / max(math.prod(header.shape), 1),
    )


def _checked(z: Tensor, quantizer: Trellis | BitTrellis, mask: Tensor | None) -> tuple[Tensor, np.ndarray]:
    """The vectors to be written as rows, and where there is one."""
    if not isinstance(quantizer, Trellis | BitTrellis):
        raise CodecError(f"quantizer must be a Trellis or a BitTrellis; got {type(quantizer).__name__}")
    quantizer.check_input(z, mask)
    name = str(z.dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise CodecError(f"z is of type {name}; accepted are {', '.join(DTYPES)}")
    rows = z.detach().reshape(-1, quantizer.dim)
    there = np.ones(0, dtype=bool) if mask is None else mask.reshape(-1).cpu().numpy()
    if mask is not None:
        rows = rows[mask.reshape(-1)]
    check_finite(rows)
    return rows, there


def check_finite(rows: Float[Tensor, "n D"]) -> None:
    """CodecError where a vector has NaN or Inf."""
    if bad := sum(int((~part.isfinite().all(-1)).sum()) for part in rows.split(PART)):
        raise CodecError(
            f"z has {bad} vectors with NaN or Inf; finite ones are accepted, or a mask without them"
        )


def _header(
    z: Tensor,
    quantizer: Trellis | BitTrellis,
    mask: np.ndarray | None,
    block: int | None,
    power: int,
    centre: Float[Tensor, " D"] | None,
) -> Header:
    """The quantizer's numbers as integers."""
    if block is not None and (not isinstance(block, int) or block < 1):
        raise CodecError(f"block must be a whole number of vectors, at least 1; got {block!r}")
    numbers = _fixed_numbers(quantizer) if isinstance(quantizer, BitTrellis) else _numbers(quantizer)
    pitch, mean = numbers.pitch, quantizer.mean.double().cpu().numpy()
    mean = mean if centre is None else mean + centre.cpu().numpy()

    # Units so fine that the least pitch is some of them, and so coarse that sums stay exact and the mean fits.
    bits = 0 if numbers.axes is None else numbers.axis_bits
    largest = float(pitch.max(initial=0.0)) * numbers.reach * math.sqrt(quantizer.dim) * 2.0**bits
    finest = (
        numbers.fine - math.log2(float(pitch.min()))
        if len(pitch)
        else 32 - math.log2(max(float(np.abs(mean).max()), 1e-30))
    )
    exponent = math.floor(min(finest, EXACT - math.log2(largest) if len(pitch) else math.inf))
    reach = float(np.abs(mean).max(initial=0.0))
    if reach > 0:
        exponent = min(exponent, MEAN_BITS - math.ceil(math.log2(reach)))
    unit = 2.0**exponent
    return Header(
        shape=tuple(z.shape),
        dtype=str(z.dtype).removeprefix("torch."),
        states=numbers.states,
        block=block or max(1, BLOCK // quantizer.dim),
        exponent=exponent - power,
        mean=np.round(mean * unit).astype(np.int64),
        kept=numbers.kept,
        alone=numbers.alone,
        pitch=np.round(pitch * unit * 2**16).astype(np.int64),
        values={i: np.round(own * unit).astype(np.int64) for i, own in numbers.values.items()},
        axes=None if numbers.axes is None else _integer_axes(numbers.axes, numbers.axis_bits),
        axis_bits=numbers.axis_bits,
        mask=None if mask is None else np.packbits(mask, bitorder="little").tobytes(),
        bits=numbers.bits,
        table=numbers.table,
    )


class _Numbers(NamedTuple):
    """What a header is made of, before its numbers are integers; `Header` says what they are."""

    states: int
    kept: Bool[np.ndarray, " D"]
    alone: Bool[np.ndarray, " K"]
    pitch: Float[np.ndarray, " K"]
    values: dict[int, np.ndarray]
    axes: Float[np.ndarray, "K D"] | None
    axis_bits: int
    reach: int  # levels are below it
    fine: int  # bits that the least pitch has as a number
    bits: int = 0
    table: Int64[np.ndarray, " S"] | None = None


def _numbers(quantizer: Trellis) -> _Numbers:
    kept = (quantizer.step > 0).cpu().numpy()
    values = quantizer.values.double().cpu().numpy()[kept]
    fitted = (quantizer.slope > 0).cpu().numpy()[kept]
    plain = quantizer.transform is None
    # Axes fine enough for the error of the code: 2^−15 leaves a part of 10^−7 or so.
    total, error = float(quantizer.variances.sum()), float((quantizer.noise[quantizer.step > 0]).sum())
    return _Numbers(
        states=quantizer.states,
        kept=kept,
        alone=(quantizer.alone > 0).cpu().numpy()[kept],
        pitch=quantizer.pitch.double().cpu().numpy()[kept],
        values={int(i): values[i, 1:] for i in np.flatnonzero(fitted)},
        axes=None if plain else quantizer.transform_matrix.double().cpu().numpy()[kept],
        axis_bits=15 if error > 1e-4 * total else 22,
        reach=HALF,
        fine=10,
    )


def _fixed_numbers(quantizer: BitTrellis) -> _Numbers:
    """The values of registers as whole numbers of 15 bits, and the scales in their unit."""
    entries = quantizer.entries.double().cpu().numpy()
    unit = float(np.abs(entries).max()) / TABLE
    rotated = quantizer.rotation is not None
    return _Numbers(
        states=len(entries),
        kept=np.ones(quantizer.dim, dtype=bool),
        alone=np.zeros(quantizer.dim, dtype=bool),
        pitch=quantizer.scale.double().cpu().numpy() * unit,
        values={},
        axes=quantizer.rotation_matrix.double().cpu().numpy() if rotated else None,
        axis_bits=15,
        reach=TABLE + 1,
        fine=4,
        bits=quantizer.bits,
        table=np.round(entries / unit).astype(np.int64),
    )


def _integer_axes(axes: Float[np.ndarray, "K D"], bits: int) -> Int64[np.ndarray, "K D"]:
    most = (1 << (15 if bits == 15 else 23)) - 1
    return np.clip(np.round(axes * 2.0**bits), -most, most).astype(np.int64)


def _pack_symbols(symbols: Int64[np.ndarray, "n D"], bits: int) -> bytes:
    """So many bits of each, the lowest first, one after the other."""
    return level_streams.low_bits(symbols.ravel(), bits)


def _unpack_symbols(body: bytes, tokens: int, header: Header) -> Int64[np.ndarray, "n D"]:
    """The levels of a block of symbols: its registers', around each vector.

    Raises:
        DamagedFile: not so many bytes, or bits after the last symbol.
    """
    count = tokens * header.shape[-1] * header.bits
    octets = np.unpackbits(np.frombuffer(body, dtype=np.uint8), bitorder="little")
    if len(body) != -(-count // 8) or octets[count:].any():
        raise DamagedFile(f"a block has {len(body)} bytes; {tokens} vectors have {count} bits")
    symbols = octets[:count].reshape(-1, header.bits).astype(np.int64) @ (1 << np.arange(header.bits))
    assert header.table is not None
    rows = torch.from_numpy(symbols.reshape(tokens, header.shape[-1]))
    return reproduced(rows, torch.from_numpy(header.table), header.bits).numpy()


def _reproduced(levels: Int64[np.ndarray, "n K"], header: Header) -> Float[np.ndarray, "n D"]:
    """The vectors of levels, exactly."""
    # Halves away from 0 for either sign: one less is added below 0, where a shift rounds down.
    points = levels * header.pitch
    points += 1 << 15
    points += levels >> 63
    points >>= 16
    for i, values in header.values.items():
        table, size = np.concatenate([[0], values]), np.abs(levels[:, i])
        inner = np.minimum(size, VALUES)
        further = ((size - inner) * header.pitch[i] + (1 << 15)) >> 16
        points[:, i] = np.sign(levels[:, i]) * (table[inner] + further)

    # Sums of whole numbers below 2^53.
    if header.axes is None:
        sums = np.empty((len(levels), header.shape[-1]))
        sums[:] = header.mean
        if header.kept.all():
            sums += points
        else:
            sums[:, header.kept] += points
        return _scaled(sums, -header.exponent)
    if float(np.abs(points).max(initial=0)) * float(np.abs(header.axes).sum(0).max(initial=0)) >= 2.0**53:
        raise DamagedFile("the file's levels are too large for its axes")
    sums = points.astype(np.float64) @ header.axes.astype(np.float64)
    sums *= 2.0**-header.axis_bits
    sums += header.mean
    return _scaled(sums, -header.exponent)


def _scaled(sums: Float[np.ndarray, "n D"], exponent: int) -> Float[np.ndarray, "n D"]:
    """sums·2^exponent, rounded once: a product, ten times as fast as `ldexp`, where the factor is a normal number."""
    with np.errstate(over="ignore"):
        if abs(exponent) > 1000:
            return np.ldexp(sums, exponent)
        sums *= 2.0**exponent
    return sums


def _there(header: Header) -> Bool[np.ndarray, " n"]:
    """Where there is a vector."""
    if header.mask is None:
        return np.ones(header.vectors, dtype=bool)
    bits = np.unpackbits(np.frombuffer(header.mask, dtype=np.uint8), bitorder="little").astype(bool)
    if bits[header.vectors :].any():
        raise DamagedFile("the file's mask is longer than its vectors")
    return bits[: header.vectors]


def _count(header: Header) -> int:
    """How many vectors there are."""
    return header.vectors if header.mask is None else int(_there(header).sum())


def _opened(raw: bytes) -> tuple[Header, list[bytes], int]:
    """Header, the blocks' bytes and the header's size; every byte is accounted for, every checksum right.

    Raises:
        DamagedFile: it is not so.
        UnsupportedFile: another version.
    """
    reader = varint.Reader(raw)
    header = Header.unpack(reader)
    size, running = reader.at, zlib.crc32(raw[: reader.at])
    blocks = []
    for _ in range(-(-_count(header) // header.block)):
        start = reader.at
        blocks.append(reader.take(reader.number("block length", 0, len(raw)), "block"))
        running = zlib.crc32(raw[start : reader.at], running)
        _check_sum(reader, running)
    if not blocks:
        _check_sum(reader, running)
    if reader.at != len(raw):
        raise DamagedFile(f"the file goes on for {len(raw) - reader.at} bytes after its end")
    return header, blocks, size


def _check_sum(reader: varint.Reader, running: int) -> None:
    if int.from_bytes(reader.take(4, "checksum"), "little") != running:
        raise DamagedFile("the file is damaged: the checksum of its bytes is wrong")
