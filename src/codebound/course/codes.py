"""Tasks about codes: scalar and vector quantization, codes with structure, half a decibel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codebound.course.exercise import expect, require, task
from codebound.search import distortion, nearest
from codebound.theory.lloyd import lloyd as whole_lloyd


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _two_peaks() -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.concatenate([generator.normal(-3, 0.5, 900), generator.normal(3, 0.1, 100)])


def _scalar_lloyd(x: np.ndarray, levels: np.ndarray, steps: int) -> np.ndarray:
    for _ in range(steps):
        index = np.abs(x[:, None] - levels).argmin(1)
        filled = np.bincount(index, minlength=len(levels)) > 0
        means = np.bincount(index, x, len(levels)) / np.maximum(np.bincount(index, minlength=len(levels)), 1)
        levels = np.where(filled, means, levels)
    return levels


@task("scalar", "understanding")
def one_bit_distortion(answer: float) -> None:
    """What the best quantizer of two levels leaves of N(0, 1)."""
    expect(
        answer, 1 - 2 / math.pi, "A level is the mean of |x|; what is saved of the variance is its square."
    )


@task("scalar", "extension")
def uniform_distortion(answer: Callable[[int], float]) -> None:
    """`uniform_distortion(levels)`: the least distortion of a uniform density on [0, 1] with so many levels."""
    for levels in (1, 2, 10):
        expect(
            answer(levels),
            1 / (12 * levels**2),
            "All cells have one width, 1/levels, and a uniform error has variance width²/12.",
        )


@task("scalar", "theory")
def price_of_a_shift(answer: Callable[[float], float]) -> None:
    """`price_of_a_shift(shift)`.

    By how much D rises if all levels of an optimal quantizer move by `shift`, cells unchanged.
    """
    for shift in (0.0, 0.5, -2.0):
        expect(
            answer(shift), shift**2, "In each cell the error of the mean grows by the square of the shift."
        )


@task("scalar", "implementation")
def lloyd(answer: Callable[..., Any]) -> None:
    """Lloyd's algorithm in NumPy: `lloyd(x, levels, steps)`; a level without samples stays."""
    x, start = np.random.default_rng(1).normal(size=2000), np.array([-1.0, 0.0, 1.0, 9.0])
    one = _scalar_lloyd(x, start, 1)
    expect(
        answer(x, start.copy(), 1)[:3],
        one[:3],
        "After one step each level is the mean of the x nearest to it.",
    )
    found = answer(x, start.copy(), 1)
    expect(found[3], 9.0, "The level at 9 has no samples: it must stay (and not become NaN).")
    expect(
        answer(x, start.copy(), 20), _scalar_lloyd(x, start, 20), "Twenty steps: cells anew in each of them."
    )


@task("scalar", "research")
def better_start(answer: Callable[..., Any]) -> None:
    """`better_start(x, count)`: levels from which Lloyd ends well on two narrow peaks of unequal weight."""
    x, generator = _two_peaks(), np.random.default_rng(2)

    def error(levels: np.ndarray) -> float:
        return float(np.square(np.abs(x[:, None] - levels).min(1)).mean())

    best = min(error(_scalar_lloyd(x, generator.choice(x, 4, replace=False), 50)) for _ in range(50))
    start = np.asarray(answer(x, 4), dtype=float)
    require(start.shape == (4,), "Four levels are asked for.")
    hint = "Lloyd ends {:.2f} times as high as the best of 50 starts. Does each peak have a level? (k-means++ helps.)"
    ratio = error(_scalar_lloyd(x, start, 50)) / best
    require(ratio < 1.1, hint.format(ratio))


@task("vector", "understanding")
def bits_per_component(answer: Callable[..., float]) -> None:
    """Of a codebook: `bits_per_component(codebook_size, dim)`."""
    expect(answer(256, 8), 1.0, "An index costs log2 K bits, and stands for d components.")
    expect(answer(1024, 4), 2.5, "An index costs log2 K bits, and stands for d components.")


@task("vector", "extension")
def space_filling_gain_db(answer: Callable[[float], float]) -> None:
    """`space_filling_gain_db(second_moment)`: the gain over cubes of cells with this normalised second moment."""
    hexagon = 5 / (36 * math.sqrt(3))
    expect(answer(1 / 12), 0.0, "Cubes gain nothing over cubes.")
    expect(answer(hexagon), 10 * math.log10(1 / 12 / hexagon), "A ratio of errors in dB is 10·log10 of it.")


