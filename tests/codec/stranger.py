"""A decoder of `.cbd` files written from docs/format.md alone, in plain Python: the page must be enough.

It uses no part of codebound and no numerical library. It is slow, and reads right files only (plus the CRCs).
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

WIDTHS = {"I8": 1, "I16": 2, "U16": 2, "I32": 4}  # bytes of a number
Grid = list[list[list[int]]]  # [level][row][column]
POWERS = [1 << (24 * 256 - r) for r in range(256)]
for _ in range(8):
    POWERS = [math.isqrt(power) for power in POWERS]


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        self.at += count
        assert self.at <= len(self.data)
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value


def read(data: bytes, prior: Path | None = None) -> list[Grid]:
    """The grids of a file. Section 1."""
    source = Bytes(data)
    assert source.take(8) == bytes.fromhex("894342440D0A1A0A")
    version, flags = source.take(2)
    assert version == 1
    source.take(8)
    levels = source.varint()
    sizes = [source.varint() + 1 for _ in range(levels if flags & 1 else 1)]
    sizes = sizes if flags & 1 else sizes * levels
    if flags & 2:
        source.varint(), source.varint()
    if flags & 8:
        source.take(source.varint()).decode()
    count = source.varint()
    covered, grids = data[: source.at], []
    arrays = {} if prior is None else safetensors((prior / "prior.safetensors").read_bytes())
    for _ in range(count):
        start = source.at
        height, width = source.varint(), source.varint()
        length = source.varint()
        modes = int.from_bytes(source.take(-(-levels // 4)), "little")
        indices_crc = int.from_bytes(source.take(4), "little")
        covered += data[start : source.at]
        bytes_crc = int.from_bytes(source.take(4), "little")
        stream = source.take(length)
        covered += stream
        assert zlib.crc32(covered) == bytes_crc
        coder, grid = RangeDecoder(stream), []
        for level in range(levels):
            grid.append([[-1] * width for _ in range(height)])
            decode(coder, modes >> 2 * level & 3, grid, sizes, arrays)
        flat = b"".join(index.to_bytes(2, "little") for plane in grid for row in plane for index in row)
        assert zlib.crc32(flat) == indices_crc
        grids.append(grid)
    assert source.at == len(data)
    return grids


def digit_sizes(size: int) -> list[int]:
    """Section 2."""
    if size <= 512:
        return [size]
    b = ((size - 1).bit_length() + 1) // 2
    return [-(-size // 2**b), 2**b]


def digits_of(index: int, size: int) -> list[int]:
    sizes = digit_sizes(size)
    if index == size:  # outside
        return sizes
    return [index] if len(sizes) == 1 else [index // sizes[1], index % sizes[1]]


class RangeDecoder:
    """Section 3."""

    def __init__(self, stream: bytes) -> None:
        self.stream, self.at = stream, 0
        self.lower, self.range = 0, 2**64 - 1
        self.point = self.word() << 32 | self.word()

    def word(self) -> int:
        self.at += 4
        return int.from_bytes(self.stream[self.at - 4 : self.at].ljust(4, b"\0"), "big")

    def symbol(self, f: list[int]) -> int:
        a, total, left = len(f), 0, []
        for s in range(a):
            left.append((total * (2**24 - a) >> 16) + s)
            total += f[s]
        assert total == 2**16
        left.append(2**24)
        scale = self.range >> 24
        quotient = (self.point - self.lower) % 2**64 // scale
        s = max(s for s in range(a) if left[s] <= quotient)
        self.lower = (self.lower + scale * left[s]) % 2**64
        self.range = scale * (left[s + 1] - left[s])
        if self.range < 2**32:
            self.range <<= 32
            self.lower = (self.lower << 32) % 2**64
            self.point = (self.point << 32) % 2**64 + self.word()
        return s


def frequencies(w: list[int]) -> list[int]:
    """Section 4."""
    total = sum(w)
    f = [1 + weight * (2**16 - len(w)) // total for weight in w]
    f[w.index(max(w))] += 2**16 - sum(f)
    return f


def exp2(x: int) -> int:
    x = min(x, 6399)
    return POWERS[x % 256] >> (x // 256)


def cost(f: int) -> int:
    e = f.bit_length() - 1
    return 256 * (17 - e) - (256 * f >> e)


def decode(coder: RangeDecoder, mode: int, grid: Grid, sizes: list[int], arrays: dict) -> None:
    """The last level of the grid. Section 5."""
    q = len(grid) - 1
    plane, sizes_here = grid[q], digit_sizes(sizes[q])
    height, width = len(plane), len(plane[0])
    if mode == 0:
        for place, a in enumerate(sizes_here):
            for row in plane:
                for j in range(width):
                    digit = coder.symbol(frequencies([1] * a))
                    row[j] = digit if place == 0 else row[j] * a + digit
        return
    experts = [Experts(mode, q, place, a, sizes, arrays) for place, a in enumerate(sizes_here)]
    for t in range(width + 2 * height):
        group = [(i, t - 2 * i) for i in range(height) if 0 <= t - 2 * i < width]
        seen = [look(grid, sizes, i, j) for i, j in group]
        found = [0] * len(group)
        for place, a in enumerate(sizes_here):
            asked = [experts[place].rows(seen[n], found[n] if place else 0) for n in range(len(group))]
            coded = [coder.symbol(experts[place].mix(rows)) for rows, _ in asked]
            experts[place].learn(asked, coded)
            found = (
                coded if place == 0 else [first * a + low for first, low in zip(found, coded, strict=True)]
            )
        for (i, j), index in zip(group, found, strict=True):
            plane[i][j] = index


def look(grid: Grid, sizes: list[int], i: int, j: int) -> list[tuple[int, int]]:
    """What a position sees: (level, index)."""
    q = len(grid) - 1
    offsets = [(q, *at) for at in ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-2, 1), (-1, -2))]
    if q > 0:
        around = ((0, 0), (-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
        offsets += [(q - 1, *at) for at in around]
    offsets += [(level, 0, 0) for level in range(q - 2, -1, -1)]
    seen = []
    for level, down, right in offsets:
        y, x = i + down, j + right
        inside = 0 <= y < len(grid[level]) and 0 <= x < len(grid[level][0])
        seen.append((level, grid[level][y][x] if inside else sizes[level]))
    return seen


class Experts:
    """Experts A to E of one digit place."""

    def __init__(self, mode: int, q: int, place: int, a: int, sizes: list[int], arrays: dict) -> None:
        self.mode, self.q, self.place, self.a, self.sizes, self.arrays = mode, q, place, a, sizes, arrays
        self.counts: dict[tuple[str, int], list[int]] = {}
        self.losses = [0] * (0, 1, 4, 5)[mode]

    def rows(self, seen: list[tuple[int, int]], p: int) -> tuple[list[list[int]], list[tuple[str, int]]]:
        """The experts' rows, and where their counts are."""
        keys = [("A", p)]
        base = frequencies([1 + 24 * n for n in self.of(keys[0])])
        rows = [base]
        if self.mode > 1:
            x, y = (seen[8][1], seen[0][1]) if self.q else (seen[0][1], seen[1][1])
            for name, k in (("B", x), ("C", y), ("D", x * 2**17 + y)):
                k += p * 2**34
                mixed = k % 2**32 * 2654435761 + k // 2**32 * 2246822519
                keys.append((name, mixed % 2**32 >> 20))
                counts = self.of(keys[-1])
                if name == "D":
                    base = [(b + c) >> 1 for b, c in zip(rows[1], rows[2], strict=True)]
                total = sum(counts) + 8
                rows.append([(n * 65536 + 8 * b) // total for n, b in zip(counts, base, strict=True)])
        if self.mode > 2:
            rows.append(frequencies(self.network(seen, p)))
        return rows, keys

    def of(self, key: tuple[str, int]) -> list[int]:
        return self.counts.setdefault(key, [0] * self.a)

    def mix(self, rows: list[list[int]]) -> list[int]:
        weights = [exp2(loss) >> 8 for loss in self.losses]
        return frequencies(
            [sum(u * r for u, r in zip(weights, at, strict=True)) for at in zip(*rows, strict=True)]
        )

    def learn(self, asked: list, digits: list[int]) -> None:
        for (rows, keys), digit in zip(asked, digits, strict=True):
            for number, row in enumerate(rows):
                self.losses[number] += cost(max(row[digit], 1))
            for key in keys:
                self.of(key)[digit] += 1
        least = min(self.losses)
        self.losses = [min(loss - least, 1536) for loss in self.losses]

    def network(self, seen: list[tuple[int, int]], p: int) -> list[int]:
        """Section 6: the weights."""
        name, starts, rows = f"{self.q}.{self.place}", {}, 0
        for level in range(self.q + 1):
            for digit, size in enumerate(digit_sizes(self.sizes[level])):
                starts[level, digit] = rows
                rows += size + 1
        table, x = self.arrays[f"{name}.embedding"], []
        for level, index in seen:
            for digit, value in enumerate(digits_of(index, self.sizes[level])):
                x += table[starts[level, digit] + value]
        if self.place:
            x += table[rows + p]
        for n in range(3):
            weight, bias, factor = (
                self.arrays[f"{name}.{n}.{part}"] for part in ("weight", "bias", "factor")
            )
            sums = [sum(w * v for w, v in zip(row, x, strict=True)) for row in weight]
            x = [(s + b) * m >> 24 for s, b, m in zip(sums, bias, factor, strict=True)]
            if n < 2:
                x = [min(max(value, 0), 4095) for value in x]
        return [exp2(max(x) - value) for value in x]


def safetensors(data: bytes) -> dict[str, list]:
    """All arrays of a safetensors file as lists: a length, a JSON header, the bytes. Section 7."""
    end = 8 + int.from_bytes(data[:8], "little")
    found = {}
    for name, entry in json.loads(data[8:end]).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in WIDTHS:  # floats: of a network that makes samples, not indices
            continue
        first, last = entry["data_offsets"]
        step, signed = WIDTHS[entry["dtype"]], entry["dtype"] != "U16"
        raw = data[end + first : end + last]
        values = [
            int.from_bytes(raw[n : n + step], "little", signed=signed) for n in range(0, len(raw), step)
        ]
        for width in reversed(entry["shape"][1:]):
            values = [values[n : n + width] for n in range(0, len(values), width)]
        found[name] = values
    return found
