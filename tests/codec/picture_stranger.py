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
    version, flags, step, flat = source.take(4)
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

    planes = Walk((height, width), 1 if flags & 1 else 3, (step, flat), RangeDecoder(stream), model).planes()
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
        self, size: tuple[int, int], count: int, numbers: tuple[int, int], coder: RangeDecoder, model: Path
    ) -> None:
        self.size, self.count, self.coder = size, count, coder
        self.base, self.flat = (exp2(2048 - 16 * (t % 16)) << (t // 16) for t in numbers)
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
                self.details(component, level)
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

    def details(self, c: int, level: int) -> None:
        """Sections 4, 5."""
        # Sizes and steps.
        above, below = self.sizes[level - 1], self.sizes[level]
        sides, steps = {}, {}
        for o, highs in enumerate(((0, 1), (1, 0), (1, 1))):
            key = c, level, o
            height, width = sides[key] = [
                a - b if high else b for a, b, high in zip(above, below, highs, strict=True)
            ]
            factors = []
            for high, side, k in zip(highs, above, self.divisions(level), strict=True):
                factors.append(HIGH[k] if high else (LOW[k] << 10) // 1260 if side > 1 else LOW[k])
            base = self.base if level < 3 else min(self.base, self.flat << (level - 2))
            steps[key] = max((base << 20) // (factors[0] * factors[1]), 1)
            self.magnitudes[key] = [[0] * width for _ in range(height)]
            self.values[key] = [[0] * width for _ in range(height)]

        # Strips of each phase.
        for phase, (row, column) in enumerate(PHASES):
            across = len(range(column, below[1], 2))
            rows = max((1 << 14) // across, 1) if across else 1
            for top in range(row, below[0] if across else 0, 2 * rows):
                places = [
                    (key, i, j)
                    for key, (height, width) in sides.items()
                    for i in range(top, min(top + 2 * rows, height), 2)
                    for j in range(column, width, 2)
                ]
                self.strip(phase, places, steps)

    def strip(self, phase: int, places: list[tuple], steps: dict[tuple, int]) -> None:
        numbered = [(self.row(key, i, j, phase), key, i, j) for key, i, j in places]
        found: dict[tuple, int] = {}
        table = {number: self.frequencies(number) for number in {each[0] for each in numbered}}
        for number, *place in sorted(numbered, key=lambda each: each[0]):
            symbol = found[tuple(place)] = self.symbol(table[number])
            self.counts[number][symbol] += 1
        beyond = iter(self.numbers(sum(symbol == 17 for symbol in found.values())))
        found = {place: found[place] + (next(beyond) if found[place] == 17 else 0) for place in places}
        signs = iter(self.bits(sum(x > 0 for x in found.values())))
        for (number, key, i, j), x in zip(numbered, found.values(), strict=True):
            if x:
                size = value(x, self.arrays["shift"][number][min(x, 3) - 1], steps[key])
                self.magnitudes[key][i][j] = x
                self.values[key][i][j] = -size if next(signs) else size

    def frequencies(self, row: int) -> list[int]:
        weights = zip(self.arrays["table"][row], self.counts[row], strict=True)
        return frequencies([weight + 2048 * count for weight, count in weights])

    def at(self, key: tuple[int, int, int], i: int, j: int) -> int:
        plane = self.magnitudes.get(key)
        if plane is None or not (0 <= i < len(plane) and 0 <= j < len(plane[0])):
            return 0
        return plane[i][j]

    def row(self, key: tuple[int, int, int], i: int, j: int, phase: int) -> int:
        """Sections 6, 7."""
        component, level, band = key
        x = self.inputs(component, level, i, j, phase)
        if not any(x):
            return 120 + ((6 * component + min(level, 6) - 1) * 3 + band) * 4 + phase
        group, get = 4 * component + phase, self.arrays.__getitem__
        weights = [each[band] for each in get("first")[group]]
        bias = get("first_bias")[group][min(level, 7)][band]
        sums = [sum(w * v for w, v in zip(column, x, strict=False)) for column in zip(*weights, strict=True)]
        hidden = [cut((total + b) >> 8, 0, 255) for total, b in zip(sums, bias, strict=True)]
        total = sum(w * v for w, v in zip(get("second")[group][band], hidden, strict=True))
        return 40 * component + cut((total + get("second_bias")[group][band] + 1024) >> 11, 0, 39)

    def inputs(self, component: int, level: int, i: int, j: int, phase: int) -> list[int]:
        """Section 6."""
        row, column = PHASES[phase]

        def total(c: int, g: int, *offsets: tuple[int, int]) -> list[int]:
            places = [((i >> min(g, 1)) + a, (j >> min(g, 1)) + b) for a, b in offsets]
            if g == 2:
                height, width = self.sizes[min(level + 1, len(self.sizes) - 1)]
                inside = [(y, x) for y, x in places if 0 <= y < height and 0 <= x < width]
                places = [(y >> 1, x >> 1) for y, x in inside]
            return [sum(size(self.at((c, level + g, o), *place)) for place in places) for o in range(3)]

        def known(offsets: tuple) -> list:
            return [(a, b) for a, b in offsets if ((row + a) % 2, (column + b) % 2) in PHASES[:phase]]

        v, h = 2 * row - 1, 2 * column - 1
        far = (-v, 0), (0, -h), (v, -h), (-v, h), (-v, -h)
        diagonals = [(CORNERS[0], CORNERS[3]), (CORNERS[1], CORNERS[2])]
        if component:
            pairs = [[], diagonals, [SIDES[:2], SIDES[2:]], [SIDES[:2], SIDES[2:], CORNERS]][phase]
            parts = [(component, 0, part) for part in pairs]
        else:
            alone = [[], CORNERS, SIDES, SIDES][phase]
            parts = [(0, 0, [place]) for place in alone] + [(0, 0, CORNERS)] * (phase == 3)
            parts += [(0, 0, known(KNIGHTS))] * (phase > 1)
        parts += [(component, 1, [place]) for place in (HERE, (v, 0), (0, h), (v, h))]
        if component:
            parts += (
                [(component, 2, [HERE])]
                + [(c, 0, [HERE]) for c in range(component)]
                + [(component - 1, 0, SIDES)]
            )
        else:
            parts += [(0, 1, far), (0, 2, [HERE]), (0, 2, SIDES)]
        return [each for c, g, places in parts for each in total(c, g, *places)]


def size(m: int) -> int:
    e = (m + 1).bit_length() - 1
    return min(16 * (e - 1) + (16 * (m + 1) >> e), 127)


def value(m: int, shift: int, step: int) -> int:
    return min(((64 * m + shift) * step + (1 << 13)) >> 14, (1 << 20) - 1)
