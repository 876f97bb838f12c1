"""The container of a `.cbd` file: which model, which sizes, and per segment a stream with its checksums.

    signature 8 · version 1 · flags 1 · model 8 · levels · sizes · [picture] · [profile] · number of segments
    segment:  height · width · length · modes · CRC of indices 4 · CRC of bytes 4 · stream

Numbers without a size are varints; docs/format.md describes every field. Reading allocates no more than the file is
long: a grid that its stream is too short for is refused before anyone makes room for it.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from codebound.coding import varint
from codebound.coding.errors import DamagedFile, UnsupportedFile

SIGNATURE = b"\x89CBD\r\n\x1a\n"  # as PNG's: not text, and changed by whatever converts line ends
# Those of arrays with names and of vectors (codec/arrays.py, codec/vectors.py); here, as a look needs no NumPy.
ARRAYS, VECTORS = b"\x89CBM", b"\x89CBV"
VERSION = 1
VERSIONS = {1: "holds indices", 2: "holds a picture of wavelet coefficients", 3: "holds sound"}
HASH = 8  # bytes that name a model
NO_MODEL = bytes(HASH)
CODEBOOK = 1 << 16  # the largest codebook
LEVELS = 64
SIDE = 1 << 24  # of a grid
INDICES_PER_BYTE = 1024  # a stream has at least one byte for so many indices
PROFILE = 127  # bytes of a colour profile's name
_UNEQUAL, _PICTURE, _GREY, _PROFILE, _FOLDED = 1, 2, 4, 8, 16  # flags
_KNOWN = _UNEQUAL | _PICTURE | _GREY | _PROFILE | _FOLDED


class Mode(enum.IntEnum):
    """How the probabilities of a level's indices come about."""

    RAW = 0
    ADAPTIVE = 1
    CONTEXT = 2
    NETWORK = 3


class Picture(NamedTuple):
    """Size in pixels of the picture that the indices stand for, and whether it is grey."""

    height: int
    width: int
    grey: bool


class Segment(NamedTuple):
    """One grid: its size, the mode of each level, one stream for all of them, and the CRC-32 of the indices."""

    height: int
    width: int
    modes: tuple[Mode, ...]
    stream: bytes
    checksum: int


class Container(NamedTuple):
    """What a file holds. `model` is `NO_MODEL` where none is needed; `picture` None where the indices are all.

    `profile` names the colours that the picture was in before it was converted to sRGB; "" if that was all the same.
    `folded`: the picture's grid is long and thin, and its pieces are coded instead (docs/format.md).
    """

    model: bytes
    codebook_sizes: tuple[int, ...]
    picture: Picture | None
    segments: tuple[Segment, ...]
    profile: str = ""
    folded: bool = False


