"""Decode damaged files for as long as you like: each is refused with a CodecError or decodes to what was written.

    .venv/bin/python tools/fuzz.py [--count 1000000] [--seed 0] [--kind indices|pictures|vectors|sound]

The golden files, each with bits flipped, bytes replaced, removed, inserted or doubled, ends cut, another file's middle
put in. One in fifty, one in two of the other kinds, gets right checksums of bytes again, so that what lies behind
them is reached: there only the checksum of indices or pixels can tell; of vectors, which have none, it is only asked
that nothing else is raised. The first that fails is printed in hexadecimal and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from codebound.codec import CodecError, decompress, decompress_indices, decompress_vectors, load_sound_model
from codebound.codec.sounds import sound_indices
from codebound.coding import varint
from codebound.coding.container import HASH, SIGNATURE
from codebound.priors.grid_prior import load_prior

GOLDEN = Path(__file__).parent.parent / "tests" / "codec"
REPAIRED = {"indices": 50, "pictures": 2, "vectors": 2, "sound": 2}  # one in so many
SLOWEST, LARGEST = 5.0, 64e6  # seconds of CPU and bytes that one file may take to be refused
MOST = 1 << 16  # pixels and values of a damaged file that are decoded


class Case(NamedTuple):
    """A golden file.

    Attributes:
        decode: what reads such files; it raises CodecError.
        right: what this one holds.
        repair: gives changed bytes right checksums of bytes.
        checked: whether a checksum of what was decoded tells all that is wrong.
    """

    data: bytes
    decode: Callable[[bytes], np.ndarray]
    right: np.ndarray
    repair: Callable[[bytes], bytes]
    checked: bool = True


def cases(kind: str) -> list[Case]:
    """The golden files of a kind."""
    if kind == "indices":
        return [_of_indices(path) for path in sorted((GOLDEN / "golden").glob("*/*.cbd"))]
    if kind == "pictures":
        return [
            Case(
                path.read_bytes(),
                lambda data: decompress(data, max_pixels=MOST),
                np.array(Image.open(path.with_suffix(".png"))),
                repair_picture,
            )
            for path in sorted((GOLDEN / "golden_pictures").glob("*.cbd"))
        ]
    if kind == "sound":
        model = load_sound_model(GOLDEN / "golden_sounds" / "model")
        return [
            Case(
                path.read_bytes(),
                lambda data: sound_indices(data, model),
                np.load(path.with_suffix(".npy")).astype(np.int64),
                repair_sound,
            )
            for path in sorted((GOLDEN / "golden_sounds").glob("*.cbd"))
        ]
    return [
        Case(
            path.read_bytes(),
            lambda data: decompress_vectors(data, max_values=MOST).double().numpy(),
            np.load(path.with_suffix(".npy")).astype(np.float64),
            repair_vectors,
            checked=False,
        )
        for path in sorted((GOLDEN / "golden_vectors").glob("*.cbv"))
    ]


def _of_indices(path: Path) -> Case:
    prior = load_prior(path.parent)
    right = np.array(json.loads((path.parent / "indices.json").read_text()))
    return Case(path.read_bytes(), lambda data: decompress_indices(data, prior=prior), right, repair_indices)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=sorted(REPAIRED), default="indices")
    arguments = parser.parse_args()
    found = fuzz(arguments.kind, arguments.count, arguments.seed)
    print(found)
    return int(": " in found)


def fuzz(kind: str, count: int, seed: int) -> str:
    """How many damaged files were refused, or, with a colon, the first that was not treated as it must be."""
    rng, files = np.random.default_rng(seed), cases(kind)
    verdicts = {"refused": 0, "right": 0, "decoded": 0}
    for number in range(count):
        case = files[rng.integers(len(files))]
        changed = mutate(rng, case.data, files[rng.integers(len(files))].data)
        repaired = number % REPAIRED[kind] == 0
        given = case.repair(changed) if repaired else changed
        verdict = judge(given, case, repaired)
        if verdict not in verdicts:
            return f"{verdict}: {given.hex()}"
        verdicts[verdict] += 1
        if (number + 1) % 10_000 == 0:
            print(f"{number + 1:,} files of {kind}", flush=True)
    return (
        f"{count:,} files of {kind}; {verdicts['refused']:,} refused, {verdicts['right']:,} decoded to what was "
        f"written, {verdicts['decoded']:,} with repaired checksums to something else"
    )


def mutate(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """One to four changes."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = (
            int(rng.integers(len(out) + 1))
            if rng.random() < 0.5
            else int(rng.integers(min(50, len(out) + 1)))
        )
        length = int(rng.integers(1, 9))
        match rng.integers(7):
            case 0 if at < len(out):
                out[at] ^= 1 << int(rng.integers(8))
            case 1 if at < len(out):
                out[at] = int(rng.integers(256))
            case 2:
                del out[at : at + length]
            case 3:
                out[at:at] = rng.bytes(length)
            case 4:
                out[at:at] = out[at : at + length]
            case 5:
                del out[at:]
            case _:
                out[at : at + 4 * length] = other[at : at + 4 * length]
    return bytes(out)


