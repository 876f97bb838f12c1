"""Samples of the integer prior that codes files: each index drawn given its neighbours. The cheap baseline."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from codebound import arguments
from codebound.errors import InputError
from codebound.generators.drawing import Draw, check_seed, uniforms
from codebound.priors import digits
from codebound.priors.field import Field
from codebound.priors.fitting import cross_entropy
from codebound.priors.grid_prior import GridPrior

BATCH = 256  # pictures at once


def sample_grids(
    prior: GridPrior,
    count: int,
    grid: tuple[int, int],
    *,
    temperature: float = 1.0,
    seed: int = 0,
    first: int = 0,
) -> Int64[Tensor, "count h w q"]:
    """New grids of indices, level by level, each position given what it sees of those before it (`priors.field`).

    The prior knows no classes. A sample is a function of (seed, its number): more samples change none.

    Args:
        grid: rows and columns.
        temperature: that the logarithms of a digit's probabilities are divided by; 0 takes the likeliest digit. An
            index of a codebook of more than 512 is two digits.
        first: the number of the first sample.

    Raises:
        InputError: a number out of range.
    """
    arguments.whole("count", count, least=0)
    check_seed(seed)
    Draw(temperature=temperature).check()
    if min(grid) < 1:
        raise InputError(f"grid={grid[0]}x{grid[1]}: at least one row and one column are needed")
    parts = [
        _sampled(prior, min(BATCH, count - start), grid, temperature, seed, first + start)
        for start in range(0, count, BATCH)
    ]
    empty = torch.zeros(0, *grid, len(prior.codebook_sizes), dtype=torch.int64)
    return torch.cat([empty, *map(torch.from_numpy, parts)])


def grid_bits(prior: GridPrior, indices: Int64[Tensor, "n h w q"]) -> Float64[Tensor, " n"]:
    """What each grid costs in bits: −log₂ of its probability under the integer networks alone, without a class."""
    places = indices.shape[1] * indices.shape[2]
    costs = [float(cross_entropy(prior, [grid]).sum()) * places for grid in indices.numpy()]
    return torch.tensor(costs, dtype=torch.float64)


def _sampled(
    prior: GridPrior, count: int, grid: tuple[int, int], temperature: float, seed: int, first: int
) -> Int64[np.ndarray, "count h w q"]:
    """Some pictures, the first of which has this number."""
    # A field for each picture, and two numbers for each index: one a digit.
    sizes, (height, width) = prior.codebook_sizes, grid
    start = np.zeros((height, width, len(sizes)), dtype=np.int64)
    fields = [Field(start, sizes) for _ in range(count)]
    columns = 2 * len(sizes) * height * width
    numbers = uniforms(seed, first, count, columns).numpy().reshape(count, len(sizes), 2, -1)

    # Diagonal by diagonal, as a decoder goes: the positions of one see none of each other.
    for level, size in enumerate(sizes):
        done = 0
        for at in fields[0].diagonals():
            neighbours = np.concatenate([field.seen(level, at) for field in fields])
            chances = numbers[:, level, :, done : done + len(at)]
            drawn = _drawn(prior, level, size, neighbours, chances, temperature)
            for field, indices in zip(fields, drawn.reshape(count, -1), strict=True):
                field.write(level, at, indices)
            done += len(at)
    return np.stack([field.indices() for field in fields])


def _drawn(
    prior: GridPrior,
    level: int,
    size: int,
    neighbours: Int64[np.ndarray, "n s"],
    numbers: np.ndarray,
    temperature: float,
) -> Int64[np.ndarray, " n"]:
    """An index at each position, digit by digit, by numbers in [0, 1) `[pictures, 2, positions]`."""
    prefix, found = np.zeros(len(neighbours), dtype=np.int64), []
    for place, network in enumerate(prior.networks[level]):
        frequencies = network.frequencies(neighbours, prefix)
        if place:  # no second digit makes an index of more than there are
            low = np.arange(frequencies.shape[1])
            frequencies = np.where(prefix[:, None] * len(low) + low < size, frequencies, 0)
        if temperature == 0:
            prefix = frequencies.argmax(1)
        else:
            tempered = frequencies if temperature == 1 else _tempered(frequencies, temperature)
            prefix = _first_above(tempered, numbers[:, place].reshape(-1))
        found.append(prefix)
    return digits.join(found, size)


def _tempered(frequencies: Float64[np.ndarray, "n a"], temperature: float) -> Float64[np.ndarray, "n a"]:
    """Frequencies to the power of 1 / temperature, each row's largest as 1."""
    return (frequencies / frequencies.max(1, keepdims=True)) ** (1 / temperature)


def _first_above(frequencies: Float64[np.ndarray, "n a"], numbers: np.ndarray) -> Int64[np.ndarray, " n"]:
    """The first value in each row at which the running sum passes its number's share of the row's sum."""
    sums = frequencies.cumsum(1)
    return (sums <= numbers[:, None] * sums[:, -1:]).sum(1)