def least_bytes(height: int, width: int, levels: int) -> int:
    """How many bytes a stream of such a grid has at least."""
    return -(-height * width * levels // INDICES_PER_BYTE)


def pack(container: Container) -> bytes:
    """The bytes of a file."""
    parts = [_header(container)]
    running = zlib.crc32(parts[0])
    for segment in container.segments:
        head = _segment_head(segment)
        running = zlib.crc32(segment.stream, zlib.crc32(head, running))
        parts += [head, running.to_bytes(4, "little"), segment.stream]
    return b"".join(parts)


def _header(container: Container) -> bytes:
    """The bytes before the first segment."""
    sizes, picture = container.codebook_sizes, container.picture
    flags, stored, shown = 0, sizes[:1], ()
    if len(set(sizes)) > 1:
        flags, stored = _UNEQUAL, sizes
    if picture is not None:
        flags, shown = flags | _PICTURE | _GREY * picture.grey, (picture.height, picture.width)
    numbers = [len(sizes), *(size - 1 for size in stored), *shown]
    if named := write_profile(container.profile):
        flags |= _PROFILE
    flags |= _FOLDED * container.folded
    start = SIGNATURE + bytes([VERSION, flags]) + container.model
    return start + _varints(numbers) + named + _varints([len(container.segments)])


def _cut(profile: str) -> bytes:
    """A name as printable UTF-8 of the length that a file holds."""
    text = "".join(sign for sign in profile if sign.isprintable())
    return text.encode()[:PROFILE].decode(errors="ignore").encode()


def _segment_head(segment: Segment) -> bytes:
    """The bytes of a segment before the CRC of its bytes. Modes: two bits each, the first level's lowest."""
    modes = sum(mode << 2 * level for level, mode in enumerate(segment.modes))
    return (
        _varints([segment.height, segment.width, len(segment.stream)])
        + modes.to_bytes(-(-len(segment.modes) // 4), "little")
        + segment.checksum.to_bytes(4, "little")
    )


def unpack(data: bytes) -> Container:
    """What the bytes of a file hold, checked: every byte is accounted for and every CRC of bytes is right.

    Whether the indices are right shows when they are decoded.

    Raises:
        DamagedFile: not a `.cbd` file, cut off, changed, or with bytes after its end.
        UnsupportedFile: of another version.
    """
    reader = opened(data, VERSION)
    (flags,) = reader.take(1, "header")
    if flags & ~_KNOWN:
        raise UnsupportedFile(f"the file has flags {flags:#04x}; this package knows {_KNOWN:#04x}")
    model = reader.take(HASH, "header")
    levels = reader.number("number of levels", 1, LEVELS)
    stored = levels if flags & _UNEQUAL else 1
    sizes = tuple(1 + reader.number("codebook size less 1", 1, CODEBOOK - 1) for _ in range(stored))
    picture = None
    if flags & _PICTURE:
        height, width = (reader.number("picture size", 1, SIDE) for _ in range(2))
        picture = Picture(height, width, bool(flags & _GREY))
    profile, folded = read_profile(reader) if flags & _PROFILE else "", bool(flags & _FOLDED)
    if folded and picture is None:
        raise DamagedFile("the file is one of folded indices without a picture")
    count = reader.number("number of segments", 1, max(len(data), 1))
    running, segments = zlib.crc32(reader.data[: reader.at]), []
    for _ in range(count):
        segment, running = _segment(reader, levels, running)
        segments.append(segment)
    if reader.at != len(data):
        raise DamagedFile(f"the file goes on for {len(data) - reader.at} bytes after its end")
    return Container(
        model, sizes if flags & _UNEQUAL else sizes * levels, picture, tuple(segments), profile, folded
    )


def write_profile(profile: str) -> bytes:
    """The field of a colour profile's name, which is cut to what fits; nothing for ""."""
    name = _cut(profile)
    return _varints([len(name)]) + name if name else b""


def read_profile(reader: varint.Reader) -> str:
    """The name of a colour profile."""
    name = reader.take(reader.number("length of the profile's name", 1, PROFILE), "profile's name")
    text = name.decode(errors="replace")
    if _cut(text) != name:
        raise DamagedFile("the file's name of a colour profile is no printable text")
    return text


def _segment(reader: varint.Reader, levels: int, running: int) -> tuple[Segment, int]:
    """The next segment, and the CRC of all bytes up to its end but for the CRCs of bytes themselves."""
    start = reader.at
    height = reader.number("grid height", 1, SIDE)
    width = reader.number("grid width", 1, SIDE)
    length = reader.number("stream length", 1, (1 << 35) - 1)
    modes = int.from_bytes(reader.take(-(-levels // 4), "modes"), "little")
    if modes >> 2 * levels:
        raise DamagedFile(f"the file has modes of more than {levels} levels")
    expected = int.from_bytes(reader.take(4, "checksum"), "little")
    running = zlib.crc32(reader.data[start : reader.at], running)
    stated = int.from_bytes(reader.take(4, "checksum"), "little")
    least = least_bytes(height, width, levels)
    if length < least:
        raise DamagedFile(
            f"a stream of {length} bytes can't hold {levels} levels of {height}x{width}: {least} bytes at least"
        )
    stream = reader.take(length, "stream")
    running = zlib.crc32(stream, running)
    if running != stated:
        raise DamagedFile("the file is damaged: the checksum of its bytes is wrong")
    level_modes = tuple(Mode(modes >> 2 * level & 3) for level in range(levels))
    return Segment(height, width, level_modes, stream, expected), running


def version(data: bytes) -> int:
    """The version of the format that a file says it has.

    Raises:
        DamagedFile: not a `.cbd` file.
    """
    start = data[: len(SIGNATURE)]
    if start != SIGNATURE:
        kind = "it is empty" if not start else f"it starts with {start!r}"
        raise DamagedFile(f"not a .cbd file: {kind}")
    (found,) = varint.Reader(data[len(SIGNATURE) :]).take(1, "header")
    return found


def opened(data: bytes, expected: int) -> varint.Reader:
    """A file's bytes, read up to its version.

    Raises:
        DamagedFile: not a `.cbd` file.
        UnsupportedFile: of another version.
    """
    found = version(data)
    if found in VERSIONS and found != expected:
        raise UnsupportedFile(f"the file {VERSIONS[found]}, which is not what is read here")
    if found != expected:
        raise UnsupportedFile(
            f"the file has format version {found}; this package reads versions {', '.join(map(str, VERSIONS))}"
        )
    reader = varint.Reader(data)
    reader.take(len(SIGNATURE) + 1, "signature")
    return reader


def _varints(numbers: Sequence[int]) -> bytes:
    return b"".join(varint.write(number) for number in numbers)
