"""What is measured of linear autoencoders: squared error of the whole vector, use of the codes, the subspace."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from codebound.batched.linear import LinearRuns, assign
from codebound.metrics.usage import usage

_ROWS = 5_000


def measure(x: Float[Tensor, "n d"], runs: LinearRuns) -> dict[str, Tensor]:
    """Each run's figures `[m]` on vectors of zero mean.

    `mse` is |x − Wc|², summed over d; `entropy_percent` the index entropy in per cent of log2 K.
    """
    size = runs.codebook.shape[1]
    gram = runs.encoder.mT @ runs.encoder
    length = torch.einsum("mkc,mcd,mkd->mk", runs.codebook, gram, runs.codebook)  # |W c_j|²
    total = x.new_zeros(len(runs.encoder))
    counts = x.new_zeros(len(runs.encoder), size)
    for rows in x.split(_ROWS):
        z, indices, q = assign(rows, runs)
        total += rows.square().sum() - 2 * (z * q).sum((-2, -1)) + length.gather(1, indices).sum(-1)
        counts += torch.stack([torch.bincount(i, minlength=size) for i in indices])
    use = usage(counts)
    return {
        "mse": total / len(x),
        "entropy_percent": 100 * use.entropy_bits / math.log2(size),
        "perplexity_percent": 100 * use.perplexity / size,
        "dead": use.dead,
    }


def captured_percent(
    x: Float[Tensor, "n d"], encoder: Float[Tensor, "m d k"], pca: Float[Tensor, "d k"]
) -> Tensor:
    """Variance that each encoder keeps, in per cent of what PCA's does, `[m]`: E|Wᵀx|² / E|Uᵀx|²."""
    covariance = x.T @ x / len(x)
    kept = torch.einsum("mdk,de,mek->m", encoder, covariance, encoder)
    return 100 * kept / (pca * (covariance @ pca)).sum()
