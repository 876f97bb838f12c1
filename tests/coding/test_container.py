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
    Segment,
    Stream,
    pack,
    unpack,
)
from codebound.coding.errors import CodecError, DamagedFile, UnsupportedFile

SEGMENT = Segment(3, 5, (Stream(Mode.CONTEXT, b"abc"), Stream(Mode.RAW, b"d")), 0xDEADBEEF)
PICTURE = Container(b"12345678", (256, 256), (3, 7), (SEGMENT,))


@pytest.mark.parametrize(
    "container",
    [
        PICTURE,
        Container(NO_MODEL, (2, 65_536), None, (SEGMENT, SEGMENT, SEGMENT)),
        Container(NO_MODEL, (17,), None, (Segment(1, 1, (Stream(Mode.NETWORK, bytes(900)),), 0),)),
    ],
)
def test_what_is_packed_is_unpacked(container: Container) -> None:
    assert unpack(pack(container)) == container


def test_golden_bytes() -> None:
    assert pack(PICTURE).hex() == (
        "894342440d0a1a0a" + "01" + "02" + b"12345678".hex() + "02" + "ff01" + "03" + "07" + "01"
        "03" + "05" + "0e" + "04" + "efbeadde" + "579d18f2" + "61626364"
    )


@pytest.mark.parametrize(("levels", "length"), [(1, 100_000), (4, 100_000), (4, 4000)])
def test_the_header_of_one_picture_is_48_bytes_at_most(levels: int, length: int) -> None:
    stream = Stream(Mode.NETWORK, bytes(length))
    segment = Segment(500, 375, (stream,) * levels, 0xFFFFFFFF)
    assert len(pack(Container(b"12345678", (1024,) * levels, (7, 7), (segment,)))) - levels * length <= 48


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
    head = len(pack(Container(NO_MODEL, (9, 9), None, (SEGMENT,)))) - 16
    first, second = one[head : head + 16], one[head + 16 :]
    assert len(first) == len(second)
    with pytest.raises(DamagedFile, match="checksum"):
        unpack(one[:head] + second + first)


def test_another_version_is_named() -> None:
    data = bytearray(pack(PICTURE))
    data[8] = 9
    with pytest.raises(UnsupportedFile, match="version 9"):
        unpack(bytes(data))


def whole(*fields: bytes, flags: int = 0, streams: bytes = b"") -> bytes:
    """A file with these header fields and right checksums, whatever they say."""
    before = SIGNATURE + bytes([1, flags]) + NO_MODEL + b"".join(fields) + bytes(4)
    return before + zlib.crc32(streams, zlib.crc32(before)).to_bytes(4, "little") + streams


def hostile() -> list[bytes]:
    """Fifty and more headers that ask for too much, with right checksums."""
    n = varint.write
    huge = [2**k - 1 for k in (24, 25, 28, 30, 31, 32, 33, 34, 35)]
    negative = [
        b"\xff" * 4 + b"\x7f",
        b"\xff" * 9 + b"\x01",
        b"\xff" * 10,
        struct.pack("<i", -1),
        struct.pack("<q", -5),
    ]
    nan = [struct.pack(form, value) for form in ("<f", "<d") for value in (float("nan"), float("inf"), -1.0)]
    one = n(1)
    rows: list[bytes] = []
    rows += [whole(one, n(255), one, n(size), n(size), n(4), streams=b"x") for size in (1024, *huge)]
    rows += [whole(one, n(255), one, n(min(s, 2**24)), one, n(4), streams=b"x") for s in huge]
    rows += [whole(one, n(255), one, one, one, n(size), streams=b"x") for size in huge]
    rows += [whole(one, n(255), n(size), one, one, n(4), streams=b"x") for size in huge]
    rows += [whole(n(size), n(255), one, one, one, n(4), streams=b"x") for size in (0, 65, *huge)]
    rows += [whole(one, n(size), one, one, one, n(4), streams=b"x") for size in (0, 65_536, *huge)]
    for bad in (*negative, *nan):
        rows.append(whole(bad, n(255), one, one, one, n(4), streams=b"x"))
        rows.append(whole(one, n(255), one, bad, bad, n(4), streams=b"x"))
        rows.append(whole(one, n(255), one, one, one, bad, streams=b"x"))
    rows += [whole(n(64), n(255), one, n(1), n(INDICES_PER_BYTE + 1), *[n(4)] * 64, streams=bytes(64))]
    rows += [whole(one, n(255), n(2**20), *[one * 2 + n(4)] * 10, streams=b"x" * 10)]
    return rows


def test_hostile_headers_are_refused_at_once_and_in_little_memory() -> None:
    cases = hostile()
    assert len(cases) >= 50
    for data in cases:
        tracemalloc.start()
        start = time.perf_counter()
        with pytest.raises(CodecError):
            unpack(data)
        seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert seconds < 0.05, data.hex()
        assert peak < 16e6, data.hex()


def test_many_segments_are_read_in_linear_time() -> None:
    segment = Segment(1, 1, (Stream(Mode.RAW, b"x"),), 0)
    data = pack(Container(NO_MODEL, (2,), None, (segment,) * 5_000))
    start = time.perf_counter()
    assert len(unpack(data).segments) == 5_000
    assert time.perf_counter() - start < 5
