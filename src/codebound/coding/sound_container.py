"""The container of a `.cbd` file of version 3: sound as frames of indices, in segments of a second or two.

    signature 8 · version 1 · flags 1 · model 8 · sample rate · channels · stages · codebook size less 1
    segment:  frames · mode 1 · length · CRC of indices 4 · CRC of bytes 4 · stream
    end:      0 · samples · CRC of bytes 4

Numbers without a size are varints; docs/sound-format.md describes every field. A segment's checksum begins from the
header's and the segment's number: damage stays within a segment, and a segment can't take another's place. How many
samples there are is said at the end, so that a file can be written while the sound comes.
"""

from __future__ import annotations

import enum
import zlib
from typing import NamedTuple

from codebound.coding import varint
from codebound.coding.container import CODEBOOK, HASH, LEVELS, SIGNATURE
from codebound.coding.container import opened as opened_version
from codebound.coding.errors import DamagedFile, UnsupportedFile

VERSION = 3
RATES = (1_000, 384_000)
CHANNELS = 2
FRAMES = 1024  # of a segment, at most
SAMPLES = (1 << 35) - 1
_ALIKE = 0x80  # in a mode: the channels are equal, and coded once


class SoundMode(enum.IntEnum):
    """How the probabilities of a segment's indices come about."""

    RAW = 0
    PRIOR = 1


class SoundHeader(NamedTuple):
    """What a file says at its beginning.

    Attributes:
        model: the first bytes of the SHA-256 of tokenizer and prior.
        sample_rate, channels: of the sound.
        stages, codebook_size: of the indices.
    """

    model: bytes
    sample_rate: int
    channels: int
    stages: int
    codebook_size: int

    def pack(self) -> bytes:
        """The first bytes of a file."""
        numbers = (self.sample_rate, self.channels, self.stages, self.codebook_size - 1)
        return SIGNATURE + bytes([VERSION, 0]) + self.model + b"".join(map(varint.write, numbers))


class SoundSegment(NamedTuple):
    """Some frames of all channels.

    Attributes:
        frames: of each channel.
        mode: how they are coded.
        alike: the channels are equal, and coded once.
        stream: the coded indices.
        checksum: CRC-32 of the indices.
    """

    frames: int
    mode: SoundMode
    alike: bool
    stream: bytes
    checksum: int


class SoundFile(NamedTuple):
    """What a file holds."""

    header: SoundHeader
    segments: tuple[SoundSegment, ...]
    samples: int


def pack_segment(segment: SoundSegment, header: bytes, number: int) -> bytes:
    """The bytes of segment `number` of a file with this header."""
    head = varint.write(segment.frames) + bytes([segment.mode | _ALIKE * segment.alike])
    head += varint.write(len(segment.stream)) + segment.checksum.to_bytes(4, "little")
    running = zlib.crc32(segment.stream, zlib.crc32(head, _seed(header, number)))
    return head + running.to_bytes(4, "little") + segment.stream


def pack_end(samples: int, header: bytes, segments: int) -> bytes:
    """The bytes behind the last segment."""
    head = varint.write(0) + varint.write(samples)
    return head + zlib.crc32(head, _seed(header, segments)).to_bytes(4, "little")


def unpack(data: bytes) -> SoundFile:
    """What the bytes of a file hold, checked: every byte is accounted for and every CRC of bytes is right.

    Raises:
        DamagedFile: not a `.cbd` file, cut off, changed, or with bytes after its end.
        UnsupportedFile: of another version, or with flags of a later one.
    """
    # The header.
    reader = opened_version(data, VERSION)
    (flags,) = reader.take(1, "header")
    if flags:
        raise UnsupportedFile(f"the file has flags {flags:#04x}; this package knows none for sound")
    model = reader.take(HASH, "header")
    rate = reader.number("sample rate", *RATES)
    channels = reader.number("number of channels", 1, CHANNELS)
    stages = reader.number("number of stages", 1, LEVELS)
    size = 1 + reader.number("codebook size less 1", 1, CODEBOOK - 1)
    header = SoundHeader(model, rate, channels, stages, size)
    start = bytes(reader.data[: reader.at])

    # Segments until one of no frames, which is the end.
    segments: list[SoundSegment] = []
    while True:
        at = reader.at
        frames = reader.number("number of frames", 0, FRAMES)
        if not frames:
            break
        segments.append(_segment(reader, frames, at, _seed(start, len(segments)), channels))
    samples = reader.number("number of samples", 1, SAMPLES)
    running = zlib.crc32(reader.data[at : reader.at], _seed(start, len(segments)))
    if int.from_bytes(reader.take(4, "checksum"), "little") != running:
        raise DamagedFile("the file is damaged: the checksum of its end is wrong")
    if reader.at != len(data):
        raise DamagedFile(f"the file goes on for {len(data) - reader.at} bytes after its end")
    if not segments:
        raise DamagedFile("the file holds no frames")
    return SoundFile(header, tuple(segments), samples)


def _segment(reader: varint.Reader, frames: int, at: int, seed: int, channels: int) -> SoundSegment:
    """The rest of a segment that begins at byte `at`."""
    (coded,) = reader.take(1, "mode")
    mode, alike = coded & ~_ALIKE, bool(coded & _ALIKE)
    if mode not in SoundMode.__members__.values() or (alike and channels == 1):
        raise DamagedFile(f"the file has a segment of mode {coded:#04x}, which there is not")
    length = reader.number("stream length", 0, 1 << 24)
    checksum = int.from_bytes(reader.take(4, "checksum"), "little")
    running = zlib.crc32(reader.data[at : reader.at], seed)
    stated = int.from_bytes(reader.take(4, "checksum"), "little")
    stream = reader.take(length, "stream")
    if zlib.crc32(stream, running) != stated:
        raise DamagedFile("the file is damaged: the checksum of its bytes is wrong")
    return SoundSegment(frames, SoundMode(mode), alike, stream, checksum)


def _seed(header: bytes, number: int) -> int:
    """What the checksum of a part begins from."""
    return zlib.crc32(number.to_bytes(8, "little"), zlib.crc32(header))
