"""Worked answers to chapter 13: adversarial training."""

import math

import numpy as np
import torch

# Twice the least squared error.
price_of_realism_db = 10 * math.log10(2)


def least_hinge_loss(p, q):
    """The best discriminator is sign(p − q); it leaves 2·Σ min(p, q) = 2 − Σ|p − q|."""
    return 2 - float(np.abs(np.asarray(p) - np.asarray(q)).sum())


def realistic_distortion(variance, rate_bits):
    """The least distortion, and once more the same for drawing from the posterior."""
    return 2 * variance * 4.0**-rate_bits


def hinge_losses(real, fake):
    """Real scores above 1 and false ones below −1 are good enough; the decoder wants its scores up, without end."""
    judge = torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()
    return judge, -fake.mean()


def adaptive_weight(loss, deceived, last):
    """Both gradients at the last layer get one length; the graph is kept for backward."""
    pulls = [torch.autograd.grad(part, last, retain_graph=True)[0].norm() for part in (loss, deceived)]
    return (pulls[0] / (pulls[1] + 1e-6)).detach()
