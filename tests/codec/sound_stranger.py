"""A decoder of files of sound to indices, written from docs/sound-format.md alone, in plain Python."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from stranger import Bytes, RangeDecoder, digit_sizes, exp2, frequencies, safetensors

Frames = list[list[int]]  # [frame][stage]


def read(data: bytes, model: Path) -> tuple[list[Frames], int]:
    """The indices of each channel, and the number of samples. Section 1."""
    source = Bytes(data)
    assert source.take(8) == bytes.fromhex("894342440D0A1A0A")
    assert source.take(2) == b"\x03\x00"
    source.take(8)
    _, channels, stages, size = (source.varint() for _ in range(4))
    size += 1
    header = data[: source.at]
    arrays = safetensors((model / "prior.safetensors").read_bytes())
    books = safetensors((model / "model.safetensors").read_bytes())
    found: list[Frames] = [[] for _ in range(channels)]
    number = 0
    while True:
        start, seed = source.at, zlib.crc32(number.to_bytes(8, "little"), zlib.crc32(header))
        frames = source.varint()
        if frames == 0:
            break
        (mode,) = source.take(1)
        length = source.varint()
        indices_crc = int.from_bytes(source.take(4), "little")
        running = zlib.crc32(data[start : source.at], seed)
        assert int.from_bytes(source.take(4), "little") == zlib.crc32(
            data[source.at : source.at + length], running
        )
        coder = RangeDecoder(source.take(length))
        coded = []
        for _ in range(1 if mode & 128 else channels):
            if mode & 127 == 0:
                coded.append(raw(coder, frames, stages, size))
            else:
                coded.append(predicted(coder, frames, stages, size, arrays, books))
        coded = coded * channels if mode & 128 else coded
        flat = b"".join(i.to_bytes(2, "little") for channel in coded for frame in channel for i in frame)
        assert zlib.crc32(flat) == indices_crc
        for channel, part in zip(found, coded, strict=True):
            channel += part
        number += 1
    samples = source.varint()
    running = zlib.crc32(data[start : source.at], seed)
    assert int.from_bytes(source.take(4), "little") == running
    assert source.at == len(data)
    return found, samples


def raw(coder: RangeDecoder, frames: int, stages: int, size: int) -> Frames:
    """Section 2, mode 0."""
    sizes = digit_sizes(size)
    rows = [frequencies([1] * alphabet) for alphabet in sizes]
    columns = [[coder.symbol(row) for _ in range(frames * stages)] for row in rows]
    values = columns[0] if len(sizes) == 1 else [h * sizes[1] + low for h, low in zip(*columns, strict=True)]
    return [values[t * stages : (t + 1) * stages] for t in range(frames)]


def predicted(
    coder: RangeDecoder, frames: int, stages: int, size: int, arrays: dict[str, Any], books: dict[str, Any]
) -> Frames:
    """Section 2, mode 1."""
    words, steps = books["codebooks"], books["steps"]
    dim = len(words[0][0])
    members = 1 << -(-(size - 1).bit_length() // 2)
    out = [[0] * stages for _ in range(frames)]
    sums = [[0] * dim for _ in range(frames)]

    def code(stage: int, seen: list[list[int]], at: list[int]) -> None:
        hidden = []
        for x in seen:
            once = [min(max(v, 0), 4095) for v in layer(arrays, f"{stage}.first", x)]
            hidden.append([min(max(v, 0), 4095) for v in layer(arrays, f"{stage}.second", once)])
        high = [coder.symbol(row(layer(arrays, f"{stage}.high", h))) for h in hidden]
        for t, group, h in zip(at, high, hidden, strict=True):
            out[t][stage] = group
            own = range(group * members, min((group + 1) * members, size))
            logits = layer(arrays, f"{stage}.low", h, own)
            logits += [-(1 << 30)] * (members - len(own))
            out[t][stage] = group * members + coder.symbol(row(logits))
        for t in at:
            word = words[stage][out[t][stage]]
            sums[t] = [s + int(steps[stage]) * int(c) for s, c in zip(sums[t], word, strict=True)]

    # Stage 0 in halvings.
    distance = 1 << max(frames - 1, 0).bit_length()
    at = [0]
    while True:
        seen = []
        for t in at:
            x: list[int] = []
            for step in (-3, -1, 1, 3):
                place = t + step * distance
                there = t > 0 and 0 <= place < frames
                x += [clipped(s) for s in sums[place]] if there else [0] * dim
                x.append(2047 if there else 0)
            level = min(distance.bit_length() - 1, 10)
            seen.append(x + [2047 if i == level else 0 for i in range(11)])
        if at:
            code(0, seen, at)
        if distance == 1:
            break
        distance //= 2
        at = list(range(distance, frames, 2 * distance))

    # Every later stage at once.
    for stage in range(1, stages):
        seen = []
        for t in range(frames):
            x = []
            for place in (t - 1, t, t + 1):
                x += [clipped(s) for s in sums[place]] if 0 <= place < frames else [0] * dim
            seen.append(x)
        code(stage, seen, list(range(frames)))
    return out


def clipped(s: int) -> int:
    return min(max(s // 16, -2047), 2047)


def layer(arrays: dict[str, Any], name: str, x: list[int], rows: range | None = None) -> list[int]:
    weight, bias, factor = (arrays[f"{name}.{part}"] for part in ("weight", "bias", "factor"))
    rows = range(len(bias)) if rows is None else rows
    return [
        (sum(int(w) * v for w, v in zip(weight[o], x, strict=True)) + int(bias[o])) * int(factor[o]) >> 24
        for o in rows
    ]


def row(logits: list[int]) -> list[int]:
    return frequencies([exp2(max(logits) - value) for value in logits])
