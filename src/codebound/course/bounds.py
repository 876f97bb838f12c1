"""Tasks about limits: rate-distortion, random codebooks, Blahut–Arimoto, information."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codebound.course.exercise import expect, require, task
from codebound.quantize.init import KMeans
from codebound.search import distortion
from codebound.theory import gaussian
from codebound.theory.lloyd import lloyd


def _binary_entropy(p: float) -> float:
    return 0.0 if p in (0.0, 1.0) else -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def _correlated(count: int, seed: int) -> Tensor:
    mixing = torch.randn(6, 6, generator=torch.Generator().manual_seed(7)) * torch.tensor(
        [3.0, 2, 1, 1, 0.3, 0.1]
    )
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) @ mixing.T + 2


@task("rate-distortion", "understanding")
def bits_for_20_db(answer: float) -> None:
    """Bits per component that bring a Gaussian's distortion 20 dB below its variance."""
    expect(answer, 0.5 * math.log2(100), "20 dB is a factor of 100, and R = ½·log2(σ²/D).")


@task("rate-distortion", "extension")
def laplace_bound(answer: Callable[..., float]) -> None:
    """Shannon's lower bound on the distortion of a Laplace density: `laplace_bound(rate_bits, variance)`."""
    for rate, variance in ((1.0, 1.0), (3.0, 4.0)):
        entropy = math.log2(math.e * math.sqrt(2 * variance))
        wanted = 2 ** (2 * (entropy - rate)) / (2 * math.pi * math.e)
        hint = "D = 2^(2(h − R)) / (2πe), with h = log2(e·√2·σ) bits. Does h change with the variance?"
        expect(answer(rate, variance), wanted, hint)


@task("rate-distortion", "theory")
def reproduction_variance(answer: Callable[..., float]) -> None:
    """`reproduction_variance(variance, distortion)`: of the best reproduction of a Gaussian."""
    expect(answer(1.0, 0.25), 0.75, "X = X̂ + N with independent parts: variances add up.")
    expect(answer(1.0, 2.0), 0.0, "Where D is allowed to be more than σ², nothing is sent, and X̂ = 0.")


@task("rate-distortion", "implementation")
def water_filling(answer: Callable[..., Any]) -> None:
    """`water_filling(variances, rate_bits)`: the distortions of the components."""
    for variances, rate in (([4.0, 1.0], 3.0), ([9.0, 4.0, 2.0, 1.0, 0.5, 0.25], 6.0), ([1.0, 0.001], 0.5)):
        wanted = gaussian.water_filling(np.array(variances), rate)
        found = np.asarray(answer(np.array(variances), rate), dtype=float)
        require(
            (found <= np.array(variances) + 1e-6).all(),
            "No component can have more distortion than variance.",
        )
        spent = float(np.sum(0.5 * np.log2(np.array(variances) / found)))
        hint = (
            f"{variances} at {rate} bits: {spent:.2f} bits are spent. Those under the water level get none."
        )
        expect(found, wanted.distortions, hint, relative=1e-3)


@task("rate-distortion", "research")
def worth_of_axes(answer: Callable[..., float]) -> None:
    """`worth_of_axes(covariance, rate_bits)`.

    DB by which principal axes with water-filling beat equal bits on the raw components.
    """
    covariance = np.array([[2.0, 1.2, 0.0], [1.2, 1.0, 0.0], [0.0, 0.0, 0.5]])
    equal = float(np.sum(np.diag(covariance) * 2.0 ** (-2 * 6.0 / 3)))
    best = gaussian.water_filling(np.linalg.eigvalsh(covariance), 6.0).distortion
    hint = "Equal bits leave Σ λ_i·2^(−2R/d) with the raw variances; compare with water-filling on the eigenvalues."
    expect(answer(covariance, 6.0), 10 * math.log10(equal / best), hint, relative=1e-3)


@task("random-codebooks", "understanding")
def codewords_needed(answer: Callable[..., float]) -> None:
    """How many codewords R bits per component are in d dimensions: `codewords_needed(dim, bits)`."""
    expect(answer(8, 1), 256, "2 to the power of all bits of a vector.")
    expect(answer(4, 2.5), 1024, "2 to the power of all bits of a vector.")


