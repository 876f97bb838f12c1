"""Worked answers to chapter 11: what an index can know."""

import math

import numpy as np


def most_bits(codebook_size):
    """The uniform distribution has the largest entropy."""
    return math.log2(codebook_size)


def entropy(counts):
    """Plug-in entropy of counts in bits."""
    p = np.asarray(counts, dtype=float).ravel()
    p = p[p > 0] / p.sum()
    return float(-(p * np.log2(p)).sum())


def least_distortion(counts, dim):
    """D(R) of N(0, I) at R = H(Z), all that the index knows."""
    return dim * 2 ** (-2 * entropy(counts) / dim)


def paid_twice(joint):
    """I(Z1; Z2) = H(Z1) + H(Z2) − H(Z1, Z2)."""
    return entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint)


def perplexity(counts):
    """2 to the entropy: how many equally used codewords would carry as much."""
    return 2 ** entropy(counts)


def corrected_entropy(counts):
    """Plug-in plus (codewords seen − 1)/(2N·ln 2)."""
    counts = np.asarray(counts)
    return entropy(counts) + ((counts > 0).sum() - 1) / (2 * counts.sum() * math.log(2))
