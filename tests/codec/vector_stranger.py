"""A decoder of `.cbv` files written from docs/vectors.md alone, in plain Python: the page must be enough.

Of what stands in docs/format.md it takes the range coder and the integers from that page's own stranger.
"""

from __future__ import annotations

import math
import zlib

import stranger

STATES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
H1 = dict(zip(STATES, (0o2, 0o4, 0o4, 0o10, 0o24, 0o126, 0o362, 0o502, 0o1102), strict=True))
H0 = dict(zip(STATES, (0o5, 0o13, 0o23, 0o45, 0o103, 0o235, 0o515, 0o1513, 0o2745), strict=True))


class Bytes(stranger.Bytes):
    def zigzag(self) -> int:
        value = self.varint()
        return value // 2 if value % 2 == 0 else -(value + 1) // 2

    def bits(self, count: int) -> list[int]:
        data = self.take(-(-count // 8))
        return [data[i // 8] >> (i % 8) & 1 for i in range(count)]


def read(data: bytes) -> list[list[float]]:
    """The vectors of a file, before they are rounded to its type. Section 1."""
    source = Bytes(data)
    assert source.take(4) == bytes.fromhex("89434256")
    version, flags = source.take(2)
    assert version in (1, 2)
    states = 1 << source.varint()
    sizes = [source.varint() for _ in range(source.varint())]
    dim, room = sizes[-1], math.prod(sizes[:-1])
    block = source.varint() or max(1, 2**20 // dim)
    there = source.bits(room) if flags & 16 else [1] * room
    exponent = source.zigzag()
    mean = [source.zigzag() for _ in range(dim)]
    coded = [i for i, bit in enumerate(source.bits(dim)) if bit]
    own = source.bits(len(coded))
    alone = source.bits(len(coded)) if flags & 64 else [0] * len(coded)
    pitches = [source.varint() for _ in coded]
    values = []
    for mine, scalar in zip(own, alone, strict=True):
        step = 2 if scalar else 1
        of = {n: source.varint() for n in range(step, 9, step)} if mine else {}
        values.append([of.get(n, 0) for n in range(9)] if mine else [])
    fixed, table = source.take(1)[0] if flags & 32 else 0, []
    if fixed:
        table = [int.from_bytes(source.take(2), "little", signed=True) for _ in range(states)]
    size, unit = (3, 22) if flags & 8 else (2, 15)
    axes = [
        [int.from_bytes(source.take(size), "little", signed=True) for _ in range(dim)]
        for _ in coded
        if flags & 4
    ]

    # The blocks, each with its checksum.
    total = sum(there)
    counts = [min(block, total - done) for done in range(0, total, block)]
    covered, decoded = data[: source.at], []
    for count in counts:
        start = source.at
        body = source.take(source.varint())
        covered += data[start : source.at]
        assert int.from_bytes(source.take(4), "little") == zlib.crc32(covered)
        if fixed:
            decoded += registers(Bytes(body), count, dim, fixed, table)
        elif version == 1:
            decoded += levels_1(Bytes(body), count, len(coded), states)
        else:
            decoded += levels(Bytes(body), count, alone, states)
    if not counts:
        assert int.from_bytes(source.take(4), "little") == zlib.crc32(covered)
    assert source.at == len(data)

    # What the levels stand for. Section 4.
    rows, found = [], iter(decoded)
    for is_there in there:
        row = [0.0] * dim
        if is_there:
            points = [
                point(n, pitch, own) for n, pitch, own in zip(next(found), pitches, values, strict=True)
            ]
            if flags & 4:
                sums = [
                    sum(v * axis[d] for v, axis in zip(points, axes, strict=True)) / 2**unit
                    for d in range(dim)
                ]
            else:
                sums = [0] * dim
                for i, v in zip(coded, points, strict=True):
                    sums[i] = v
            row = [math.ldexp(m + s, -exponent) for m, s in zip(mean, sums, strict=True)]
        rows.append(row)
    return rows


def point(n: int, pitch: int, values: list[int]) -> int:
    size, start = abs(n), 0
    if values:
        start, size = values[min(size, 8)], max(size - 8, 0)
    v = start + (size * pitch + 2**15 >> 16)
    return v if n > 0 else -v


def registers(body: Bytes, count: int, dim: int, bits: int, table: list[int]) -> list[list[int]]:
    """The levels of a block of a fixed number of bits. Section 6."""
    stream, out = body.bits(count * dim * bits), []
    assert body.at == len(body.data)
    for v in range(count):
        own = stream[v * dim * bits : (v + 1) * dim * bits]
        symbols = [sum(own[i * bits + j] << j for j in range(bits)) for i in range(dim)]
        row = []
        for i in range(dim):
            register, place, shift = 0, i, 0
            while 1 << shift < len(table):
                register |= symbols[place % dim] << shift
                place, shift = place - 1, shift + bits
            row.append(table[register])
        out.append(row)
    return out


def levels(body: Bytes, count: int, alone: list[int], states: int) -> list[list[int]]:
    """The levels of a block. Sections 1 to 3."""
    scalars = sum(alone)
    path, b = len(alone) - scalars, body.varint()
    s = body.varint() if scalars else 0
    bin_of, on_path, apart = [], 0, 0
    for scalar in alone:
        if scalar:
            bin_of.append(b + apart * s // scalars)
            apart += 1
        else:
            bin_of.append(on_path * b // path)
            on_path += 1
    models = [model_2(body, 2 if i < b else 1) for i in range(b + s)]
    odd = [body.varint() if i < b else 0 for i in range(b + s)]
    place, far = 0, {}
    for _ in range(body.varint()):
        place += body.varint()
        far[place] = 4 * body.zigzag()

    # Which streams there are: how many levels, and of what; then all their low bits, then all their symbols.
    kinds = []
    for i, own in enumerate(models):
        every = count * bin_of.count(i)
        kinds += [(i, 0, every - odd[i], own)] + ([(i, 1, odd[i], own)] if i < b else [])
    lows = []
    for _, _, many, (shift, _, _) in kinds:
        bits = body.bits(many * shift)
        lows.append([sum(bits[j * shift + k] << k for k in range(shift)) for j in range(many)])
    coder, streams = stranger.RangeDecoder(body.data[body.at :]), {}
    for (i, parity, many, (shift, firsts, rows)), low in zip(kinds, lows, strict=True):
        one = len(rows[parity]) == 1
        high = [firsts[parity] + (0 if one else coder.symbol(rows[parity])) for _ in range(many)]
        streams[i, parity] = iter([2 * ((h << shift) + m) + parity for h, m in zip(high, low, strict=True)])

    state, out = 0, []
    for v in range(count):
        row = []
        for component, number in enumerate(bin_of):
            n = next(streams[number, 0 if alone[component] else state % 2])
            row.append(n + far.get(v * len(alone) + component, 0))
            if not alone[component]:
                state = state >> 1 ^ (H0[states] >> 1) * (state % 2) ^ (H1[states] >> 1) * (n >> 1 & 1)
        out.append(row)
    return out


def model_2(body: Bytes, parities: int) -> tuple[int, list[int], list[list[int]]]:
    """Shift, first symbols and frequencies of a bin, for each parity."""
    first = body.take(1)[0]
    kind, shift, lows, rows = first & 3, first >> 2, [], []
    if kind == 2:
        reach = body.varint()
        costs = list(body.take(body.take(1)[0]))
        rise = body.take(1)[0]
        while len(costs) <= reach:
            costs.append(min(255, costs[-parities] + rise))
        for parity in range(parities):
            ms = [m for m in range(-256, 257) if abs(parities * m + parity) <= reach]
            lows.append(ms[0])
            rows.append([stranger.exp2(16 * costs[abs(parities * m + parity)]) for m in ms])
        return 0, lows, [stranger.frequencies(row) for row in rows]
    counts = []
    for _ in range(parities):
        lows.append(body.zigzag())
        counts.append(body.varint())
    if kind == 1:
        rows = [[stranger.exp2(16 * cost) for cost in body.take(count)] for count in counts]
    else:
        q = body.varint()
        for p in range(parities):
            xs = [2 * h + (p if shift == 0 else 1) for h in range(lows[p], lows[p] + counts[p])]
            rows.append([1 + stranger.exp2(min(x * x, 2**27) * q >> 16) for x in xs])
    return shift, lows, [stranger.frequencies(row) for row in rows]


def levels_1(body: Bytes, count: int, components: int, states: int) -> list[list[int]]:
    """The levels of a block of version 1. Section 7."""
    bins = min(components, 32)
    bin_of = [i * bins // components for i in range(components)]
    models = [model(body) for _ in range(bins)]
    odd = [body.varint() for _ in range(bins)]
    lengths = [body.varint() for _ in range(2 * bins - 1)]
    far = []
    for _ in range(bins):
        place, own = 0, {}
        for _ in range(body.varint()):
            place += body.varint()
            own[place] = 4 * body.zigzag()
        far.append(own)
    if bins:
        lengths.append(len(body.data) - body.at - sum(lengths))
    streams = []
    for number in range(bins):
        width = bin_of.count(number)
        for parity, many in ((0, count * width - odd[number]), (1, odd[number])):
            streams.append(
                iter(stream(body.take(lengths[2 * number + parity]), many, parity, models[number]))
            )

    state, out, place = 0, [], [0] * bins
    for _ in range(count):
        row = []
        for number in bin_of:
            n = next(streams[2 * number + state % 2])
            row.append(n + far[number].get(place[number], 0))
            place[number] += 1
            state = state >> 1 ^ (H0[states] >> 1) * (state % 2) ^ (H1[states] >> 1) * (n >> 1 & 1)
        out.append(row)
    return out


def model(body: Bytes) -> tuple[int, list[int], list[list[int]]]:
    """Shift, first symbols and frequencies of a bin, for even and odd levels."""
    first = body.take(1)[0]
    shift, lows, counts = first >> 1, [], []
    for _ in range(2):
        lows.append(body.zigzag())
        counts.append(body.varint())
    rows = []
    if first & 1:
        rows = [[stranger.exp2(16 * cost) for cost in body.take(count)] for count in counts]
    else:
        q = body.varint()
        for parity in (0, 1):
            xs = [
                2 * h + (parity if shift == 0 else 1)
                for h in range(lows[parity], lows[parity] + counts[parity])
            ]
            rows.append([1 + stranger.exp2(min(x * x, 2**27) * q >> 16) for x in xs])
    return shift, lows, [stranger.frequencies(row) for row in rows]


def stream(data: bytes, count: int, parity: int, of: tuple[int, list[int], list[list[int]]]) -> list[int]:
    shift, lows, rows = of
    source = Bytes(data)
    bits = source.bits(count * shift)
    low = [sum(bits[i * shift + j] << j for j in range(shift)) for i in range(count)]
    coder = stranger.RangeDecoder(data[source.at :])
    one = len(rows[parity]) == 1
    high = [lows[parity] + (0 if one else coder.symbol(rows[parity])) for _ in range(count)]
    return [2 * ((h << shift) + m) + parity for h, m in zip(high, low, strict=True)]
