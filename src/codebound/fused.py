"""The two best scores of each vector in one pass, compiled by Numba (extra `fast`): for vectors of few dimensions.

There a product of matrices spends its time on writing scores, and a search on reading them again. Here a score
`z·c − |c|²/2` lives in a register: `ROWS` vectors meet `LANES` codewords at a time, and each lane remembers its best
score, its second, and where the best one was. What leads by no more than rounding is for the caller to look at again.
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from jaxtyping import Float32, Float64, Int64
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16  # codewords at a time: a register of AVX-512, two of AVX2, four of NEON
ROWS = 3  # vectors that share what is read of the codewords
PART = 2**18  # bytes of codewords that all vectors meet before the next ones: they stay in the cache


class Codewords(NamedTuple):
    """A codebook as it is searched.

    Attributes:
        centre: the mean codeword.
        blocks: codewords less the mean, `LANES` side by side, and −|c|²/2 of them.
        longest: the largest |c|² of them.
        finite: whether the mean is; if not, nothing can be searched.
    """

    centre: Float32[np.ndarray, " d"]
    blocks: Float32[np.ndarray, "b d1 l"]
    longest: float
    finite: bool


def laid_out(book: Float32[np.ndarray, "k d"]) -> Codewords:
    """A codebook, its rows one after the other in memory."""
    return Codewords(*_laid_out(book))


def best(
    z: Float32[np.ndarray, "n d"], codewords: Codewords, slope: float, offset: float, part: int = PART
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " m"]]:
    """The index of the best score of each vector, the lowest one of equals, and the vectors for which that is in doubt.

    The first call with a number of dimensions compiles for a second or two; later processes find that on the disk.

    Args:
        z: rows one after the other in memory.
        slope, offset: a lead of up to slope·|z| + offset, of z less the mean codeword, may be rounding: `doubt_terms`.
        part: bytes of codewords at a time.

    Returns:
        indices, 0 for vectors that are not finite, and the numbers of those in doubt: these among them.
    """
    dim = z.shape[1]
    together = max(1, part // (4 * LANES * (dim + 1)))
    return _best(z, codewords.centre, codewords.blocks, (0,) * dim, slope, offset, together)


def cell_sums(
    z: Float32[np.ndarray, "n d"], indices: Int64[np.ndarray, " n"], k: int
) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, "k d"]]:
    """Counts and sums of the vectors of each cell, added up in their order; indices of −1 are left out."""
    return _cell_sums(z, indices, k)


def compiled(function: Callable) -> Callable:
    """Machine code at the first call, kept for later processes; a checker of types around it would be in the way."""
    return numba.njit(nogil=True, cache=True, error_model="numpy")(inspect.unwrap(function))


@intrinsic
def _scan(typing: Any, queries: Any, codes: Any, best: Any, second: Any, at: Any, dims: Any) -> Any:
    """The best and second score of each query among some codewords, and which the best one is.

    Numba's loops over arrays go through memory at each step; this is written for LLVM itself, in vectors of `LANES`.

    Args:
        queries: float32 [ROWS, d].
        codes: float32 [blocks, d + 1, LANES], the last row −|c|²/2.
        best, second: float32 [ROWS], written to.
        at: int32 [ROWS], written to.
        dims: a tuple of length d, whose type tells d.
    """
    signature = types.void(queries, codes, best, second, at, dims)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _Scan(context, builder, signature, arguments).write(len(signature.args[5]))
        return context.get_dummy_value()

    return signature, generate


_FLOAT, _INT, _MASK = ir.FloatType(), ir.IntType(32), ir.IntType(LANES)
_FLOATS, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
_LOW = ir.Constant(_FLOATS, [float("-inf")] * LANES)
_NOWHERE = ir.Constant(_INTS, [2**31 - 1] * LANES)


class _Scan:
    """Writes `_scan` as LLVM instructions."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.builder = builder
        made = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:5], arguments[:5], strict=True)
        ]
        self.queries, self.codes, self.best, self.second, at = (
            builder.bitcast(array.data, _FLOAT.as_pointer()) for array in made
        )
        self.at = builder.bitcast(at, _INT.as_pointer())
        self.blocks = cgutils.unpack_tuple(builder, made[1].shape)[0]

    def write(self, dim: int) -> None:
        builder = self.builder

        # Each number of a query in all lanes, and what a lane remembers: best, second, where.
        queries = [
            [
                self.everywhere(builder.load(self.place(self.queries, row * dim + i)), _FLOATS)
                for i in range(dim)
            ]
            for row in range(ROWS)
        ]
        memory = [
            [
                cgutils.alloca_once_value(builder, start)
                for start in (_LOW, _LOW, ir.Constant(_INTS, [0] * LANES))
            ]
            for _ in range(ROWS)
        ]

        # Block by block: scores, and what they change.
        add_product = self.function(f"llvm.fma.v{LANES}f32", _FLOATS, _FLOATS, _FLOATS, _FLOATS)
        with cgutils.for_range(builder, self.blocks) as loop:
            number = self.everywhere(builder.trunc(loop.index, _INT), _INTS)
            start = builder.mul(loop.index, ir.Constant(loop.index.type, (dim + 1) * LANES))
            block = builder.gep(self.codes, [start])
            scores = [self.vector(block, dim * LANES)] * ROWS
            for i in range(dim):
                code = self.vector(block, i * LANES)
                scores = [
                    builder.call(add_product, [queries[row][i], code, scores[row]]) for row in range(ROWS)
                ]
            for score, places in zip(scores, memory, strict=True):
                best, second, where = (builder.load(place) for place in places)
                leads = builder.fcmp_ordered(">", score, best)
                lower = builder.select(leads, best, score)
                above = builder.fcmp_ordered(">", lower, second)
                builder.store(builder.select(leads, score, best), places[0])
                builder.store(builder.select(above, lower, second), places[1])
                builder.store(builder.select(leads, number, where), places[2])

        for row, places in enumerate(memory):
            self.finish(row, *(builder.load(place) for place in places))

    def finish(self, row: int, best: Any, second: Any, where: Any) -> None:
        """The best and second of all lanes: no lane remembers NaN."""
        builder = self.builder
        largest = self.function(f"llvm.vector.reduce.fmax.v{LANES}f32", _FLOAT, _FLOATS)
        least = self.function(f"llvm.vector.reduce.umin.v{LANES}i32", _INT, _INTS)
        ones = self.function(f"llvm.ctpop.i{LANES}", _MASK, _MASK)

        # The lowest index of those that have the best score.
        top = builder.call(largest, [best], fastmath=("nnan",))
        winners = builder.fcmp_ordered("==", best, self.everywhere(top, _FLOATS))
        wide = ir.Constant(_INTS, [LANES] * LANES)
        index = builder.add(builder.mul(where, wide), ir.Constant(_INTS, list(range(LANES))))
        at = builder.call(least, [builder.select(winners, index, _NOWHERE)])

        # The second is the best of the other lanes, or a second of any; if two lanes share the best it is that.
        others = builder.call(largest, [builder.select(winners, _LOW, best)], fastmath=("nnan",))
        seconds = builder.call(largest, [second], fastmath=("nnan",))
        runner_up = builder.select(builder.fcmp_ordered(">", others, seconds), others, seconds)
        shared = builder.icmp_unsigned(
            ">", builder.call(ones, [builder.bitcast(winners, _MASK)]), ir.Constant(_MASK, 1)
        )
        builder.store(top, self.place(self.best, row))
        builder.store(builder.select(shared, top, runner_up), self.place(self.second, row))
        builder.store(at, self.place(self.at, row))

    def place(self, pointer: Any, number: int) -> Any:
        return self.builder.gep(pointer, [ir.Constant(ir.IntType(64), number)])

    def vector(self, pointer: Any, number: int) -> Any:
        """`LANES` numbers from memory, wherever they begin."""
        loaded = self.builder.load(self.builder.bitcast(self.place(pointer, number), _FLOATS.as_pointer()))
        loaded.align = 4
        return loaded

    def everywhere(self, number: Any, kind: Any) -> Any:
        nothing = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(nothing, number, ir.Constant(_INT, 0))
        return self.builder.shuffle_vector(first, nothing, ir.Constant(_INTS, [0] * LANES))

    def function(self, name: str, result: Any, *arguments: Any) -> Any:
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, arguments), name)