@task("vector", "theory")
def distortion_after_merge(answer: Callable[..., float]) -> None:
    """`distortion_after_merge(n1, c1, n2, c2)`.

    By how much the sum of squared errors rises when cells (n1, c1) and (n2, c2) become one with the common
    mean.
    """
    for n1, c1, n2, c2 in ((3, 0.0, 1, 4.0), (10, -1.0, 10, 1.0)):
        wanted = n1 * n2 / (n1 + n2) * (c1 - c2) ** 2
        expect(answer(n1, c1, n2, c2), wanted, "Each cell's error grows by n·(its mean − common mean)².")


@task("vector", "implementation")
def lloyd_step(answer: Callable[..., Tensor]) -> None:
    """One step of k-means in PyTorch: `lloyd_step(z, codebook)`; a codeword without vectors stays."""
    z, words = _normal(500, 3), torch.cat([_normal(7, 3, seed=1), torch.full((1, 3), 50.0)])
    index = torch.cdist(z, words).argmin(1)
    wanted = torch.stack([z[index == j].mean(0) if (index == j).any() else words[j] for j in range(8)])
    found = answer(z, words.clone())
    require(tuple(found.shape) == (8, 3), "The codebook keeps its shape [K, d].")
    expect(found[7], wanted[7], "The codeword at 50 wins no vector: it must stay, and not become NaN.")
    expect(found, wanted, "Each codeword is the mean of the vectors that are nearest to it.")


@task("vector", "research")
def sample_size(answer: Callable[[int], int]) -> None:
    """`sample_size(dim)`.

    Training vectors with which 2^dim codewords lose less than 10 % on fresh data, dim from 2 to 5.
    """
    for dim in (2, 4, 5):
        count = int(answer(dim))
        require(
            2**dim <= count <= 1000 * 2**dim, f"dim={dim}: between 1 and 1,000 vectors a codeword are meant."
        )
        fresh, many = _normal(20_000, dim, seed=5), _normal(30_000, dim, seed=6)
        best = float(distortion(fresh, whole_lloyd(many, many[: 2**dim].clone(), iterations=40).codebook))
        few = _normal(count, dim, seed=7)
        found = float(distortion(fresh, whole_lloyd(few, few[: 2**dim].clone(), iterations=40).codebook))
        require(
            found < 1.1 * best,
            f"dim={dim}, {count} vectors: {100 * (found / best - 1):.0f} % lost on fresh data.",
        )


@task("structured", "understanding")
def stored_numbers(answer: Callable[..., int]) -> None:
    """Numbers stored by kind "one", "product" or "residual": `stored_numbers(kind, codewords, dim, parts)`."""
    expect(answer("one", 1024, 8, 1), 8192, "One codebook: K words of d numbers.")
    expect(answer("product", 256, 32, 4), 8192, "Product: parts tables of k words of d/parts numbers.")
    expect(answer("residual", 256, 32, 4), 32768, "Residual: each stage has words of all d numbers.")


@task("structured", "extension")
def product_distortion(answer: Callable[..., float]) -> None:
    """`product_distortion(distortions)`: of a product code whose parts have these distortions."""
    expect(answer([0.5, 0.25, 2.0]), 2.75, "Squared errors of the parts of a vector add up.")


@task("structured", "theory")
def stages_needed(answer: Callable[..., int]) -> None:
    """`stages_needed(share_left, target)`.

    Stages that each leave `share_left` of the energy, until at most `target` is left.
    """
    for share, target, wanted in ((0.5, 0.1, 4), (0.5, 0.125, 3), (0.3, 0.5, 1)):
        expect(answer(share, target), wanted, f"share**m <= {target}: the least whole m.")


@task("structured", "implementation")
def residual_quantize(answer: Callable[..., Any]) -> None:
    """`residual_quantize(z, codebooks)`: indices [n, m] and the reproduction, greedily."""
    z, books = _normal(200, 4), [_normal(16, 4, seed=i + 1) * 0.6**i for i in range(3)]
    rest, wanted = z, []
    for book in books:
        wanted.append(nearest(rest, book))
        rest = rest - book[wanted[-1]]
    indices, reproduction = answer(z, books)
    require(tuple(indices.shape) == (200, 3), "Indices are [n, m]: a row for each vector.")
    expect(indices[:, 0], wanted[0], "The first stage takes the nearest codeword of z itself.")
    expect(indices, torch.stack(wanted, 1), "Each further stage quantizes what those before it left.")
    expect(
        reproduction, z - rest, "The reproduction is the sum of the codewords.", relative=1e-3, absolute=1e-4
    )


