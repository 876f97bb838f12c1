"""Worked answers to chapter 4: random codebooks and the start."""

import math

import numpy as np
import torch


def codewords_needed(dim, bits):
    """2 to the power of all bits of a vector."""
    return 2 ** (dim * bits)


def expected_minimum(n):
    """The least m of n uniform values has P(m > t) = (1 − t)ⁿ, so E m² = ∫ 2t(1 − t)ⁿ dt = 2/((n + 1)(n + 2))."""
    return 2 / ((n + 1) * (n + 2))


def cap_exponent(distortion):
    """The share is about D^(d/2), which is 2^(−d·½·log2(1/D)): the rate-distortion function again."""
    return 0.5 * math.log2(1 / distortion)


def random_codebook(z, codebook_size, seed):
    """N(μ, V·diag(λ − min(λ, θ))·Vᵀ), with the water level θ at log2 K bits."""
    values, axes = np.linalg.eigh(np.cov(z.numpy().T))
    low, high = 0.0, float(values.max())
    for _ in range(200):
        level = (low + high) / 2
        rate = 0.5 * np.log2(np.maximum(values / level, 1)).sum()
        low, high = (level, high) if rate > math.log2(codebook_size) else (low, level)
    scale = np.sqrt(np.maximum(values - high, 0))
    drawn = torch.randn(codebook_size, z.shape[1], generator=torch.Generator().manual_seed(seed))
    return z.mean(0) + drawn @ torch.tensor((axes * scale).T, dtype=z.dtype)


def better_start(z, codebook_size):
    """Lloyd's algorithm on many samples of the fitted Gaussian: theory's k-means, without its small sample."""
    mean, covariance = z.mean(0), torch.cov(z.T)
    factor = torch.linalg.cholesky(covariance + 1e-6 * torch.eye(z.shape[1]))
    samples = mean + torch.randn(20_000, z.shape[1], generator=torch.Generator().manual_seed(0)) @ factor.T
    words = samples[:codebook_size].clone()
    for _ in range(30):
        index = torch.cdist(samples, words).argmin(1)
        counts = torch.bincount(index, minlength=codebook_size)[:, None]
        sums = torch.zeros_like(words).index_add(0, index, samples)
        words = torch.where(counts > 0, sums / counts.clamp(min=1), words)
    return words
