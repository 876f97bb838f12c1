"""A block of a `.cbv` file: the levels of some vectors, in streams of bins of components (docs/vectors.md).

A *bin* is some components that share their frequencies: components on the path of the trellis, with a stream for even
levels and one for odd ones, or scalars, whose levels are all even.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64

from codebound.coding import level_streams, varint
from codebound.coding.errors import DamagedFile
from codebound.coding.level_streams import Model, unzigzag, zigzag
from codebound.coding.range_coder import Decoder, Encoder
from codebound.coding.vector_container import Header
from codebound.quantize.trellis_search import HALF
from codebound.quantize.viterbi import compiled_for, machine

BINS = (1, 8, 32, 128)  # of components on the path, and of scalars, that an encoder tries
BINS_1 = 32  # in files of version 1, at most
WALKED = 50  # a step through a file in plain Python takes as long as looks at so many states (`viterbi.work`)
FAR = 12  # root mean squares: levels beyond are listed beside the streams

Rows = Int64[np.ndarray, "n K"]


class _Bins(NamedTuple):
    """The bin of each component; the bins on the path, which come first, and all."""

    of: Int64[np.ndarray, " K"]
    path: int
    every: int

    def parities(self, number: int) -> int:
        return 2 if number < self.path else 1


def _bins(alone: Bool[np.ndarray, " K"], path: int, scalars: int) -> _Bins:
    """Neighbours, of about the same variance, share one: the j-th of k components in b bins is in bin ⌊j·b / k⌋."""
    of = np.zeros(len(alone), dtype=np.int64)
    for own, count, first in ((~alone, path, 0), (alone, scalars, path)):
        k = int(own.sum())
        of[own] = first + np.arange(k) * count // max(k, 1)
    return _Bins(of, path, path + scalars)


def pack_block(levels: Rows, header: Header) -> bytes:
    """Bins, models, how many levels are odd, levels out of the way, low bits, and all streams in one."""
    inner = _within(levels)
    scalars = int(header.alone.sum())
    path = levels.shape[1] - scalars
    tried = {(min(path, most), min(scalars, most)) for most in BINS}
    every = [_fitted(inner, _bins(header.alone, *counts)) for counts in sorted(tried)]
    bins, models, _ = min(every, key=lambda each: each[2])

    out = varint.write(bins.path) + (varint.write(bins.every - bins.path) if scalars else b"")
    out += b"".join(model.pack() for model in models)
    coder, low = Encoder(), b""
    for number, model in enumerate(models):
        own = inner[:, bins.of == number].ravel()
        if model.parities == 2:
            out += varint.write(int((own & 1).sum()))
        for parity in range(model.parities):
            low += level_streams.encode(own[(own & 1) == parity], parity, model, coder)
    return out + _far(levels, inner) + low + coder.payload()


def _fitted(inner: Rows, bins: _Bins) -> tuple[_Bins, list[Model], float]:
    """The models of these bins, and the bits of all."""
    found = [
        level_streams.fitted(inner[:, bins.of == number].ravel(), bins.parities(number))
        for number in range(bins.every)
    ]
    return bins, [model for model, _ in found], sum((bits for _, bits in found), 0.0)


def _far(levels: Rows, inner: Rows) -> bytes:
    """How many levels are others than in the streams; for each the gap from the one before, and how many fours away."""
    at = np.flatnonzero(levels.ravel() != inner.ravel())
    quarters = (levels.ravel()[at] - inner.ravel()[at]) >> 2
    return varint.write(len(at)) + b"".join(
        varint.write(int(gap)) + varint.write(zigzag(int(quarter)))
        for gap, quarter in zip(np.diff(at, prepend=0), quarters, strict=True)
    )


def _within(levels: Rows) -> Rows:
    """Levels within some root mean squares of 0, multiples of 4 from what they were, so that branches are the same."""
    if not levels.size:
        return levels
    # Without the largest thousandth of a component, which may be all that there is to the mean square.
    size = np.abs(levels)
    most = size.max(0)
    count = max(1, len(size) - max(1, len(size) // 1000))
    limit = np.full(levels.shape[1], 2 * HALF, dtype=np.int64)
    for i in np.flatnonzero(most > 16):
        bulk = np.partition(size[:, i], count - 1)[:count].astype(np.float64)
        limit[i] = max(16, math.ceil(FAR * math.sqrt(float((bulk**2).mean()))))
    if (most <= limit).all():
        return levels
    over = np.maximum(size - limit, 0)
    return levels - np.sign(levels) * 4 * -(-over // 4)


def unpack_block(body: bytes, tokens: int, header: Header) -> Rows:
    """The levels of a block.

    Raises:
        DamagedFile: they can't be read, or are not as many as there should be.
    """
    if header.version == 1:
        return _unpack_block_1(body, tokens, header)
    reader, scalars = varint.Reader(body), int(header.alone.sum())
    components = len(header.alone)
    counts = [
        reader.number("number of bins", min(own, 1), own)
        for own in ([components - scalars, scalars] if scalars else [components])
    ]
    bins = _bins(header.alone, counts[0], counts[1] if scalars else 0)
    width = np.bincount(bins.of, minlength=bins.every).tolist()
    models, sizes = [], []
    for number in range(bins.every):
        models.append(Model.unpack(reader, 2, bins.parities(number)))
    for number, model in enumerate(models):
        count = tokens * width[number]
        odd = reader.number("number of odd levels", 0, count) if model.parities == 2 else 0
        sizes.append((count - odd, odd))
    at, quarters = _listed(reader, tokens * components)

    # Low bits of all streams, then their symbols; then the trellis says which stream a level comes from.
    low = [
        reader.take(level_streams.low_size(size, model), "low bits")
        for model, of in zip(models, sizes, strict=True)
        for size in of
    ]
    coder = Decoder(reader.take(len(body) - reader.at, "streams"))
    streams = [
        level_streams.decode(low[2 * number + parity], sizes[number][parity], parity, model, coder)
        if parity < model.parities
        else np.zeros(0, dtype=np.int64)
        for number, model in enumerate(models)
        for parity in (0, 1)
    ]
    coder.check_end()
    levels = _walked(streams, bins.of, header.alone, tokens, header.states)
    levels.ravel()[at] += 4 * quarters
    return levels


def _unpack_block_1(body: bytes, tokens: int, header: Header) -> Rows:
    """The levels of a block of a file of version 1: each stream and each bin's far levels by themselves."""
    reader, components = varint.Reader(body), len(header.pitch)
    bins = np.arange(components) * min(components, BINS_1) // max(components, 1)
    width = np.bincount(bins, minlength=min(components, BINS_1)).tolist()
    models = [Model.unpack(reader, 1) for _ in width]
    odd = [reader.number("number of odd levels", 0, tokens * each) for each in width]
    sizes = [reader.number("stream length", 0, len(body)) for _ in range(2 * len(width) - 1)] if width else []
    far = [_listed(reader, tokens * each) for each in width]
    if width:
        sizes.append(len(body) - reader.at - sum(sizes))
        if sizes[-1] < 0:
            raise DamagedFile("the file is cut off in a block's streams")

    streams = []
    for number, model in enumerate(models):
        counts = (tokens * width[number] - odd[number], odd[number])
        streams += [
            level_streams.decode_stream(reader.take(sizes[2 * number + p], "stream"), counts[p], p, model)
            for p in (0, 1)
        ]
    if reader.at != len(body):
        raise DamagedFile(f"a block goes on for {len(body) - reader.at} bytes after its end")
    levels = _walked(streams, bins, np.zeros(components, dtype=bool), tokens, header.states)
    for number, (at, quarters) in enumerate(far):
        if not len(at):
            continue
        own = levels[:, bins == number].ravel()
        own[at] += 4 * quarters
        levels[:, bins == number] = own.reshape(tokens, -1)
    return levels


