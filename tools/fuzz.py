"""Decode damaged files for as long as you like: each is refused with a CodecError or decodes to the right indices.

    .venv/bin/python tools/fuzz.py [--count 1000000] [--seed 0]

The golden files, each with bits flipped, bytes replaced, removed, inserted or doubled, ends cut, another file's middle
put in. One in fifty gets right checksums of bytes again, so that what lies behind them is reached: there only the
checksum of the indices can tell. The first that fails is printed in hexadecimal and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np

from codebound.codec import CodecError, decompress_indices
from codebound.coding import varint
from codebound.coding.container import SIGNATURE
from codebound.priors.grid_prior import GridPrior, load_prior

GOLDEN = Path(__file__).parent.parent / "tests" / "codec" / "golden"
REPAIRED = 50  # one in so many
SLOWEST, LARGEST = 5.0, 64e6  # seconds of CPU and bytes that one file may take to be refused


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    files = [
        (
            path.read_bytes(),
            load_prior(path.parent),
            np.array(json.loads((path.parent / "indices.json").read_text())),
        )
        for path in sorted(GOLDEN.glob("*/*.cbd"))
    ]
    refused = right = 0
    for number in range(arguments.count):
        data, prior, indices = files[rng.integers(len(files))]
        other = files[rng.integers(len(files))][0]
        changed = mutate(rng, data, other)
        repaired = number % REPAIRED == 0
        verdict = judge(repair(changed) if repaired else changed, prior, indices, repaired)
        if verdict not in ("refused", "right"):
            print(f"{verdict}: {changed.hex()}")
            return 1
        refused, right = refused + (verdict == "refused"), right + (verdict == "right")
        if (number + 1) % 100_000 == 0:
            print(f"{number + 1:,} files: {refused:,} refused, {right:,} right", flush=True)
    print(
        f"{arguments.count:,} files: {refused:,} refused, {right:,} decoded to the right indices, 0 to wrong ones"
    )
    return 0


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


def repair(data: bytes) -> bytes:
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


def judge(data: bytes, prior: GridPrior, indices: np.ndarray, repaired: bool) -> str:
    """`refused`, `right`, or what went wrong."""
    tracemalloc.start()
    start = time.process_time()
    try:
        found = decompress_indices(data, prior=prior)
    except CodecError:
        seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
        if seconds > SLOWEST or (peak > LARGEST and not repaired):
            return f"refused after {seconds:.1f} s and {peak / 1e6:.0f} MB"
        return "refused"
    except Exception as error:  # what a fuzzer is for
        return f"{type(error).__name__}: {error}"
    finally:
        tracemalloc.stop()
    return "right" if np.array_equal(found, indices) else "wrong indices"


if __name__ == "__main__":
    raise SystemExit(main())
