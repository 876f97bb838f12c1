"""A decoder of version 2 written from docs/picture-format.md alone, in plain Python: the page must be enough.

It uses no part of codebound and no numerical library. It is slow, and reads right files only (plus the CRCs).
"""

from __future__ import annotations

import zlib
from pathlib import Path

from stranger import Bytes, RangeDecoder, exp2, frequencies, safetensors

Plane = list[list[int]]
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))
SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))
CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))
AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
KNIGHTS = tuple((a, b) for a in range(-2, 3) for b in range(-2, 3) if abs(a * b) == 2)
HERE = (0, 0)
LOW = [1024, 1436, 2080, 2973, 4218, 5971, 8448, 11951]
HIGH = [1, 909, 1239, 1817, 2614, 3716, 5263, 7448]
for table in (LOW, HIGH):
    while len(table) < 30:
        table.append(1448 * table[-1] >> 10)


def read(data: bytes, model: Path) -> list[list[list[int]]]:
    """The pixels of a file: rows of pixels of one or three channels. Sections 1, 2."""
    source = Bytes(data)
    assert source.take(8) == bytes.fromhex("894342440D0A1A0A")
    version, flags, step = source.take(3)
    assert version == 2
    source.take(8)
    height, width = source.varint(), source.varint()
    if flags & 2:
        source.take(source.varint()).decode()
    length = source.varint()
    pixels_crc = int.from_bytes(source.take(4), "little")
    before = data[: source.at]
    bytes_crc = int.from_bytes(source.take(4), "little")
    stream = source.take(length)
    assert source.at == len(data)
    assert zlib.crc32(before + stream) == bytes_crc

    planes = Walk(height, width, 1 if flags & 1 else 3, step, RangeDecoder(stream), model).planes()
    pixels = [[colour([plane[i][j] for plane in planes]) for j in range(width)] for i in range(height)]
    assert zlib.crc32(bytes(value for row in pixels for pixel in row for value in pixel)) == pixels_crc
    return pixels


def colour(values: list[int]) -> list[int]:
    a, *differences = [cut(value, -(1 << 17), 1 << 17) for value in values]
    y, sums = 2365 * a, [2365 * a]
    if differences:
        x, z = 2896 * differences[0], 1672 * differences[1]
        sums = [y + x + z, y - 2 * z, y - x + z]
    return [cut((total + (128 << 20) + (1 << 19)) >> 20, 0, 255) for total in sums]


def cut(value: int, least: int, most: int) -> int:
    return min(max(value, least), most)


def rs(x: int, n: int) -> int:
    return (x + (1 << (n - 1))) >> n


