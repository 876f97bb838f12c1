"""The container: what is written is read; what is not as written is refused, at once and in little memory."""

import struct
import time
import tracemalloc
import zlib

import pytest

from codebound.coding import varint
from codebound.coding.container import (
    INDICES_PER_BYTE,
    NO_MODEL,
    SIGNATURE,
    Container,
    Mode,
    Picture,
    Segment,
    pack,
    unpack,
)
from codebound.coding.errors import CodecError, DamagedFile, UnsupportedFile

SEGMENT = Segment(3, 5, (Mode.CONTEXT, Mode.NETWORK), b"abcd", 0xDEADBEEF)
PICTURE = Container(b"12345678", (256, 256), Picture(300, 39, False), (SEGMENT,))


@pytest.mark.parametrize(
    "container",
    [
        PICTURE,
        Container(NO_MODEL, (2, 65_536), None, (SEGMENT, SEGMENT, SEGMENT)),
        Container(NO_MODEL, (17,), Picture(1, 1, True), (Segment(1, 1, (Mode.NETWORK,), bytes(900), 0),)),
        Container(NO_MODEL, (17,) * 9, None, (Segment(1, 1, (Mode.NETWORK,) * 9, b"\0", 0),)),
    ],
)
def test_what_is_packed_is_unpacked(container: Container) -> None:
    assert unpack(pack(container)) == container


@pytest.mark.parametrize(
    ("name", "kept"),
    [("Display P3", "Display P3"), ("Ünïque\n☂", "Ünïque☂"), ("é" * 100, "é" * 63), ("\0\x1b", "")],
)
def test_the_name_of_a_profile(name: str, kept: str) -> None:
    data = pack(PICTURE._replace(profile=name))
    assert unpack(data) == PICTURE._replace(profile=kept)
    assert (data == pack(PICTURE)) == (kept == "")


@pytest.mark.parametrize("name", [b"\x1b[2J", b"\xff\xfe", b"", b"n" * 128])
def test_a_name_that_is_no_text_is_refused(name: bytes) -> None:
    before = SIGNATURE + bytes([1, 10]) + NO_MODEL + varint.write(1) + varint.write(8) + varint.write(4) * 2
    with pytest.raises(DamagedFile, match="profile"):
        unpack(before + varint.write(len(name)) + name + bytes(40))


def test_golden_bytes() -> None:
    assert pack(PICTURE).hex() == (
        "894342440d0a1a0a" + "01" + "02" + b"12345678".hex() + "02" + "ff01" + "ac02" + "27" + "01"
        "03" + "05" + "04" + "0e" + "efbeadde" + "a82e89a3" + "61626364"
    )


@pytest.mark.parametrize("levels", [1, 4, 12])
def test_the_header_of_one_picture_is_48_bytes_at_most(levels: int) -> None:
    segment = Segment(500, 375, (Mode.NETWORK,) * levels, bytes(2_000_000), 0xFFFFFFFF)
    container = Container(b"12345678", (1024,) * levels, Picture(4000, 3000, True), (segment,))
    assert len(pack(container)) - 2_000_000 <= 44


@pytest.mark.parametrize("number", [0, 1, 127, 128, 16_383, 16_384, 2**35 - 1])
def test_varints(number: int) -> None:
    assert varint.Reader(varint.write(number)).number("n", 0, 2**35) == number


@pytest.mark.parametrize("data", [b"\x80\x00", b"\x80\x80\x00", b"\xff" * 5 + b"\x01", b"\x80", b""])
def test_varints_in_another_form_are_refused(data: bytes) -> None:
    with pytest.raises(DamagedFile):
        varint.Reader(data).number("n", 0, 2**63)


def test_every_truncation_is_refused() -> None:
    data = pack(PICTURE)
    for length in range(len(data)):
        with pytest.raises(CodecError):
            unpack(data[:length])


def test_every_flipped_bit_is_refused() -> None:
    data = pack(PICTURE)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CodecError):
            unpack(bytes(flipped))


def test_what_follows_the_end_is_refused() -> None:
    with pytest.raises(DamagedFile, match="goes on for 1 bytes"):
        unpack(pack(PICTURE) + b"\0")


def test_exchanged_segments_are_refused() -> None:
    other = SEGMENT._replace(checksum=1)
    one = pack(Container(NO_MODEL, (9, 9), None, (SEGMENT, other)))
    size = 16  # of a segment
    head = len(one) - 2 * size
    first, second = one[head : head + size], one[head + size :]
    assert len(first) == len(second)
    with pytest.raises(DamagedFile, match="checksum"):
        unpack(one[:head] + second + first)


def test_another_version_is_named() -> None:
    data = bytearray(pack(PICTURE))
    data[8] = 9
    with pytest.raises(UnsupportedFile, match="version 9"):
        unpack(bytes(data))


def whole(*fields: bytes, flags: int = 0) -> bytes:
    """A file with these header fields, a stream of one byte and right checksums, whatever the fields say."""
    before = SIGNATURE + bytes([1, flags]) + NO_MODEL + b"".join(fields) + bytes(4)
    return before + zlib.crc32(b"x", zlib.crc32(before)).to_bytes(4, "little") + b"x"


def hostile() -> list[bytes]:
    """Fifty and more headers that ask for too much, with right checksums."""
    n = varint.write
    huge = [n(2**k - 1) for k in (25, 28, 30, 31, 32, 33, 34, 35)]
    negative = [b"\xff" * 4 + b"\x7f", b"\xff" * 9 + b"\x01", b"\xff" * 10, struct.pack("<q", -5)]
    nan = [struct.pack(form, value) for form in ("<f", "<d") for value in (float("nan"), float("inf"), -1.0)]
    good = [
        n(1),
        n(255),
        n(1),
        n(4),
        n(4),
        n(1),
        b"\0",
    ]  # levels, size, segments, height, width, length, modes
    assert unpack(whole(*good)).segments[0].height == 4
    cases = []
    for place in range(6):
        for bad in (*huge, *negative, *nan, n(0)):
            cases.append(whole(*good[:place], bad, *good[place + 1 :]))
    cases.append(whole(n(1), n(65_536), *good[2:]))
    cases.append(whole(n(65), *good[1:]))
    cases += [whole(*good[:3], n(side), n(INDICES_PER_BYTE), *good[5:]) for side in (2, 2**12, 2**24 - 1)]
    cases.append(whole(n(64), *good[1:3], n(5), n(5), n(1), bytes(16)))
    cases += [whole(*good[:2], size, n(1), *good[2:], flags=2) for size in (*huge, n(0))]
    cases.append(whole(*good[:6], b"\x04"))
    return cases


def test_hostile_headers_are_refused_at_once_and_in_little_memory() -> None:
    cases = hostile()
    assert len(cases) >= 50
    for data in cases:
        tracemalloc.start()
        start = time.process_time()
        with pytest.raises(CodecError):
            unpack(data)
        seconds, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert seconds < 0.05, data.hex()
        assert peak < 16e6, data.hex()


def test_many_segments_are_read_in_linear_time() -> None:
    segment = Segment(1, 1, (Mode.RAW,), b"x", 0)
    data = pack(Container(NO_MODEL, (2,), None, (segment,) * 5_000))
    start = time.process_time()
    assert len(unpack(data).segments) == 5_000
    assert time.process_time() - start < 5
