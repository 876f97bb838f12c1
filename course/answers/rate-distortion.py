"""Worked answers to chapter 3: the bound and water-filling."""

import math

import numpy as np

# R = ½·log2(σ²/D), and 20 dB is σ²/D = 100.
bits_for_20_db = 0.5 * math.log2(100)


def laplace_bound(rate_bits, variance):
    """h = log2(2e·b) with the scale b = σ/√2; then D = 2^(2(h − R)) / (2πe)."""
    entropy = math.log2(2 * math.e * math.sqrt(variance / 2))
    return 2 ** (2 * (entropy - rate_bits)) / (2 * math.pi * math.e)


def reproduction_variance(variance, distortion):
    """X = X̂ + N, independent: σ² = Var X̂ + D; if D ≥ σ², nothing is sent."""
    return max(0.0, variance - distortion)


def water_filling(variances, rate_bits):
    """The level by bisection: the rate falls as the water rises."""
    variances = np.asarray(variances, dtype=float)
    low, high = 0.0, float(variances.max())
    for _ in range(200):
        level = (low + high) / 2
        rate = 0.5 * np.log2(np.maximum(variances / level, 1)).sum()
        low, high = (level, high) if rate > rate_bits else (low, level)
    return np.minimum(variances, high)


def worth_of_axes(covariance, rate_bits):
    """Equal bits on the raw components, against water-filling on the eigenvalues."""
    raw = np.diag(covariance)
    equal = (raw * 2.0 ** (-2 * rate_bits / len(raw))).sum()
    return 10 * math.log10(equal / water_filling(np.linalg.eigvalsh(covariance), rate_bits).sum())
