"""Worked answers to chapter 7: EMA."""

import math

import torch


def batches_to_forget(decay, share):
    """decay^T = share."""
    return math.log(share) / math.log(decay)


def tremor(decay, variance, count):
    """Σ ((1−γ)γ^t)² = (1−γ)²/(1−γ²) = (1−γ)/(1+γ), times the variance of a batch's mean."""
    return (1 - decay) / (1 + decay) * variance / count


def decay_like_mean(batch_number):
    """Batch T must count 1/T, and what was before (T − 1)/T."""
    return 1 - 1 / batch_number


def ema_update(counts, sums, z, index, decay):
    """Averages of counts and sums; their quotient. Without a hit both decay alike, and the quotient stays."""
    n = torch.bincount(index, minlength=len(counts)).to(counts.dtype)
    s = torch.zeros_like(sums).index_add(0, index, z)
    counts = decay * counts + (1 - decay) * n
    sums = decay * sums + (1 - decay) * s
    return counts, sums, sums / counts[:, None]


def corrected(sums, counts, decay, steps):
    """Averages that began at zero are both too small by 1 − γ^T: the quotient has no bias, nothing is to correct."""
    return sums / counts[:, None]
