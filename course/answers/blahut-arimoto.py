"""Worked answers to chapter 9: Blahut–Arimoto."""

import math

import numpy as np
import torch


def entropy(p):
    """Of a coin, in bits; 0·log 0 counts as 0."""
    return sum(-x * math.log2(x) for x in (p, 1 - p) if x > 0)


def coin_rate(distortion):
    """H(X) − H(X | X̂) = 1 − h(D)."""
    return 1 - entropy(distortion)


def biased_coin_rate(p, distortion):
    """The same with H(X) = h(p)."""
    return entropy(p) - entropy(distortion)


def slope_of_gaussian(distortion):
    """R = ½·log2(1/D), so dR/dD = −1/(2D·ln 2)."""
    return -1 / (2 * distortion * math.log(2))


def blahut_arimoto(p, d, slope):
    """q given r, r given q, until they stand; then Σ p·q·log2(q/r)."""
    r = np.full(d.shape[1], 1 / d.shape[1])
    for _ in range(5000):
        q = r * np.exp(-slope * d)
        q /= q.sum(1, keepdims=True)
        r = p @ q
    safe = np.maximum(q, 1e-300)
    rate = float(p @ (q * np.log2(safe / np.maximum(r, 1e-300))).sum(1))
    return rate, float(p @ (q * d).sum(1))


def soft_codewords(z, codewords, slope):
    """Weights of each vector over the codewords, then weighted means of the vectors."""
    q = torch.softmax(-slope * torch.cdist(z, codewords).square(), dim=1)
    return (q.T @ z) / q.sum(0)[:, None]