@task("structured", "research")
def beam_quantize(answer: Callable[..., Any]) -> None:
    """`beam_quantize(z, codebooks, width)`: as residual_quantize, with a beam."""
    z, books = _normal(200, 4), [_normal(16, 4, seed=i + 1) * 0.6**i for i in range(3)]
    rest = z
    for book in books:
        rest = rest - book[nearest(rest, book)]
    greedy = rest.square().sum(1)
    indices, reproduction = answer(z, books, 8)
    total = sum(book[indices[:, i]] for i, book in enumerate(books))
    expect(
        reproduction,
        total,
        "The reproduction is the sum of the chosen codewords.",
        relative=1e-3,
        absolute=1e-4,
    )
    found = (z - total).square().sum(1)
    require(
        (found <= greedy + 1e-4).all(), "Some vector is worse than under greedy search: is its path kept?"
    )
    require(found.mean() < 0.85 * greedy.mean(), "A beam of 8 should lower the error by more than 15 % here.")


@task("half-decibel", "understanding")
def bits_lost_by_cubes(answer: float) -> None:
    """The 1.53 dB, as bits a value."""
    expect(answer, 0.5 * math.log2(2 * math.pi * math.e / 12), "A bit is 6.02 dB.", relative=5e-3)


@task("half-decibel", "extension")
def uniform_entropy(answer: Callable[..., float]) -> None:
    """Of a Gaussian's index at a small step: `uniform_entropy(step, sigma)`, in bits."""
    for step, sigma in ((0.1, 1.0), (0.5, 4.0)):
        wanted = 0.5 * math.log2(2 * math.pi * math.e * sigma**2) - math.log2(step)
        expect(answer(step, sigma), wanted, "h(X) − log2(step), with h of a Gaussian in bits.", relative=1e-3)


@task("half-decibel", "theory")
def gap_of_moment(answer: Callable[[float], float]) -> None:
    """`gap_of_moment(moment)`: dB above the bound of cells with this normalised second moment."""
    for moment in (1 / 12, 0.07, 1 / (2 * math.pi * math.e)):
        wanted = 10 * math.log10(2 * math.pi * math.e * moment)
        expect(answer(moment), wanted, "1/12 gives 1.53 dB, and 1/(2πe) must give 0.", absolute=1e-6)


@task("half-decibel", "implementation")
def viterbi(answer: Callable[..., Any]) -> None:
    """`viterbi(x, step)`: allowed levels of the four-state machine, with the least error."""
    branches = {0: {0: 0, 2: 1}, 1: {1: 2, 3: 3}, 2: {2: 0, 0: 1}, 3: {3: 2, 1: 3}}
    x = np.random.default_rng(3).uniform(-9, 9, 8)
    levels = np.asarray(answer(x, 0.5), dtype=float)
    require(levels.shape == x.shape, "A level for each value.")
    state = 0
    for i, level in enumerate(levels):
        subset = round(level / 0.5) % 4
        require(subset in branches[state], f"value {i}: subset {subset} is not allowed in state {state}.")
        state = branches[state][subset]

    def least(i: int, at: int) -> float:
        if i == len(x):
            return 0.0
        errors = []
        for subset, following in branches[at].items():
            nearest_level = (4 * round((x[i] / 0.5 - subset) / 4) + subset) * 0.5
            errors.append((x[i] - nearest_level) ** 2 + least(i + 1, following))
        return min(errors)

    found = float(np.square(x - levels).sum())
    hint = f"the error is {found:.4f}, a better path exists: keep the best way into each state, not one path."
    require(found <= least(0, 0) + 1e-9, hint)


@task("half-decibel", "research")
def scaled_reproduction(answer: Callable[..., Any]) -> None:
    """`scaled_reproduction(x, step)`: uniform quantization with the factor on it that lowers the error most."""
    x = np.random.default_rng(4).normal(size=5000)
    rounded = 2.0 * np.round(x / 2.0)
    best = (x @ rounded) / (rounded @ rounded) * rounded
    expect(
        np.asarray(answer(x, 2.0)),
        best,
        "Least squares: the factor is x·r / r·r.",
        relative=1e-3,
        absolute=1e-3,
    )