@task("random-codebooks", "extension")
def expected_minimum(answer: Callable[[int], float]) -> None:
    """`expected_minimum(n)`.

    Expected squared distance from 0 to the nearest of n values drawn uniformly from [0, 1].
    """
    for n in (1, 2, 10):
        expect(answer(n), 2 / ((n + 1) * (n + 2)), f"n = {n}: E m² = ∫ 2t·(1 − t)ⁿ dt.")


@task("random-codebooks", "theory")
def cap_exponent(answer: Callable[[float], float]) -> None:
    """`cap_exponent(distortion)`: bits per dimension in the share of a sphere within √(dD), at unit variance."""
    for d in (0.25, 0.5, 0.9):
        expect(answer(d), 0.5 * math.log2(1 / d), "The share is about D^(d/2): minus its log2, over d.")


@task("random-codebooks", "implementation")
def random_codebook(answer: Callable[..., Tensor]) -> None:
    """`random_codebook(z, codebook_size, seed)`.

    Gaussian, with mean and reproduction covariance of the latents.
    """
    z = _correlated(20_000, 1)
    require(tuple(answer(z, 16, 3).shape) == (16, 6), "Codewords are [K, d].")
    expect(answer(z, 16, 3), answer(z, 16, 3), "The same seed gives the same codewords.")
    # Many codebooks of 16 words, as one of that size says little of a covariance.
    words = torch.cat([answer(z, 16, seed) for seed in range(300)])
    expect(words.mean(0), z.mean(0), "Codewords have the latents' mean.", absolute=0.3)
    wanted = gaussian.reproduction_covariance(np.cov(z.numpy().T), 4.0)
    off = float(np.abs(np.cov(words.numpy().T) - wanted).max() / np.abs(wanted).max())
    require(off < 0.1, f"The covariance is off by {100 * off:.0f} %: λ − min(λ, θ) on the principal axes.")


@task("random-codebooks", "research")
def better_start(answer: Callable[..., Tensor]) -> None:
    """`better_start(z, codebook_size)`: ends level with k-means after Lloyd, on correlated latents."""
    few, train, fresh = _correlated(1000, 2), _correlated(8000, 3), _correlated(20_000, 4)

    def ended(start: Tensor) -> float:
        return float(distortion(fresh, lloyd(train, start, iterations=30, empty="keep").codebook))

    words = answer(few, 128)
    require(tuple(words.shape) == (128, 6), "Codewords are [K, d].")
    ratio = ended(words) / ended(KMeans()(few, 128, torch.Generator().manual_seed(0)))
    require(ratio < 1.02, f"It ends {100 * (ratio - 1):.1f} % above k-means; 2 % are allowed.")


@task("blahut-arimoto", "understanding")
def coin_rate(answer: Callable[[float], float]) -> None:
    """`coin_rate(distortion)`: R(D) of a fair coin under Hamming distance."""
    for d in (0.0, 0.11, 0.5):
        expect(answer(d), 1 - _binary_entropy(d), f"D = {d}: 1 − h(D), where 0·log 0 counts as 0.")


@task("blahut-arimoto", "extension")
def biased_coin_rate(answer: Callable[..., float]) -> None:
    """`biased_coin_rate(p, distortion)`: of a coin with probability p, for D ≤ min(p, 1 − p)."""
    for p, d in ((0.3, 0.1), (0.2, 0.2)):
        expect(answer(p, d), _binary_entropy(p) - _binary_entropy(d), f"p = {p}, D = {d}: h(p) − h(D).")


@task("blahut-arimoto", "theory")
def slope_of_gaussian(answer: Callable[[float], float]) -> None:
    """`slope_of_gaussian(distortion)`: dR/dD of N(0, 1), in bits."""
    for d in (0.1, 0.5):
        expect(
            answer(d),
            -1 / (2 * d * math.log(2)),
            "R = ½·log2(1/D): mind the base of the logarithm, and the sign.",
        )


