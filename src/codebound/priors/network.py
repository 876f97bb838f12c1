"""A small network over neighbours in exact integers: embedding, two hidden layers, a power of two.

    x  = embeddings of all neighbours' digits (and of the digit before), one after the other
    h₁ = act(W₁ x + b₁);  h₂ = act(W₂ h₁ + b₂);  ℓ = scale(W₃ h₂ + b₃);  frequencies ∝ 2^((ℓ − max ℓ) / 256)
    scale(a) = ⌊m · a / 2^24⌋;  act(a) = min(max(scale(a), 0), 4095)

W and embeddings are int8, b and m int32. The products are held in float32, of 32 inputs at a time: no sum of so few
reaches 2^24, so that any BLAS with any number of threads, in any order of additions, has the same result to the last
bit. W₁ is multiplied by every row of the embedding once and for all: what remains of it are sums.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int8, Int32, Int64, Num

from codebound.coding.integers import exp2, frequencies
from codebound.errors import InputError
from codebound.priors import digits
from codebound.priors.field import slots

SHIFT = 24
HIGHEST = 4095  # activation
WIDEST = 4096  # inputs of a layer: 4096 · 128 · 4095 < 2^31, and with a bias and a factor still below 2^62
EXACT = 32  # inputs whose products float32 adds without rounding: 32 · 128 · 4095 < 2^24


@dataclass(frozen=True, eq=False)
class Layer:
    """One matrix, its bias in units of its products, and a factor per output in units of 2^−24."""

    weight: Int8[np.ndarray, "o i"]
    bias: Int32[np.ndarray, " o"]
    factor: Int32[np.ndarray, " o"]

    def __post_init__(self) -> None:
        outputs, inputs = self.weight.shape
        if not (1 <= inputs <= WIDEST and self.bias.shape == self.factor.shape == (outputs,)):
            raise InputError(
                f"a layer of the prior has shapes {self.weight.shape}, {self.bias.shape}, {self.factor.shape}"
            )
        if np.abs(self.factor.astype(np.int64)).max(initial=0) >= 1 << 30:
            raise InputError("a layer of the prior has a factor of 2^30 or more; below is accepted")

    @functools.cached_property
    def _parts(self) -> list[np.ndarray]:
        """The matrix for so many inputs at a time as are exact."""
        columns = self.weight.T.astype(np.float32)
        return [columns[first : first + EXACT] for first in range(0, len(columns), EXACT)]

    def __call__(self, x: Num[np.ndarray, "n i"]) -> Int64[np.ndarray, "n o"]:
        """scale(W x + b) of each row of whole numbers in 0 … 4095."""
        return self.scale(self.products(x))

    def products(self, x: Num[np.ndarray, "n i"]) -> Int64[np.ndarray, "n o"]:
        """W x."""
        x = x.astype(np.float32)
        products = np.zeros((len(x), len(self.bias)), dtype=np.int64)
        for number, part in enumerate(self._parts):
            products += (x[:, number * EXACT : (number + 1) * EXACT] @ part).astype(np.int64)
        return products

    def scale(self, products: Int64[np.ndarray, "n o"]) -> Int64[np.ndarray, "n o"]:
        """What becomes of W x, in its place."""
        products += self.bias
        products *= self.factor
        products >>= SHIFT
        return products


@dataclass(frozen=True, eq=False)
class Network:
    """Predicts digit `place` of the indices of one level.

    Args:
        codebook_sizes: of all levels.
        level: whose indices are predicted.
        place: which of their digits.
        embedding: one row per value of each kind of digit seen, and one for "outside" (`Inputs`).
        layers: hidden, hidden, output.

    Raises:
        InputError: arrays whose shapes don't fit.
    """

    codebook_sizes: tuple[int, ...]
    level: int
    place: int
    embedding: Int8[np.ndarray, "r d"]
    layers: tuple[Layer, Layer, Layer]

    def __post_init__(self) -> None:
        # Each layer must take what the one before gives, from the embeddings to the digit's values.
        inputs = Inputs(self.codebook_sizes, self.level, self.place)
        rows, width = self.embedding.shape
        expected_widths = [inputs.count * width, *(len(layer.bias) for layer in self.layers)]
        widths = [layer.weight.shape[1] for layer in self.layers]
        if rows != inputs.rows or widths != expected_widths[:3] or expected_widths[3] != inputs.alphabet:
            raise InputError(
                f"the prior's network for level {self.level}, digit {self.place} doesn't fit codebook sizes "
                f"{self.codebook_sizes}: embedding {self.embedding.shape}, layers "
                f"{[layer.weight.shape for layer in self.layers]}"
            )

    @functools.cached_property
    def _inputs(self) -> Inputs:
        return Inputs(self.codebook_sizes, self.level, self.place)

    @functools.cached_property
    def _products(self) -> Int32[np.ndarray, "r h"]:
        """W₁ times each row of the embedding that an input can have, input by input."""
        width = self.embedding.shape[1]
        weight = self.layers[0].weight.T.astype(np.float64)
        blocks = [
            self.embedding[rows] @ weight[number * width : (number + 1) * width]
            for number, rows in enumerate(self._inputs.blocks)
        ]
        return np.concatenate(blocks).astype(np.int32)

    def frequencies(
        self, neighbours: Int64[np.ndarray, "n s"], prefix: Int64[np.ndarray, " n"]
    ) -> Float64[np.ndarray, "n a"]:
        """Frequencies of the digit's values; see `experts.Expert.rows`."""
        # The first layer is a sum over inputs, the others are matrices.
        first, second, last = self.layers
        chosen = self._products[self._inputs.rows_of(neighbours, prefix) + self._inputs.shifts]
        hidden = first.scale(np.add.reduce(chosen, axis=1, dtype=np.int32).astype(np.int64))
        logits = last(act(second(act(hidden))))

        # The largest logit has the largest power.
        np.subtract(logits.max(-1, keepdims=True), logits, out=logits)
        return frequencies(exp2(logits).astype(np.float64))


