"""Rate-distortion function of the Gaussian source, and the reproduction that attains it.

Distortion is squared error summed over the vector; rates are bits per vector unless the name says otherwise.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from codebound import arguments
from codebound.errors import InputError


@dataclass(frozen=True, eq=False)
class WaterFilling:
    """One point of the rate-distortion curve of independent Gaussian components.

    `level` is θ; `distortion` and `rate_bits` are totals over the vector; `distortions` (min(λ_i, θ)) and
    `rates` (½·log2(λ_i/θ)₊, bits) are per component, in the order of the eigenvalues given.
    """

    level: float
    distortion: float
    rate_bits: float
    distortions: Float[np.ndarray, " k"]
    rates: Float[np.ndarray, " k"]


def rate_per_dim(codebook_size: int, dim: int) -> float:
    """Nominal rate of a codebook in bits per dimension: log2(n)/k. Raises InputError unless n, k >= 1."""
    return math.log2(arguments.count("codebook_size", codebook_size)) / arguments.count("dim", dim)


def distortion_rate(rate_bits: float | int, dim: int, variance: float | int = 1.0) -> float:
    """Least distortion of N(0, σ²I_k) at a total rate of R bits per vector: D(R) = kσ²·2^(−2R/k).

    Cover & Thomas, Elements of Information Theory, 2nd ed., eq. 10.36, summed over k components.
    Raises InputError for a negative rate or variance.
    """
    rate_bits = arguments.number("rate_bits", rate_bits, least=0)
    dim = arguments.count("dim", dim)
    return dim * arguments.number("variance", variance, least=0) * 2.0 ** (-2 * rate_bits / dim)


def rate_distortion(distortion: float | int, dim: int, variance: float | int = 1.0) -> float:
    """Least total rate of N(0, σ²I_k) at distortion D, in bits: R(D) = (k/2)·log2(kσ²/D), 0 if D >= kσ².

    Cover & Thomas, Elements of Information Theory, 2nd ed., eq. 10.35, summed over k components.
    Raises InputError for a distortion that is not positive, or a negative variance.
    """
    distortion = arguments.number("distortion", distortion, above=0)
    total = arguments.count("dim", dim) * arguments.number("variance", variance, least=0)
    return 0.0 if distortion >= total else dim / 2 * math.log2(total / distortion)


def eigensystem(
    covariance: Float[np.ndarray, "k k"], name: str = "covariance"
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "k k"]]:
    """Eigenvalues as `spectrum` gives them, and the eigenvectors as columns in the same order.

    `name` is what messages call the matrix. Raises InputError as `spectrum` does.
    """
    matrix = np.asarray(covariance, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise InputError(f"{name} has shape {matrix.shape}; a square matrix is accepted")
    if not np.isfinite(matrix).all():
        raise InputError(f"{name} has NaN or infinite entries; finite ones are accepted")
    # Covariances estimated in float32 are symmetric and PSD only to its round-off: 1e-6 of the scale admits
    # those.
    slack = 1e-6 * np.abs(matrix).max()
    asymmetry = np.abs(matrix - matrix.T).max()
    if asymmetry > slack:
        raise InputError(f"{name} differs from its transpose by {asymmetry:.3g}; a symmetric one is accepted")
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if values[0] < -slack * len(values):
        raise InputError(f"{name} has the eigenvalue {values[0]:.3g}; none below 0 is accepted")
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1]


def spectrum(covariance: Float[np.ndarray, "k k"]) -> Float[np.ndarray, " k"]:
    """Eigenvalues of a covariance matrix, descending, with negative round-off clipped to 0.

    Raises InputError unless the matrix is square, finite, symmetric and positive semi-definite.
    """
    return eigensystem(covariance)[0]


def _checked_eigenvalues(eigenvalues: np.ndarray) -> np.ndarray:
    values = np.asarray(eigenvalues, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all() or values.min() < 0:
        raise InputError(f"eigenvalues is {values}; a vector of finite numbers >= 0 is accepted")
    return values


def _filled(values: np.ndarray, level: float) -> WaterFilling:
    """The point at water level θ: both curves are sums over components."""
    distortions = np.minimum(values, level)
    rates = np.zeros_like(values)
    wet = values > level
    rates[wet] = 0.5 * (np.log2(values[wet]) - math.log2(level)) if wet.any() else 0.0
    return WaterFilling(float(level), float(distortions.sum()), float(rates.sum()), distortions, rates)


def water_filling(eigenvalues: Float[np.ndarray, " k"], rate_bits: float | int) -> WaterFilling:
    """Reverse water-filling at a total rate: θ such that Σ ½·log2(λ_i/θ)₊ = R; then D = Σ min(λ_i, θ).

    With the m largest components active, log2 θ_m = (Σ_{i<=m} log2 λ_i − 2R)/m; the answer is the largest m
    with θ_m <= λ_m. Exact, no iteration. Cover & Thomas, 2nd ed., theorem 10.3.3. Zero eigenvalues are
    allowed and receive no rate; if all are zero, the rate is 0 whatever was asked for.
    Raises InputError for negative or non-finite eigenvalues or rate.
    """
    values = _checked_eigenvalues(eigenvalues)
    rate_bits = arguments.number("rate_bits", rate_bits, least=0)
    logs = np.log2(np.sort(values[values > 0])[::-1])
    if rate_bits == 0 or not logs.size:
        return _filled(values, float(values.max()))
    # log2 θ_m only shrinks towards the answer while m grows through the active set, so the last match is it.
    levels = (np.cumsum(logs) - 2 * rate_bits) / np.arange(1, len(logs) + 1)
    level = float(2.0 ** levels[np.flatnonzero(levels <= logs)[-1]])
    if level == 0:
        raise InputError(
            f"rate_bits is {rate_bits:g}; a rate whose distortion is a float64 above 0 is accepted"
        )
    return _filled(values, level)


def water_filling_at_distortion(
    eigenvalues: Float[np.ndarray, " k"], distortion: float | int
) -> WaterFilling:
    """Reverse water-filling at a total distortion: θ such that Σ min(λ_i, θ) = D; then R = Σ ½·log2(λ_i/θ)₊.

    With the m largest components active, θ_m = (D − Σ_{i>m} λ_i)/m; the answer is the largest m with θ_m <=
    λ_m. D >= Σλ_i gives rate 0 and distortion Σλ_i. Cover & Thomas, 2nd ed., theorem 10.3.3.
    Raises InputError for negative or non-finite eigenvalues, or a distortion that is not positive.
    """
    values = _checked_eigenvalues(eigenvalues)
    distortion = arguments.number("distortion", distortion, above=0)
    if distortion >= values.sum():
        return _filled(values, float(values.max()))
    descending = np.sort(values)[::-1]
    # Tails are summed from the small end: subtracting a cumulative sum would lose them.
    tails = np.append(np.cumsum(descending[::-1])[::-1][1:], 0.0)
    levels = (distortion - tails) / np.arange(1, len(values) + 1)
    fits = np.flatnonzero((levels > 0) & (levels <= descending))
    return _filled(values, float(levels[fits[-1]]) if fits.size else float(descending[0]))


def reproduction_covariance(
    covariance: Float[np.ndarray, "k k"], rate_bits: float | int
) -> Float[np.ndarray, "k k"]:
    """Covariance of the optimal reproduction of N(0, Σ) at R bits: U·diag((λ_i − θ)₊)·Uᵀ, Σ = U·diag(λ)·Uᵀ.

    Codewords drawn from N(0, this) attain R(D) as k → ∞ (Cover & Thomas, 2nd ed., section 10.3.3).
    Singular where water-filling spends no rate. Raises InputError as `spectrum` and `water_filling` do.
    """
    values, vectors = eigensystem(covariance)
    kept = values - water_filling(values, rate_bits).distortions
    return (vectors * kept) @ vectors.T


def reproduction_variance(variance: float | int, rate_bits: float | int, dim: int) -> float:
    """Variance per component of the optimal reproduction of N(0, σ²I_k) at R bits: σ²(1 − 2^(−2R/k)).

    The isotropic case of `reproduction_covariance`. Raises InputError for a negative rate or variance.
    """
    return arguments.number("variance", variance, least=0) - distortion_rate(rate_bits, dim, variance) / dim


def gap_db(distortion: float | int, limit: float | int) -> float:
    """Excess of a distortion over its limit in dB: 10·log10(D/D(R)). Raises InputError unless both > 0."""
    distortion = arguments.number("distortion", distortion, above=0)
    return 10 * math.log10(distortion / arguments.number("limit", limit, above=0))