@compiled
def _best(z, centre, codes, dims, slope, offset, part):
    n, dim = z.shape
    index, best = np.zeros(n, np.int64), np.full(n, -np.inf, np.float32)
    second, lead = np.full(n, -np.inf, np.float32), np.empty(n)
    queries = np.zeros((ROWS, dim), np.float32)
    tops, seconds, at = np.empty(ROWS, np.float32), np.empty(ROWS, np.float32), np.empty(ROWS, np.int32)
    for start in range(0, len(codes), part):
        block = codes[start : start + part]
        for first in range(0, n, ROWS):
            rows = min(ROWS, n - first)
            for row in range(rows):
                square = 0.0
                for i in range(dim):
                    number = z[first + row, i] - centre[i]
                    queries[row, i] = number
                    square += number * number
                lead[first + row] = slope * np.sqrt(square) + offset
            _scan(queries, block, tops, seconds, at, dims)

            # Among parts the first one keeps what is equal.
            for row in range(rows):
                here, old = first + row, best[first + row]
                if tops[row] > old:
                    index[here], best[here] = start * LANES + at[row], tops[row]
                    second[here] = max(old, seconds[row])
                else:
                    second[here] = max(second[here], tops[row])

    # Not `<=`: neither ties, nor overflow, nor what is not a number leaves a lead.
    doubtful = np.empty(n, np.int64)
    count = 0
    for row in range(n):
        if not best[row] - second[row] > lead[row]:
            doubtful[count] = row
            count += 1
    return index, doubtful[:count].copy()


@compiled
def _cell_sums(z, indices, k):
    counts, sums = np.zeros(k), np.zeros((k, z.shape[1]))
    for row in range(len(z)):
        cell = indices[row]
        if 0 <= cell < k:
            counts[cell] += 1
            for i in range(z.shape[1]):
                sums[cell, i] += z[row, i]
    return counts, sums


@compiled
def _laid_out(book):
    """The mean codeword; all less the mean, `LANES` side by side, with −|c|²/2; the largest |c|²."""
    k, dim = book.shape
    centre = np.zeros(dim, np.float32)
    for i in range(dim):
        total = 0.0
        for code in range(k):
            total += book[code, i]
        centre[i] = total / k
    codes, longest = np.zeros(((k + LANES - 1) // LANES, dim + 1, LANES), np.float32), np.float32(0)
    codes[-1, dim, :] = -np.inf  # what only fills the last block up is never best
    for code in range(k):
        block, lane, square = code // LANES, code % LANES, np.float32(0)
        for i in range(dim):
            number = book[code, i] - centre[i]
            codes[block, i, lane] = number
            square += number * number
        codes[block, dim, lane] = np.float32(-0.5) * square
        longest = max(longest, square)
    return centre, codes, longest, np.isfinite(centre.sum())
