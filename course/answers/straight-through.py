"""Worked answers to chapter 6: straight-through."""

import torch


def gradient_at(z, codebook, target):
    """The derivative at the codeword, 2(c − t), handed to z unchanged."""
    c = codebook[torch.cdist(z[None], codebook).argmin()]
    return 2 * (c - target)


def smoothed_derivative(loss, z, step):
    """The noise's lower end z − Δ/2 is in the cell of q, its upper end one cell further."""
    q = step * round((z - step / 2) / step)
    return (loss(q + step) - loss(q)) / step


def largest_error(curvature, step):
    """ℓ' in the middle of two codewords against ℓ' at one of them: half a step apart, times ℓ''."""
    return curvature * step / 2


def straight_through(z, c):
    """Forward z + (c − z) = c; backward only the first z counts."""
    return z + (c - z).detach()


def half_way(z, c):
    """The mean of both with the gradient of both, and what is missing to c without any."""
    mean = (z + c) / 2
    return mean + (c - mean).detach()