def join(s: list[int], d: list[int]) -> list[int]:
    """Section 3."""
    if not d:
        return s
    n, m = len(s), len(d)

    def lift_low(factor: int, shift: int) -> None:
        for i in range(n):
            s[i] -= rs(factor * (d[max(i - 1, 0)] + d[min(i, m - 1)]), shift)

    def lift_high(factor: int, shift: int) -> None:
        for i in range(m):
            d[i] -= rs(factor * (s[i] + s[min(i + 1, n - 1)]), shift)

    lift_low(227, 9)
    lift_high(113, 7)
    lift_low(-217, 12)
    lift_high(-203, 7)
    return [(s if i % 2 == 0 else d)[i // 2] for i in range(n + m)]


def turned(plane: Plane, width: int) -> Plane:
    return [[row[j] for row in plane] for j in range(width)]


class Walk:
    """Sections 4 to 7."""

    def __init__(
        self, height: int, width: int, count: int, step: int, coder: RangeDecoder, model: Path
    ) -> None:
        self.size, self.count, self.coder = (height, width), count, coder
        self.base = exp2(256 * (8 - step // 16) - 16 * (step % 16))
        self.arrays = safetensors(model.read_bytes())
        self.counts = [[0] * 18 for _ in self.arrays["table"]]
        self.magnitudes: dict[tuple[int, int, int], Plane] = {}
        self.values: dict[tuple[int, int, int], Plane] = {}
        self.sizes = [self.size]
        while max(self.sizes[-1]) > 2:
            self.sizes.append(tuple(-(-side // 2) for side in self.sizes[-1]))

    def planes(self) -> list[Plane]:
        lows = [self.low() for _ in range(self.count)]
        for level in range(len(self.sizes) - 1, 0, -1):
            for component in range(self.count):
                for band in range(3):
                    self.detail(component, level, band)
        return [self.joined(component, low) for component, low in enumerate(lows)]

    def joined(self, component: int, plane: Plane) -> Plane:
        for level in range(len(self.sizes) - 1, 0, -1):
            height, width = self.sizes[level - 1]
            factor = 1550 if min(height, width) > 1 else 1260
            plane = [[rs(factor * x, 10) for x in row] for row in plane]
            details = [self.values[component, level, band] for band in range(3)]
            top = [join(s, d) for s, d in zip(plane, details[0], strict=True)]
            bottom = [join(s, d) for s, d in zip(details[1], details[2], strict=True)]
            columns = zip(turned(top, width), turned(bottom, width), strict=True)
            plane = turned([join(s, d) for s, d in columns], height)
        return plane

    def symbol(self, row: list[int]) -> int:
        return self.coder.symbol(row)

    def bits(self, count: int) -> list[int]:
        return [self.symbol([32768, 32768]) for _ in range(count)]

    def numbers(self, count: int) -> list[int]:
        if not count:
            return []
        lengths = [self.symbol([2356] + [2340] * 27) for _ in range(count)]
        found = [1] * count
        for digit in range(max(lengths) - 1, -1, -1):
            for at in range(count):
                if lengths[at] > digit:
                    found[at] = 2 * found[at] + self.symbol([32768, 32768])
        return [x - 1 for x in found]

    def divisions(self, level: int) -> list[int]:
        return [min(level, (side - 1).bit_length()) for side in self.size]

    def low(self) -> Plane:
        height, width = self.sizes[-1]
        down, across = self.divisions(len(self.sizes) - 1)
        step = min(max((self.base << 20) // (LOW[down] * LOW[across]), 1), 1 << 16)
        found = self.numbers(height * width)
        signs = iter(self.bits(sum(x > 0 for x in found)))
        values = [value(x, 0, step) * (1 - 2 * next(signs)) if x else 0 for x in found]
        return [values[i * width : (i + 1) * width] for i in range(height)]

    def detail(self, component: int, level: int, band: int) -> None:
        # Size and step.
        above, below = self.sizes[level - 1], self.sizes[level]
        highs = ((0, 1), (1, 0), (1, 1))[band]
        height, width = (a - b if high else b for a, b, high in zip(above, below, highs, strict=True))
        factors = []
        for high, side, k in zip(highs, above, self.divisions(level), strict=True):
            factors.append(HIGH[k] if high else (LOW[k] << 10) // 1260 if side > 1 else LOW[k])
        step = max((self.base << 20) // (factors[0] * factors[1]), 1)

        # Phase by phase: quiet coefficients, then the others.
        key = component, level, band
        self.magnitudes[key] = [[0] * width for _ in range(height)]
        self.values[key] = [[0] * width for _ in range(height)]
        for phase, (row, column) in enumerate(PHASES):
            places = [(i, j) for i in range(row, height, 2) for j in range(column, width, 2)]
            quiet = [place for place in places if self.is_quiet(key, *place)]
            busy = [place for place in places if place not in quiet]
            group = (component * 3 + band) * 4 + phase
            rows = [
                40 * component + self.network(group, min(level, 7), self.inputs(key, i, j)) for i, j in busy
            ]
            still = 120 + ((6 * component + min(level, 6) - 1) * 3 + band) * 4 + phase
            decoded = [self.part(quiet, [still] * len(quiet)), self.part(busy, rows)]
            for (i, j), x, negative, row_number in (each for part in decoded for each in part):
                self.magnitudes[key][i][j] = x
                shift = self.arrays["shift"][row_number][min(x, 3) - 1] if x else 0
                self.values[key][i][j] = (-1 if negative else 1) * value(x, shift, step) if x else 0

    def part(self, places: list[tuple[int, int]], rows: list[int]) -> list:
        table = {}
        for row in set(rows):
            weights = zip(self.arrays["table"][row], self.counts[row], strict=True)
            table[row] = frequencies([weight + 1024 * count for weight, count in weights])
        found = [self.symbol(table[row]) for row in rows]
        for row, symbol in zip(rows, found, strict=True):
            self.counts[row][symbol] += 1
        beyond = iter(self.numbers(found.count(17)))
        found = [17 + next(beyond) if symbol == 17 else symbol for symbol in found]
        signs = iter(self.bits(sum(x > 0 for x in found)))
        return [(at, x, next(signs) if x else 0, row) for at, x, row in zip(places, found, rows, strict=True)]

    def at(self, key: tuple[int, int, int], i: int, j: int) -> int:
        plane = self.magnitudes.get(key)
        if plane is None or not (0 <= i < len(plane) and 0 <= j < len(plane[0])):
            return 0
        return plane[i][j]

    def is_quiet(self, key: tuple[int, int, int], i: int, j: int) -> bool:
        component, level, band = key
        seen = {0: [(component, level, other) for other in range(band)]}
        seen[0] += [(before, level, other) for before in range(component) for other in range(3)]
        seen[1] = [(component, level + 1, other) for other in range(3)]
        seen[2] = [(component, level + 2, band)]
        for g, keys in seen.items():
            y, x = i >> g, j >> g
            if any(self.at(each, y + a, x + b) for each in keys for a, b in (*AROUND, HERE)):
                return False
        return not any(self.at(key, i + a, j + b) for a in range(-2, 3) for b in range(-2, 3))

    def inputs(self, key: tuple[int, int, int], i: int, j: int) -> list[int]:
        """Section 6."""
        component, level, band = key
        others = [(band + 1) % 3, (band + 2) % 3]

        def mean(c: int, g: int, o: int, *offsets: tuple[int, int]) -> int:
            found = [self.at((c, level + g, o), (i >> g) + a, (j >> g) + b) for a, b in offsets]
            return sum(map(size, found)) // len(offsets)

        x = [mean(component, 0, band, at) for at in (*AROUND, (-2, 0), (2, 0), (0, -2), (0, 2))]
        x += [mean(component, 0, band, *KNIGHTS)]
        x += [mean(component, 1, band, at) for at in (HERE, *SIDES)] + [mean(component, 1, band, *CORNERS)]
        x += [mean(component, 2, band, HERE), mean(component, 2, band, *AROUND)]
        for other in others:
            x += [mean(component, 1, other, HERE), mean(component, 1, other, *AROUND)]
        for other in range(band):
            x += [mean(component, 0, other, *part) for part in ([HERE], SIDES[:2], SIDES[2:])]
        for before in range(component):
            x += [mean(before, 0, band, *part) for part in ([HERE], SIDES[:2], SIDES[2:], CORNERS)]
            x += [mean(before, 0, other, HERE) for other in others]
        return x + [0] * (43 - len(x))

    def network(self, group: int, level: int, x: list[int]) -> int:
        """Section 7."""
        get = self.arrays.__getitem__

        def layer(weight: list[list[int]], bias: list[int], values: list[int]) -> list[int]:
            sums = [
                sum(w * v for w, v in zip(column, values, strict=True))
                for column in zip(*weight, strict=True)
            ]
            return [cut((total + b) >> 8, 0, 255) for total, b in zip(sums, bias, strict=True)]

        hidden = layer(get("first")[group], get("first_bias")[group][level], x)
        hidden = layer(get("second")[group], get("second_bias")[group], hidden)
        total = (
            sum(w * v for w, v in zip(get("third")[group], hidden, strict=True)) + get("third_bias")[group]
        )
        return cut((total + 1024) >> 11, 0, 39)


def size(m: int) -> int:
    e = (m + 1).bit_length() - 1
    return min(16 * (e - 1) + (16 * (m + 1) >> e), 127)


def value(m: int, shift: int, step: int) -> int:
    return min(((64 * m + shift) * step + (1 << 13)) >> 14, (1 << 20) - 1)
