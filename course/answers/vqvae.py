"""Worked answers to chapter 5: the VQ-VAE's loss."""

import math

import numpy as np
import torch


def bits_per_pixel(codebook_size, side, levels):
    """A token costs levels·log2 K bits and stands for side² pixels."""
    return levels * math.log2(codebook_size) / side**2


def kl_to_uniform(q):
    """Σ q·log2(q·K) = log2 K − H(q); codewords with q = 0 add nothing."""
    q = np.asarray(q)
    kept = q[q > 0]
    return float((kept * np.log2(kept * len(q))).sum())


def best_answers(x, index, count):
    """The mean of each index's vectors, which is best in squared error."""
    return torch.stack([x[index == j].mean(0) for j in range(count)])


def vq_loss(z, codebook, beta):
    """The same distance twice, each time with the other side held."""
    c = codebook[torch.cdist(z.detach(), codebook.detach()).argmin(1)]
    codebook_loss = (z.detach() - c).square().sum(1).mean()
    commitment = (z - c.detach()).square().sum(1).mean()
    return codebook_loss + beta * commitment


def gradient_by_hand(z, codebook, beta):
    """Only the commitment moves z: the derivative of β·‖z − c‖², over the n vectors of the mean."""
    c = codebook[torch.cdist(z, codebook).argmin(1)]
    return 2 * beta * (z - c) / len(z)