@task("blahut-arimoto", "implementation")
def blahut_arimoto(answer: Callable[..., Any]) -> None:
    """`blahut_arimoto(p, d, slope)`: rate in bits and distortion."""
    coin, hamming = np.array([0.5, 0.5]), 1 - np.eye(2)
    rate, d = answer(coin, hamming, 2.0)[:2]
    expect(d, 1 / (1 + math.exp(2.0)), "A fair coin at slope s has D = 1/(1 + e^s).", relative=1e-3)
    expect(
        rate, 1 - _binary_entropy(d), "The rate is Σ p·q·log2(q/r): in bits, with the last r.", relative=1e-3
    )
    p, costs = np.array([0.8, 0.2]), np.array([[0.0, 1.0, 0.3], [1.0, 0.0, 0.3]])
    rate, d = answer(p, costs, 8.0)[:2]
    hint = "With a reproduction of no use r must go to 0 for it: iterate r until it stands."
    expect([rate, d], _slow_blahut_arimoto(p, costs, 8.0), hint, relative=1e-2, absolute=1e-3)


def _slow_blahut_arimoto(p: np.ndarray, d: np.ndarray, slope: float) -> list[float]:
    r = np.full(d.shape[1], 1 / d.shape[1])
    for _ in range(5000):
        q = r * np.exp(-slope * d)
        q /= q.sum(1, keepdims=True)
        r = p @ q
    terms = np.where(q > 1e-300, q * np.log2(np.maximum(q, 1e-300) / np.maximum(r, 1e-300)), 0)
    return [float(p @ terms.sum(1)), float(p @ (q * d).sum(1))]


@task("blahut-arimoto", "research")
def soft_codewords(answer: Callable[..., Tensor]) -> None:
    """`soft_codewords(z, codewords, slope)`: one step of annealing, from uniform shares."""
    z, words = _correlated(300, 5), _correlated(5, 6)
    q = torch.softmax(-0.1 * torch.cdist(z, words).square(), 1)
    hint = "Weights of a vector add up to 1 over the codewords; each codeword is its weighted mean."
    expect(answer(z, words, 0.1), (q.T @ z) / q.sum(0)[:, None], hint, relative=1e-3, absolute=1e-3)


@task("information", "understanding")
def most_bits(answer: Callable[[int], float]) -> None:
    """`most_bits(codebook_size)`: that an index can carry."""
    expect(answer(512), 9.0, "The uniform distribution has the largest entropy.")


@task("information", "extension")
def least_distortion(answer: Callable[..., float]) -> None:
    """The bound on the distortion of N(0, I) for an index with these counts: `least_distortion(counts, dim)`."""
    for counts, bits in (([1, 1, 1, 1], 2.0), ([2, 1, 1, 0], 1.5)):
        hint = f"counts {counts}: what the index knows is its entropy, {bits} bits."
        expect(answer(np.array(counts), 4), gaussian.distortion_rate(bits, 4), hint)


@task("information", "theory")
def paid_twice(answer: Callable[..., float]) -> None:
    """`paid_twice(joint)`: I(Z1; Z2) of a table of joint counts, in bits."""
    expect(answer(np.array([[1, 1], [1, 1]])), 0.0, "Independent indices share nothing.", absolute=1e-9)
    expect(answer(np.array([[5, 0], [0, 5]])), 1.0, "Equal indices share all; 0·log 0 counts as 0.")
    expect(answer(np.array([[3, 1], [1, 3]])), 1 - _binary_entropy(0.25), "H(Z1) + H(Z2) − H(Z1, Z2).")


@task("information", "implementation")
def perplexity(answer: Callable[..., float]) -> None:
    """`perplexity(counts)`: with counts of zero among them."""
    expect(
        answer(np.array([5, 5, 0, 0])),
        2.0,
        "Two codewords used equally have perplexity 2; zeros add nothing.",
    )
    expect(answer(np.array([2, 1, 1])), 2**1.5, "2 to the entropy in bits.")


@task("information", "research")
def corrected_entropy(answer: Callable[..., float]) -> None:
    """`corrected_entropy(counts)`: the plug-in estimate with Miller and Madow's correction, in bits."""
    counts = np.array([4, 3, 2, 1, 0, 0])
    p = counts[:4] / 10
    wanted = float(-(p * np.log2(p)).sum()) + 3 / (20 * math.log(2))
    expect(answer(counts), wanted, "(codewords seen − 1) / (2N·ln 2): those with a count of 0 are not seen.")
