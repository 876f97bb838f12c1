"""How a codebook is used and where its codewords lie; tensors may carry leading runs axes `*m`."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from codebound.errors import InputError

DEAD = 1e-4  # a codeword with less than this share of the vectors counts as dead


class Usage(NamedTuple):
    """Over a whole data set, never per batch. A share is a codeword's fraction of the vectors."""

    perplexity: Float[Tensor, "*m"]  # exp of the entropy of the shares
    entropy_bits: Float[Tensor, "*m"]
    usage_min: Float[Tensor, "*m"]  # smallest share
    usage_max: Float[Tensor, "*m"]
    usage_std: Float[Tensor, "*m"]
    dead: Float[Tensor, "*m"]  # number of codewords with a share under `DEAD`


class Geometry(NamedTuple):
    """Where the codewords lie."""

    norm_mean: Float[Tensor, "*m"]
    norm_std: Float[Tensor, "*m"]
    pairwise_distance: Float[Tensor, "*m"]  # mean over the pairs of different codewords


def usage(counts: Shaped[Tensor, "*m K"], dead_below: float = DEAD) -> Usage:
    """Usage statistics from the number of vectors in each cell.

    With shares p_j = N_j/ΣN: perplexity exp(−Σ p_j ln p_j). Without any vector all shares are 0.

    Raises:
        InputError: no codeword, or a count below 0.
    """
    if counts.shape[-1] == 0 or bool((counts < 0).any()):
        raise InputError(
            f"counts must be 0 or more, for at least one codeword; got shape {list(counts.shape)} with "
            f"{int((counts < 0).sum())} below 0"
        )
    share = counts.double() / counts.sum(-1, keepdim=True).clamp_min(1)
    nats = torch.special.entr(share).sum(-1)
    return Usage(
        perplexity=nats.exp(),
        entropy_bits=nats / math.log(2),
        usage_min=share.amin(-1),
        usage_max=share.amax(-1),
        usage_std=share.std(-1),
        dead=(share < dead_below).sum(-1).double(),
    )


def used(counts: Shaped[Tensor, "*m K"]) -> Float[Tensor, "*m"]:
    """Fraction of the codewords with at least one vector: what papers call utilisation. It grows with the set."""
    return (counts > 0).double().mean(-1)


def entropy_rate(counts: Shaped[Tensor, " K"]) -> float:
    """Bits per index for an ideal entropy coder that knows the frequencies: Miller–Madow, at most log₂ K.

    The plug-in entropy plus (K₊ − 1)/(2N ln 2), K₊ the codewords used: from few indices the plug-in alone is too low.
    """
    total = float(counts.sum())
    if total == 0:
        return 0.0
    bias = (float((counts > 0).sum()) - 1) / (2 * math.log(2) * total)
    return min(math.log2(counts.shape[-1]), float(usage(counts).entropy_bits) + bias)


def geometry(codebook: Float[Tensor, "*m K D"]) -> Geometry:
    """Norms of the codewords and their mean distance."""
    norms = codebook.norm(dim=-1)
    k = codebook.shape[-2]
    total = torch.cdist(codebook, codebook).sum((-2, -1), dtype=torch.float64)
    return Geometry(norms.mean(-1).double(), norms.std(-1).double(), total / (k * (k - 1)))