def act(scaled: Int64[np.ndarray, "n o"]) -> Int64[np.ndarray, "n o"]:
    """Between 0 and the highest activation, in its place."""
    return np.minimum(np.maximum(scaled, 0, out=scaled), HIGHEST, out=scaled)


class Inputs:
    """Which rows of the embedding stand for what a position sees.

    Each level's each digit has a block of (values + 1) rows, the last one for "outside"; a second digit's network
    has one more block for the digit before. Inputs: neighbour by neighbour, digit by digit, then that digit.

    Attributes:
        rows: of the embedding; count: of embedded values per position; alphabet: values of the predicted digit.
        blocks: the rows that each input can have; shifts: what brings them into blocks of their own.
    """

    def __init__(self, codebook_sizes: Sequence[int], level: int, place: int) -> None:
        # A block of rows for each digit of each level that can be seen.
        own = digits.alphabets(codebook_sizes[level])
        starts: dict[tuple[int, int], int] = {}
        self.rows = 0
        for source in range(level + 1):
            for digit, size in enumerate(digits.alphabets(codebook_sizes[source])):
                starts[source, digit] = self.rows
                self.rows += size + 1

        # An input for each digit of each neighbour: how it comes from the index, and where its block begins.
        columns = []
        for number, slot in enumerate(slots(level)):
            size = codebook_sizes[slot.level]
            sizes = digits.alphabets(size)
            for digit, alphabet in enumerate(sizes):
                divisor = sizes[1] if len(sizes) > 1 and digit == 0 else 1
                columns.append((number, size, divisor, alphabet, starts[slot.level, digit]))
        self._slot, self._size, self._divisor, self._alphabet, self._start = np.array(columns).T
        self._single = bool((self._size == self._alphabet).all())
        self.blocks = [slice(start, start + alphabet + 1) for *_, alphabet, start in columns]

        # A second digit also sees the first one.
        self._prefix = self.rows if place else None
        if place:
            self.blocks.append(slice(self.rows, self.rows + own[0]))
            self.rows += own[0]

        # Where each input's block would be if no two inputs shared one.
        lengths = [block.stop - block.start for block in self.blocks]
        self.shifts = np.cumsum([0, *lengths[:-1]]) - np.array([block.start for block in self.blocks])
        self.count, self.alphabet = len(self.blocks), own[place]

    def rows_of(
        self, neighbours: Int64[np.ndarray, "n s"], prefix: Int64[np.ndarray, " n"]
    ) -> Int64[np.ndarray, "n c"]:
        """Row numbers, `count` per position."""
        # A neighbour outside the grid has the codebook size in place of an index, and a row of its own: where an index
        # is its only digit, that row's number is the size, too.
        seen = neighbours[:, self._slot]
        if not self._single:
            value = seen // self._divisor % self._alphabet
            seen = np.where(seen == self._size, self._alphabet, value)
        rows = seen + self._start

        # The digit before comes last.
        if self._prefix is not None:
            rows = np.concatenate([rows, self._prefix + prefix[:, None]], axis=-1)
        return rows


class Networks:
    """The networks of one level, one per digit, as an expert of a mixture."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks

    def rows(
        self, place: int, neighbours: Int64[np.ndarray, "n s"], prefix: Int64[np.ndarray, " n"]
    ) -> list[Float64[np.ndarray, "n a"]]:
        return [self._networks[place].frequencies(neighbours, prefix)]

    def learn(self, place: int, digits: Int64[np.ndarray, " n"]) -> None:
        """Nothing: the networks are fixed."""
