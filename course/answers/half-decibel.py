"""Worked answers to chapter 16: half a decibel from Shannon."""

import math

import numpy as np

# ½·log2(2πe/12), a quarter of a bit.
bits_lost_by_cubes = 0.5 * math.log2(2 * math.pi * math.e / 12)


def uniform_entropy(step, sigma):
    """h(X) − log2(step), the entropy of a fine histogram."""
    return 0.5 * math.log2(2 * math.pi * math.e * sigma**2) - math.log2(step)


def gap_of_moment(moment):
    """Against a ball of many dimensions, which has 1/(2πe)."""
    return 10 * math.log10(2 * math.pi * math.e * moment)


def viterbi(x, step):
    """For each state the cheapest way into it, value by value; then back along the cheapest end."""
    branches = {0: ((0, 0), (2, 1)), 1: ((1, 2), (3, 3)), 2: ((2, 0), (0, 1)), 3: ((3, 2), (1, 3))}
    cost, trace = [0.0, math.inf, math.inf, math.inf], []
    for value in x:
        best, back = [math.inf] * 4, [None] * 4
        for state, ways in branches.items():
            for subset, following in ways:
                level = (4 * round((value / step - subset) / 4) + subset) * step
                total = cost[state] + (value - level) ** 2
                if total < best[following]:
                    best[following], back[following] = total, (state, level)
        cost = best
        trace.append(back)
    state, levels = int(np.argmin(cost)), []
    for back in reversed(trace):
        state, level = back[state]
        levels.append(level)
    return np.array(levels[::-1])


def scaled_reproduction(x, step):
    """Least squares of x on its rounded values: the factor is x·r / r·r, below 1."""
    rounded = step * np.round(x / step)
    return (x @ rounded) / (rounded @ rounded) * rounded
