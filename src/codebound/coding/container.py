"""The container of a `.cbd` file: which model, which sizes, and per segment the streams with their checksums.

    signature 8 · version 1 · flags 1 · model 8 · levels · sizes · [trims] · number of segments
    segment:  height · width · (length·4 + mode) per level · CRC of indices 4 · CRC of bytes 4 · streams

Numbers without a size are varints; docs/format.md describes every field. Reading allocates no more than the file is
long: a grid that its streams are too short for is refused before anyone makes room for it.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from codebound.coding import varint
from codebound.coding.errors import DamagedFile, UnsupportedFile

SIGNATURE = b"\x89CBD\r\n\x1a\n"  # as PNG's: not text, and changed by whatever converts line ends
VERSION = 1
HASH = 8  # bytes that name a model
NO_MODEL = bytes(HASH)
CODEBOOK = 1 << 16  # the largest codebook
LEVELS = 64
SIDE = 1 << 24  # of a grid
TRIM = 1 << 16
INDICES_PER_BYTE = 1024  # a stream has at least one byte for so many indices
_UNEQUAL, _PICTURE = 1, 2  # flags


class Mode(enum.IntEnum):
    """How a stream's probabilities come about."""

    RAW = 0
    ADAPTIVE = 1
    CONTEXT = 2
    NETWORK = 3


class Stream(NamedTuple):
    """The indices of one level of one grid."""

    mode: Mode
    payload: bytes


class Segment(NamedTuple):
    """One grid: its streams, one per level, and the CRC-32 that its indices must have."""

    height: int
    width: int
    streams: tuple[Stream, ...]
    checksum: int


class Container(NamedTuple):
    """What a file holds. `model` is `NO_MODEL` where none is needed.

    `trims` is there for a picture: rows and columns to cut off below and at the right after decoding.
    """

    model: bytes
    codebook_sizes: tuple[int, ...]
    trims: tuple[int, int] | None
    segments: tuple[Segment, ...]


def checksum(indices: Int64[np.ndarray, "h w q"]) -> int:
    """CRC-32 of the indices as little-endian 16-bit numbers, level by level, each row by row."""
    return zlib.crc32(np.ascontiguousarray(indices.transpose(2, 0, 1)).astype("<u2").tobytes())


def least_bytes(height: int, width: int) -> int:
    """How many bytes a stream of so many indices has at least."""
    return -(-height * width // INDICES_PER_BYTE)


def pack(container: Container) -> bytes:
    """The bytes of a file."""
    parts = [header(container)]
    running = zlib.crc32(parts[0])
    for segment in container.segments:
        head, payloads = segment_head(segment), b"".join(stream.payload for stream in segment.streams)
        running = zlib.crc32(payloads, zlib.crc32(head, running))
        parts += [head, running.to_bytes(4, "little"), payloads]
    return b"".join(parts)


def header(container: Container) -> bytes:
    """The bytes before the first segment."""
    sizes = container.codebook_sizes
    unequal = len(set(sizes)) > 1
    flags = _UNEQUAL * unequal | _PICTURE * (container.trims is not None)
    stored = sizes if unequal else sizes[:1]
    numbers = [len(sizes), *(size - 1 for size in stored), *(container.trims or ()), len(container.segments)]
    return SIGNATURE + bytes([VERSION, flags]) + container.model + _varints(numbers)


def segment_head(segment: Segment) -> bytes:
    """The bytes of a segment before the CRC of its bytes."""
    streams = (len(stream.payload) << 2 | stream.mode for stream in segment.streams)
    return _varints([segment.height, segment.width, *streams]) + segment.checksum.to_bytes(4, "little")


def unpack(data: bytes) -> Container:
    """What the bytes of a file hold, checked: every byte is accounted for and every CRC of bytes is right.

    Whether the indices are right shows when they are decoded.

    Raises:
        DamagedFile: not a `.cbd` file, cut off, changed, or with bytes after its end.
        UnsupportedFile: of another version.
    """
    reader = varint.Reader(data)
    _check_signature(reader.take(min(len(SIGNATURE), len(data)), "signature"))
    version, flags = reader.take(2, "header")
    if version != VERSION:
        raise UnsupportedFile(f"the file has format version {version}; this package reads version {VERSION}")
    if flags & ~(_UNEQUAL | _PICTURE):
        raise UnsupportedFile(
            f"the file has flags {flags:#04x}; this package knows {_UNEQUAL | _PICTURE:#04x}"
        )
    model = reader.take(HASH, "header")
    levels = reader.number("number of levels", 1, LEVELS)
    stored = levels if flags & _UNEQUAL else 1
    sizes = tuple(1 + reader.number("codebook size less 1", 1, CODEBOOK - 1) for _ in range(stored))
    trims = None
    if flags & _PICTURE:
        trims = (reader.number("trim", 0, TRIM), reader.number("trim", 0, TRIM))
    count = reader.number("number of segments", 1, max(len(data), 1))
    running, segments = zlib.crc32(reader.data[: reader.at]), []
    for _ in range(count):
        segment, running = _segment(reader, levels, running)
        segments.append(segment)
    if reader.at != len(data):
        raise DamagedFile(f"the file goes on for {len(data) - reader.at} bytes after its end")
    return Container(model, sizes if flags & _UNEQUAL else sizes * levels, trims, tuple(segments))


def _segment(reader: varint.Reader, levels: int, running: int) -> tuple[Segment, int]:
    """The next segment, and the CRC of all bytes up to its end but for the CRCs of bytes themselves."""
    start = reader.at
    height = reader.number("grid height", 1, SIDE)
    width = reader.number("grid width", 1, SIDE)
    heads = [reader.number("stream length", 0, (1 << 35) - 1) for _ in range(levels)]
    expected = int.from_bytes(reader.take(4, "checksum"), "little")
    running = zlib.crc32(reader.data[start : reader.at], running)
    stated = int.from_bytes(reader.take(4, "checksum"), "little")
    streams = tuple(Stream(Mode(head & 3), reader.take(head >> 2, "stream")) for head in heads)
    for stream in streams:
        running = zlib.crc32(stream.payload, running)
    if running != stated:
        raise DamagedFile("the file is damaged: the checksum of its bytes is wrong")
    shortest, least = min(len(stream.payload) for stream in streams), least_bytes(height, width)
    if shortest < least:
        raise DamagedFile(
            f"a stream of {shortest} bytes can't hold a grid of {height}x{width}: {least} bytes at least"
        )
    return Segment(height, width, streams, expected), running


def _check_signature(start: bytes) -> None:
    if start != SIGNATURE:
        kind = "it is empty" if not start else f"it starts with {start!r}"
        raise DamagedFile(f"not a .cbd file: {kind}")


def _varints(numbers: Sequence[int]) -> bytes:
    return b"".join(varint.write(number) for number in numbers)
