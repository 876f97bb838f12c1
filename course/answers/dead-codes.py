"""Worked answers to chapter 8: dead codewords."""

import math

import numpy as np
import torch


def expected_dead(p, count):
    """Missed by all vectors: (1 − p)^N, summed over the codewords."""
    return float(((1 - np.asarray(p)) ** count).sum())


def batches_to_starve(mass, threshold, decay):
    """mass·γ^T = threshold."""
    return math.log(mass / threshold) / -math.log(decay)


def mass_moments(p, batch_size, decay):
    """Mean of the hits; their binomial variance times Σ((1−γ)γ^t)² = (1−γ)/(1+γ)."""
    mean = batch_size * p
    return mean, (1 - decay) / (1 + decay) * mean * (1 - p)


def revive(codebook, counts, z, share, seed):
    """Rows below share of the mean count move to different vectors, drawn without replacement."""
    dead = torch.nonzero(counts < share * counts.mean()).squeeze(1)
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))
    revived = codebook.clone()
    revived[dead] = z[order[: len(dead)]]
    return revived


def false_alarms(p, batch_size, window, share):
    """P(Poisson(m) < share·m), m = p·B·window."""
    mean = p * batch_size * window
    return sum(math.exp(-mean) * mean**k / math.factorial(k) for k in range(math.ceil(share * mean)))