def repair_indices(data: bytes) -> bytes:
    """The same bytes with the right checksum of a file of one segment, if its header can be read that far."""
    try:
        reader = varint.Reader(SIGNATURE + b"\1" + data[9:])
        reader.take(9, "")
        (flags,) = reader.take(1, "")
        reader.take(8, "")
        levels = reader.number("", 1, 64)
        for _ in range((levels if flags & 1 else 1) + 2 * bool(flags & 2) + 4):
            reader.number("", 0, 1 << 35)
        reader.take(-(-levels // 4) + 4 + 4, "")
    except CodecError:
        return data
    before, streams = bytes(reader.data[: reader.at - 4]), bytes(reader.data[reader.at :])
    return before + zlib.crc32(streams, zlib.crc32(before)).to_bytes(4, "little") + streams


def repair_picture(data: bytes) -> bytes:
    """The same bytes with the right checksum, and the right length of the stream, if the header can be read."""
    try:
        reader = varint.Reader(SIGNATURE + b"\2" + data[9:])
        reader.take(9, "")
        flags, _, _ = reader.take(3, "")
        reader.take(HASH, "")
        reader.number("", 0, 1 << 35), reader.number("", 0, 1 << 35)
        if flags & 2:
            reader.take(reader.number("", 0, 255), "")
        at = reader.at
        reader.number("", 0, 1 << 35)
        pixels = reader.take(4, "")
        reader.take(4, "")
    except CodecError:
        return data
    stream = bytes(reader.data[reader.at :])
    before = bytes(reader.data[:at]) + varint.write(len(stream)) + pixels
    return before + zlib.crc32(stream, zlib.crc32(before)).to_bytes(4, "little") + stream


def repair_vectors(data: bytes) -> bytes:
    """The same bytes with the right checksum at the end, which is the only one of a file of one block."""
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def repair_sound(data: bytes) -> bytes:
    """The same bytes with right checksums of all segments and of the end, as far as they can be read."""
    reader = varint.Reader(SIGNATURE + b"\3" + data[9:])
    out = b""
    try:
        reader.take(10 + HASH, "")
        for _ in range(4):
            reader.number("", 0, 1 << 35)
        out = head = bytes(reader.data[: reader.at])
        for number in range(1 << 20):
            at, seed = reader.at, zlib.crc32(number.to_bytes(8, "little"), zlib.crc32(head))
            last = not reader.number("", 0, 1 << 35)
            if not last:
                reader.take(1, "")
            length = reader.number("", 0, 1 << 35)
            if not last:
                reader.take(4, "")
            before = bytes(reader.data[at : reader.at])
            reader.take(4, "")
            stream = b"" if last else reader.take(length, "")
            out += before + zlib.crc32(stream, zlib.crc32(before, seed)).to_bytes(4, "little") + stream
            if last:
                break
    except CodecError:
        pass
    return out + bytes(reader.data[reader.at :])


def judge(data: bytes, case: Case, repaired: bool) -> str:
    """`refused`, `right`, `decoded`, or what went wrong."""
    tracemalloc.start()
    start = time.process_time()
    try:
        found = case.decode(data)
    except CodecError:
        seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
        if seconds > SLOWEST or (peak > LARGEST and not repaired):
            return f"refused after {seconds:.1f} s and {peak / 1e6:.0f} MB"
        return "refused"
    except Exception as error:  # what a fuzzer is for
        return f"{type(error).__name__}, {error}"
    finally:
        tracemalloc.stop()
    if found.dtype == case.right.dtype and np.array_equal(
        found, case.right, equal_nan=found.dtype.kind == "f"
    ):
        return "right"
    return "decoded" if repaired and not case.checked else "something wrong"


if __name__ == "__main__":
    raise SystemExit(main())
