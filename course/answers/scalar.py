"""Worked answers to chapter 1: scalar quantization."""

import math

import numpy as np

# The two cells are the half lines. The mean of |x| is √(2/π); a code whose levels are its cells' means saves
# their mean square of the variance: D = 1 − 2/π.
one_bit_distortion = 1 - 2 / math.pi


def uniform_distortion(levels):
    """Equal cells of width 1/levels; a uniform error of that width has variance width²/12."""
    return 1 / (12 * levels**2)


def price_of_a_shift(shift):
    """In each cell E(x − c − s)² = E(x − c)² + s², as c is the cell's mean; the same in all cells."""
    return shift**2


def lloyd(x, levels, steps):
    """Both conditions in turn; a level without samples keeps its place."""
    for _ in range(steps):
        index = np.abs(x[:, None] - levels).argmin(1)
        counts = np.bincount(index, minlength=len(levels))
        sums = np.bincount(index, weights=x, minlength=len(levels))
        levels = np.where(counts > 0, sums / np.maximum(counts, 1), levels)
    return levels


def better_start(x, count):
    """k-means++ (Arthur and Vassilvitskii 2007): each level drawn in proportion to the squared distance so far.

    The best of ten draws, as one may be unlucky.
    """
    generator = np.random.default_rng(0)
    best, least = None, np.inf
    for _ in range(10):
        levels = [generator.choice(x)]
        while len(levels) < count:
            distance = np.square(x[:, None] - np.array(levels)).min(1)
            levels.append(generator.choice(x, p=distance / distance.sum()))
        ended = lloyd(x, np.array(levels), 20)
        error = np.square(x[:, None] - ended).min(1).mean()
        if error < least:
            best, least = np.array(levels), error
    return best
