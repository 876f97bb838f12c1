"""The container of a `.cbd` file of version 2: one picture as wavelet coefficients, with its checksums.

    signature 8 · version 1 · flags 1 · step 1 · flat step 1 · model 8 · height · width · [profile] · length
    CRC of pixels 4 · CRC of bytes 4 · stream

Numbers without a size are varints; docs/picture-format.md describes every field.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from codebound.coding import varint
from codebound.coding.container import HASH, SIDE, SIGNATURE, read_profile, write_profile
from codebound.coding.container import opened as opened_version
from codebound.coding.errors import DamagedFile, UnsupportedFile

VERSION = 2
STEP = 143  # the largest step number
PIXELS_PER_BYTE = (
    1 << 12
)  # a stream has at least one byte for so many pixels: what decoding takes is bounded by it
QUALITIES = range(1, 101)
_GREY, _PROFILE = 1, 2  # flags
_KNOWN = _GREY | _PROFILE


class PictureFile(NamedTuple):
    """What a file holds.

    Attributes:
        model: the first bytes of the SHA-256 of the model.
        height, width: in pixels.
        grey: whether there is one plane.
        step, flat: step numbers, of all waves and of those that patches of one colour are made of.
        stream: the coded coefficients.
        checksum: CRC-32 of the decoded pixels.
        profile: the colours that the picture was in before it was converted to sRGB; "" if they were sRGB's.
    """

    model: bytes
    height: int
    width: int
    grey: bool
    step: int
    flat: int
    stream: bytes
    checksum: int
    profile: str = ""


def step_of(quality: int) -> int:
    """The step number of a quality, 1 … 100: 127 − 1.27·quality, and below 10 up to 17 more. The best has number 0."""
    return 127 - round(127 * quality / QUALITIES[-1]) + 17 * max(10 - quality, 0) // 9


def quality_of(step: int) -> int:
    """The quality whose step number this is, or the nearest one."""
    return min(QUALITIES, key=lambda quality: abs(step_of(quality) - step))


def least_bytes(height: int, width: int) -> int:
    """How many bytes the stream of such a picture has at least."""
    return -(-height * width // PIXELS_PER_BYTE)


def pack(picture: PictureFile) -> bytes:
    """The bytes of a file; zeros at the end of the stream, up to the length that it has at least, change nothing."""
    stream = picture.stream.ljust(least_bytes(picture.height, picture.width), b"\0")
    named = write_profile(picture.profile)
    head = SIGNATURE + bytes([VERSION, _GREY * picture.grey | _PROFILE * bool(named)])
    head += bytes([picture.step, picture.flat])
    head += picture.model + varint.write(picture.height) + varint.write(picture.width) + named
    head += varint.write(len(stream)) + picture.checksum.to_bytes(4, "little")
    return head + zlib.crc32(stream, zlib.crc32(head)).to_bytes(4, "little") + stream


def unpack(data: bytes) -> PictureFile:
    """What the bytes of a file hold, checked: every byte is accounted for and the CRC of bytes is right.

    Raises:
        DamagedFile: not a `.cbd` file, cut off, changed, or with bytes after its end.
        UnsupportedFile: of another version, or with flags of a later one.
    """
    # The header.
    reader = opened_version(data, VERSION)
    flags, step, flat = reader.take(3, "header")
    if flags & ~_KNOWN:
        raise UnsupportedFile(f"the file has flags {flags:#04x}; this package knows {_KNOWN:#04x}")
    if max(step, flat) > STEP:
        raise DamagedFile(f"the file's step numbers are {step}, {flat}; accepted: 0 … {STEP}")
    model = reader.take(HASH, "header")
    height, width = (reader.number("picture size", 1, SIDE) for _ in range(2))
    profile = read_profile(reader) if flags & _PROFILE else ""

    # The stream, which has a length in proportion to the picture, and nothing behind it.
    length = reader.number("stream length", 1, (1 << 35) - 1)
    checksum = int.from_bytes(reader.take(4, "checksum"), "little")
    running = zlib.crc32(reader.data[: reader.at])
    stated = int.from_bytes(reader.take(4, "checksum"), "little")
    if length < (least := least_bytes(height, width)):
        raise DamagedFile(
            f"a stream of {length} bytes can't hold {height}x{width} pixels: {least} bytes at least"
        )
    stream = reader.take(length, "stream")
    if reader.at != len(data):
        raise DamagedFile(f"the file goes on for {len(data) - reader.at} bytes after its end")
    if zlib.crc32(stream, running) != stated:
        raise DamagedFile("the file is damaged: the checksum of its bytes is wrong")
    return PictureFile(model, height, width, bool(flags & _GREY), step, flat, stream, checksum, profile)
