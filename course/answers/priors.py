"""Worked answers to chapter 14: priors and sampling."""

import math

import numpy as np


def bits_of(probabilities):
    """The chain rule: bits of each index, given those before it, add up."""
    return sum(-math.log2(p) for p in probabilities)


def guided(unconditional, conditional, strength):
    """From the one through the other and beyond."""
    return unconditional + strength * (conditional - unconditional)


def bits_wasted(q, p):
    """KL(q‖p) = Σ q·log2(q/p) over the words that occur."""
    q, p = np.asarray(q), np.asarray(p)
    kept = q > 0
    return float((q[kept] * np.log2(q[kept] / p[kept])).sum())


def top_p(probabilities, mass):
    """Words in falling order, until those before have the mass."""
    p = np.asarray(probabilities, dtype=float)
    order = np.argsort(-p)
    before = np.concatenate([[0.0], np.cumsum(p[order])[:-1]])
    kept = order[before < mass - 1e-12]
    result = np.zeros_like(p)
    result[kept] = p[kept]
    return result / result.sum()


def conditional_entropy(grid, codebook_size):
    """H(left, index) − H(left) over the pairs within rows."""
    pairs = np.zeros((codebook_size, codebook_size))
    np.add.at(pairs, (grid[:, :-1], grid[:, 1:]), 1)

    def entropy(counts):
        p = counts[counts > 0] / counts.sum()
        return float(-(p * np.log2(p)).sum())

    return entropy(pairs.ravel()) - entropy(pairs.sum(1))
