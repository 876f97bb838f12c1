"""The values of a bit-shift trellis's registers: quantiles of a Gaussian, or centroids."""

from __future__ import annotations

import math

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from codebound.exact import wide
from codebound.quantize.bit_trellis_search import cheapest_registers
from codebound.quantize.noise import mix
from codebound.theory.lloyd import normal_cells

ROUNDS = 10  # of searches and centroids
ENOUGH = 32  # values for each register, in a round, and
LEAST = 1 << 16  # in all
KEPT = 0.7  # of the counts of earlier rounds
PRIOR = 8  # values that a register's present value counts for
TOGETHER = 128  # sequences searched at once


def gaussian_table(bits: int, state_bits: int, seed: int) -> Float[Tensor, " S"]:
    """For N(0, 1): the centroids of 2^L equally probable cells, of variance 1 − 2^(−2K), in an order of chance.

    That is the variance which reproductions of least rate have (the forward test channel). Of the 2^K registers that
    leave a node each gets a value from another of 2^K quantiles, and so do those that come into one: values side by
    side would be a choice of nothing. (At 8 bits, 2 of them new, that is worth 0.5 dB over any order.)
    """
    size, fan = 1 << state_bits, 1 << bits
    _, centroids, _ = normal_cells(scipy.special.ndtri(np.arange(1, size) / size))
    values = torch.from_numpy(centroids * math.sqrt((1 - 4.0**-bits) / np.square(centroids).mean()))

    # The newest bits tell registers apart that leave a node, the oldest ones those that come into one.
    register, salt = torch.arange(size, device="cpu"), mix(torch.tensor(seed, device="cpu"))
    between = (register >> bits) & ((size >> min(2 * bits, state_bits)) - 1)
    oldest = register >> (state_bits - bits)
    quantile = ((register & (fan - 1)) ^ oldest ^ mix(between ^ mix(salt))) & (fan - 1)

    # Within a quantile an order by hashes: the same everywhere, and in every version of PyTorch.
    order = mix(register ^ salt).argsort()
    order = order[quantile[order].argsort(stable=True)]
    return torch.empty(size, device="cpu").scatter_(0, order, values.float())


def trained_table(rows: Float[Tensor, "n T"], table: Float[Tensor, " S"], bits: int) -> Float[Tensor, " S"]:
    """The table after some rounds in which each register's value moves to the mean of what was coded by it.

    Each round searches a part of the rows (all, where they are few) and adds to the counts of those before.
    """
    count, size = len(rows), len(table)
    portion = min(count, -(-max(ENOUGH * size, LEAST) // rows.shape[1]))
    hits = torch.zeros(size, dtype=wide(rows.device), device=rows.device)
    sums = torch.zeros_like(hits)
    for step in range(ROUNDS):
        # The next part, around the end.
        own = (torch.arange(portion, device=rows.device) + step * portion) % count
        hits *= KEPT
        sums *= KEPT
        for some in own.split(TOGETHER):
            x = rows[some].t().contiguous()
            registers, _ = cheapest_registers(x, table, bits)
            hits.index_add_(0, registers.flatten(), torch.ones_like(x, dtype=hits.dtype).flatten())
            sums.index_add_(0, registers.flatten(), x.flatten().to(sums.dtype))
        table = ((sums + PRIOR * table) / (hits + PRIOR)).float()
    return table
