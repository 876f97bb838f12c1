"""Worked answers to chapter 17: how to judge a tokenizer."""

import math

import numpy as np
from scipy.stats import t


def psnr_of(mse):
    """The peak is 1: −10·log10 of the mean squared error."""
    return -10 * math.log10(mse)


def bits_per_pixel(file_bytes, height, width):
    """All bytes of the file over the places of the picture."""
    return 8 * file_bytes / (height * width)


def smaller_psnr(errors):
    """−log is convex, so the mean of PSNRs is at least the PSNR of the mean error (Jensen)."""
    return psnr_of(float(np.mean(errors)))


def paired_interval(one, other):
    """Of the differences: mean ± t·s/√n."""
    difference = np.asarray(other) - np.asarray(one)
    n = len(difference)
    half = t.ppf(0.975, n - 1) * difference.std(ddof=1) / math.sqrt(n)
    return difference.mean(), difference.mean() - half, difference.mean() + half


def frechet_1d(a, b):
    """(μ − ν)² + σ² + τ² − 2στ."""
    return (np.mean(a) - np.mean(b)) ** 2 + (np.std(a, ddof=1) - np.std(b, ddof=1)) ** 2
