"""Worked answers to chapter 2: vector quantization and k-means."""

import math

import torch


def bits_per_component(codebook_size, dim):
    """An index costs log2 K bits and stands for dim components."""
    return math.log2(codebook_size) / dim


def space_filling_gain_db(second_moment):
    """Errors at equal volume are in proportion to the second moment; cubes have 1/12."""
    return 10 * math.log10((1 / 12) / second_moment)


def distortion_after_merge(n1, c1, n2, c2):
    """n1(c1 − m)² + n2(c2 − m)² with the common mean m; put in, n1·n2/(n1 + n2)·(c1 − c2)² is left."""
    return n1 * n2 / (n1 + n2) * (c1 - c2) ** 2


def lloyd_step(z, codebook):
    """Counts and sums of the cells, then their quotient where there is something to divide by."""
    index = torch.cdist(z, codebook).argmin(1)
    counts = torch.bincount(index, minlength=len(codebook))
    sums = torch.zeros_like(codebook).index_add(0, index, z)
    means = sums / counts.clamp(min=1)[:, None]
    return torch.where(counts[:, None] > 0, means, codebook)


def sample_size(dim):
    """A cell's mean of n vectors has the error v/n: with 100 vectors a codeword about a percent is lost."""
    return 100 * 2**dim
