"""A small network over neighbours in exact integers: embedding, two hidden layers, a power of two.

    x  = embeddings of all neighbours' digits (and of the digit before), one after the other
    h₁ = act(W₁ x + b₁);  h₂ = act(W₂ h₁ + b₂);  ℓ = scale(W₃ h₂ + b₃);  frequencies ∝ 2^((ℓ − max ℓ) / 256)
    scale(a) = ⌊m · a / 2^24⌋;  act(a) = min(max(scale(a), 0), 4095)

W and embeddings are int8, b and m int32. The products are held in float64: no sum in them reaches 2^53, so that any
BLAS with any number of threads, in any order of additions, has the same result to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int8, Int32, Int64

from codebound.coding.integers import exp2, frequencies
from codebound.errors import InputError
from codebound.priors import digits
from codebound.priors.field import slots

SHIFT = 24
HIGHEST = 4095  # activation
WIDEST = 4096  # inputs of a layer: 4096 · 127 · 4095 < 2^31, and with a bias and a factor still below 2^62


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
        object.__setattr__(self, "_exact", self.weight.T.astype(np.float64))

    def __call__(self, x: np.ndarray) -> Int64[np.ndarray, "n o"]:
        """scale(W x + b) of each row of whole numbers held in float64."""
        products: np.ndarray = x @ self._exact  # pyright: ignore[reportAttributeAccessIssue]
        return (products.astype(np.int64) + self.bias) * self.factor >> SHIFT


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

        # What every prediction needs again, in the float64 that holds whole numbers exactly.
        object.__setattr__(self, "_inputs", inputs)
        object.__setattr__(self, "_exact", self.embedding.astype(np.float64))

    def frequencies(
        self, neighbours: Int64[np.ndarray, "n s"], prefix: Int64[np.ndarray, " n"]
    ) -> Int64[np.ndarray, "n a"]:
        """Frequencies of the digit's values; see `experts.Expert.rows`."""
        rows: np.ndarray = self._inputs.rows_of(neighbours, prefix)  # pyright: ignore[reportAttributeAccessIssue]
        x: np.ndarray = self._exact[rows].reshape(len(rows), -1)  # pyright: ignore[reportAttributeAccessIssue]
        for layer in self.layers[:2]:
            x = np.clip(layer(x), 0, HIGHEST).astype(np.float64)
        logits = self.layers[2](x)
        return frequencies(exp2(logits.max(-1, keepdims=True) - logits))


class Inputs:
    """Which rows of the embedding stand for what a position sees.

    Each level's each digit has a block of (values + 1) rows, the last one for "outside"; a second digit's network
    has one more block for the digit before. Inputs: neighbour by neighbour, digit by digit, then that digit.

    Attributes:
        rows: of the embedding; count: of embedded values per position; alphabet: values of the predicted digit.
    """

    def __init__(self, codebook_sizes: Sequence[int], level: int, place: int) -> None:
        # A block of rows for each digit of each level that can be seen.
        self._sizes = tuple(codebook_sizes)
        self._slots = slots(level)
        own = digits.alphabets(self._sizes[level])
        self._starts: dict[tuple[int, int], int] = {}
        self.rows = 0
        for source in range(level + 1):
            for digit, size in enumerate(digits.alphabets(self._sizes[source])):
                self._starts[source, digit] = self.rows
                self.rows += size + 1

        # A second digit also sees the first one.
        self._prefix = self.rows if place else None
        self.rows += own[0] if place else 0

        # How many embeddings a position has, and how many values its digit.
        self.count = sum(len(digits.alphabets(self._sizes[slot.level])) for slot in self._slots) + (place > 0)
        self.alphabet = own[place]

    def rows_of(
        self, neighbours: Int64[np.ndarray, "n s"], prefix: Int64[np.ndarray, " n"]
    ) -> Int64[np.ndarray, "n c"]:
        """Row numbers, `count` per position."""
        # A neighbour outside the grid has the codebook size in place of an index, and a row of its own.
        columns = []
        for slot, indices in zip(self._slots, neighbours.T, strict=True):
            size = self._sizes[slot.level]
            values = digits.split(indices, size)
            for digit, (value, alphabet) in enumerate(zip(values, digits.alphabets(size), strict=True)):
                start = self._starts[slot.level, digit]
                columns.append(start + np.where(indices == size, alphabet, value))

        # The digit before comes last.
        if self._prefix is not None:
            columns.append(self._prefix + prefix)
        return np.stack(columns, axis=-1)


class Networks:
    """The networks of one level, one per digit, as an expert of a mixture."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks

    def rows(
        self, place: int, neighbours: Int64[np.ndarray, "n s"], prefix: Int64[np.ndarray, " n"]
    ) -> list[Int64[np.ndarray, "n a"]]:
        return [self._networks[place].frequencies(neighbours, prefix)]

    def learn(self, place: int, digits: Int64[np.ndarray, " n"]) -> None:
        """Nothing: the networks are fixed."""
