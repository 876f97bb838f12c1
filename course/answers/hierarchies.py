"""Worked answers to chapter 12: hierarchies."""

import math

import torch


def bits_of_pyramid(sides, codebook_size):
    """side² indices for each level, log2 K bits each."""
    return sum(side**2 for side in sides) * math.log2(codebook_size)


def coarse_bits(n, coarse, fine):
    """½·log2 of the ratio of the two variances, n·λc + λf and λf."""
    return 0.5 * math.log2((n * coarse + fine) / fine)


def two_scale_distortion(n, coarse, fine, bits):
    """Water-filling over two kinds of coefficients: first only the mean gets bits, then all."""
    large = n * coarse + fine
    alone = 0.5 * math.log2(large / fine)  # bits until the mean is down to the others
    if bits <= alone:
        return large * 4.0**-bits + (n - 1) * fine
    return n * fine * 4.0 ** (-(bits - alone) / n)


def two_scales(z, coarse_words, fine_words):
    """The codeword of each 2×2 mean stands at its four places; the fine stage sees what is left."""

    def nearest(x, words):
        return words[torch.cdist(x.flatten(0, 1), words).argmin(1)].view_as(x)

    h, w, d = z.shape
    means = z.view(h // 2, 2, w // 2, 2, d).mean((1, 3))
    rough = nearest(means, coarse_words).repeat_interleave(2, 0).repeat_interleave(2, 1)
    return rough + nearest(z - rough, fine_words)


def split_bits(n, coarse, fine, bits):
    """All splits tried: there are few."""
    splits = [(bits - (n - 1) * other, other) for other in range(bits // (n - 1) + 1)]
    return min(splits, key=lambda s: (n * coarse + fine) * 4.0 ** -s[0] + (n - 1) * fine * 4.0 ** -s[1])
