"""Codes of equal nominal bits for one set of latents: residual and product codebooks, one table, FSQ's grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from codebound.quantize.compose import Product
from codebound.quantize.init import KMeans
from codebound.quantize.residual import Residual
from codebound.quantize.vector import VectorQuantizer

TABLE = 16  # bits of the largest single table
LEVELS = 15  # of one axis of the grid, at most
WIDTHS = np.geomspace(0.25, 2.5, 14)  # of a grid's step, in standard deviations
KNOWN = 200.0  # frames that the frequencies of training count as


@runtime_checkable
class Code(Protocol):
    """Fitted once, then latents to indices and back."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """K of each index."""
        ...

    def encode(self, z: Float32[np.ndarray, "n d"]) -> Int64[np.ndarray, "n q"]:
        """The indices of latents."""
        ...

    def decode(self, indices: Int64[np.ndarray, "n q"]) -> Float32[np.ndarray, "n d"]:
        """What they stand for."""
        ...


class Codebooks:
    """A quantizer of this package, its codebooks begun by k-means and left there; axes in another order if given."""

    def __init__(
        self,
        quantizer: Residual | Product | VectorQuantizer,
        z: Float32[np.ndarray, "n d"],
        order: Sequence[int],
    ) -> None:
        self._order = np.array(order)
        self._quantizer = quantizer.eval()
        quantizer.init_(torch.from_numpy(z[:, self._order]))

    @property
    def sizes(self) -> tuple[int, ...]:
        return self._quantizer.codebook_sizes

    def encode(self, z: Float32[np.ndarray, "n d"]) -> Int64[np.ndarray, "n q"]:
        return self._quantizer.encode(torch.from_numpy(z[:, self._order])).numpy()

    def decode(self, indices: Int64[np.ndarray, "n q"]) -> Float32[np.ndarray, "n d"]:
        z = np.empty((len(indices), len(self._order)), dtype=np.float32)
        with torch.no_grad():
            z[:, self._order] = self._quantizer.decode(torch.from_numpy(indices)).numpy()
        return z


@dataclass
class Grid:
    """FSQ's grid on latents that are given (Mentzer et al. 2024, without the network that would learn around it):
    L values of equal distance on each axis, levels and distances the best of training."""

    levels: Int64[np.ndarray, " d"]
    steps: Float64[np.ndarray, " d"]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Levels of the axes that have more than one."""
        return tuple(int(level) for level in self.levels[self._used])

    @property
    def _used(self) -> np.ndarray:
        return np.flatnonzero(self.levels > 1)

    def encode(self, z: Float32[np.ndarray, "n d"]) -> Int64[np.ndarray, "n q"]:
        levels, steps = self.levels[self._used], self.steps[self._used]
        places = np.rint(z[:, self._used] / steps + (levels - 1) / 2)
        return np.clip(places, 0, levels - 1).astype(np.int64)

    def decode(self, indices: Int64[np.ndarray, "n q"]) -> Float32[np.ndarray, "n d"]:
        z = np.zeros((len(indices), len(self.levels)), dtype=np.float32)
        levels, steps = self.levels[self._used], self.steps[self._used]
        z[:, self._used] = (indices - (levels - 1) / 2) * steps
        return z


def codes_of(
    bits: int, size: int, z: Float32[np.ndarray, "n d"], iterations: int, seed: int
) -> dict[str, Code]:
    """A code of each kind that spends so many nominal bits on a vector, fitted to these.

    Codebooks have `size` codewords, or half the bits where they would be one table: stages and parts are two at least.
    """
    bits_of_one = min(int(math.log2(size)), bits // 2)
    count, dim = bits // bits_of_one, z.shape[1]

    def book(width: int, number: int, own: int = bits_of_one) -> VectorQuantizer:
        return VectorQuantizer(width, 2**own, init=KMeans(iterations, "sample"), seed=1000 * seed + number)

    found: dict[str, Code] = {
        "residual": Codebooks(Residual([book(dim, at) for at in range(count)]), z, range(dim))
    }
    if dim % count == 0:
        order = dealt(z.var(0), count)
        parts = [book(dim // count, at) for at in range(count)]
        found["product"] = Codebooks(Product(parts), z, order)
    found["fsq"] = grid_of(bits, z)
    if bits <= TABLE and 2 * 2**bits <= len(z):
        found["table"] = Codebooks(book(dim, 0, bits), z, range(dim))
    return found


def dealt(variances: np.ndarray, parts: int) -> list[int]:
    """Axes in an order in which consecutive parts have nearly equal products of variances (Ge et al. 2013, §3.2.2)."""
    room, taken = len(variances) // parts, [[] for _ in range(parts)]
    logs = np.log(np.maximum(variances / variances.max(), 1e-12))
    logs -= logs.min()  # above 0: an axis more is more weight
    for axis in np.argsort(-variances, kind="stable"):
        open_ones = [part for part in range(parts) if len(taken[part]) < room]
        least = min(open_ones, key=lambda part: (logs[taken[part]].sum(), part))
        taken[least].append(int(axis))
    return [axis for part in taken for axis in part]


def grid_of(bits: float | int, z: Float32[np.ndarray, "n d"]) -> Grid:
    """Levels where a bit lowers the error most, as long as all together have no more than these bits."""
    # The least error of each axis at each number of levels, and the step that has it.
    dim, sigma = z.shape[1], z.std(0) + 1e-9
    errors, steps = np.empty((LEVELS + 1, dim)), np.ones((LEVELS + 1, dim))
    errors[1] = np.square(z).mean(0)
    for levels in range(2, LEVELS + 1):
        tried = []
        for width in WIDTHS:
            grid = Grid(np.full(dim, levels), width * sigma)
            tried.append(np.square(z - grid.decode(grid.encode(z))).mean(0))
        best = np.argmin(tried, axis=0)
        errors[levels], steps[levels] = np.min(tried, axis=0), WIDTHS[best] * sigma

    # Greedily: the axis and number of levels whose error falls most for each bit more.
    chosen, left, axes = np.ones(dim, dtype=np.int64), float(bits), np.arange(dim)
    while True:
        best = (0.0, -1, -1)
        for levels in range(2, LEVELS + 1):
            cost = np.log2(levels) - np.log2(chosen)
            fits = (levels > chosen) & (cost <= left + 1e-9)
            gain = np.where(fits, (errors[chosen, axes] - errors[levels]) / np.where(fits, cost, 1.0), 0.0)
            axis = int(gain.argmax())
            best = max(best, (float(gain[axis]), levels, axis))
        if best[0] <= 0:
            break
        _, levels, axis = best
        left -= math.log2(levels) - math.log2(chosen[axis])
        chosen[axis] = levels
    return Grid(chosen, steps[chosen, axes])


def adaptive_bits(
    train: Int64[np.ndarray, "m q"], clips: Sequence[Int64[np.ndarray, "n q"]], sizes: Sequence[int]
) -> float:
    """Bits a frame under counts that begin from the frequencies of training and follow each recording by itself."""
    total, frames = 0.0, sum(map(len, clips))
    for column, size in enumerate(sizes):
        prior = 1.0 + np.bincount(train[:, column], minlength=size)
        prior *= KNOWN / prior.sum()
        for clip in clips:
            counts = prior.copy()
            for at, index in enumerate(clip[:, column]):
                total -= math.log2(counts[index] / (KNOWN + at))
                counts[index] += 1
    return total / frames
