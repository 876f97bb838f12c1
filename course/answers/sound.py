"""Worked answers to chapter 15: sound."""

import math

import numpy as np


def bits_per_second(sample_rate, hop, stages, codebook_size):
    """Frames a second, times indices a frame, times bits an index."""
    return sample_rate / hop * stages * math.log2(codebook_size)


def scale_invariant_sdr(reference, decoded):
    """Least squares of the decoded sound on the reference; what is left is distortion."""
    target = (reference @ decoded) / (reference @ reference) * reference
    rest = decoded - target
    return 10 * math.log10((target @ target) / (rest @ rest))


def coding_gain_db(variances):
    """Arithmetic over geometric mean."""
    variances = np.asarray(variances, dtype=float)
    return 10 * math.log10(variances.mean() / np.exp(np.log(variances).mean()))


def lapped(x, hop):
    """Frames of two hops under a half wave, times the cosines."""
    n, k = np.arange(2 * hop) + 0.5, np.arange(hop) + 0.5
    basis = math.sqrt(2 / hop) * np.cos(np.pi / hop * (n[:, None] + hop / 2) * k)
    padded = np.concatenate([np.zeros(hop), x, np.zeros(hop)])
    frames = np.stack([padded[i : i + 2 * hop] for i in range(0, len(x) + hop, hop)])
    return (frames * np.sin(np.pi / (2 * hop) * n)) @ basis


def noise_by_masks(variances, masks, bits):
    """In units of the masks it is chapter 3's problem: reverse water-filling of variance / mask, by halving the level."""
    ratios = np.asarray(variances, dtype=float) / np.asarray(masks, dtype=float)
    low, high = 0.0, float(ratios.max())
    for _ in range(200):
        level = (low + high) / 2
        rate = 0.5 * np.log2(np.maximum(ratios / level, 1)).sum()
        low, high = (level, high) if rate > bits else (low, level)
    return np.minimum(high, ratios) * np.asarray(masks, dtype=float)