def _listed(reader: varint.Reader, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Where levels are far, and by how many fours."""
    count = reader.number("number of far levels", 0, most)
    gaps, quarters = [], []
    for _ in range(count):
        gaps.append(reader.number("gap", 0, most))
        quarters.append(unzigzag(reader.number("far level", 0, 2 * HALF)))
    at = np.cumsum(np.array(gaps, dtype=np.int64))
    if count and (at[-1] >= most or min(gaps[1:], default=1) < 1):
        raise DamagedFile("the file lists a far level where there is none")
    return at, np.array(quarters, dtype=np.int64)


def _walked(
    streams: list[np.ndarray],
    bins: Int64[np.ndarray, " K"],
    alone: Bool[np.ndarray, " K"],
    tokens: int,
    states: int,
) -> Rows:
    """The levels in their order: in each state the next one of the stream of its parity; a scalar's are no step."""
    following, out = machine(states, torch.device("cpu")).following, np.empty((tokens, len(bins)), np.int64)
    if (fast := compiled_for(following.float(), WALKED * out.size)) is not None:
        sizes = np.array([len(stream) for stream in streams], dtype=np.int64)
        ends = np.cumsum(sizes).reshape(-1, 2)
        begins = ends - sizes.reshape(-1, 2)
        everything = np.concatenate([*streams, np.zeros(0, np.int64)])
        whole = fast.walk(everything, begins, ends, bins, alone, following.numpy(), out)
    else:
        whole = _walk(streams, bins, alone, following.tolist(), out)
    if not whole:
        raise DamagedFile("the file's levels are no path of its trellis")
    return out


def _walk(
    streams: list[np.ndarray],
    bins: Int64[np.ndarray, " K"],
    alone: Bool[np.ndarray, " K"],
    following: list[list[int]],
    out: Rows,
) -> bool:
    """The same in plain Python; whether there were enough levels in each stream."""
    readers = [iter(stream.tolist()) for stream in streams]
    pairs = [(readers[2 * number], readers[2 * number + 1]) for number in bins]
    steps, state = list(zip(pairs, alone.tolist(), strict=True)), 0
    try:
        for row in out:
            found = []
            for pair, is_alone in steps:
                if is_alone:
                    found.append(next(pair[0]))
                    continue
                level = next(pair[state & 1])
                found.append(level)
                state = following[state][(level >> 1) & 1]
            row[:] = found
    except StopIteration:
        return False
    return True
