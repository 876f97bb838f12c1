"""Noise as a pure function of (seed, step, token): the same on every rank, in every recomputation.

A forward that hashes its noise out of the tokens' own bits needs no generator state: checkpoint recomputation, a
second forward, another rank or another division of the batch see the same noise for the same token.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def mix(x: Tensor) -> Tensor:
    """A 64-bit finaliser (splitmix64; Steele, Lea & Flood 2014), wrapping in int64."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ _shift_right(x, shift)) * factor
    return x ^ _shift_right(x, 31)


def token_keys(z: Float[Tensor, "n D"], salt: Int64[Tensor, ""]) -> Int64[Tensor, " n"]:
    """A 64-bit key per token from all its bits: a multilinear hash with odd factors, then the finaliser."""
    bits = (z.detach().to(torch.float32) + 0.0).view(torch.int32).to(torch.int64)  # + 0.0: −0 is 0
    return mix(salt ^ mix((bits * _factors(z.shape[-1], z.device)).sum(-1)))


def uniform(keys: Int64[Tensor, " n"], columns: int) -> Float[Tensor, "n columns"]:
    """Independent U(0, 1), never 0 or 1."""
    bits = mix(keys.unsqueeze(-1) ^ mix(_factors(columns, keys.device)))
    return (_shift_right(bits, 41).to(torch.float32) + 0.5) * 2.0**-23


def gumbel(keys: Int64[Tensor, " n"], columns: int) -> Float[Tensor, "n columns"]:
    """Independent standard Gumbel: −ln(−ln U)."""
    return -(-uniform(keys, columns).log()).log()


def normal(keys: Int64[Tensor, " n"], columns: int) -> Float[Tensor, "n columns"]:
    """Independent N(0, 1), by Box and Muller."""
    radius, angle = uniform(keys, 2 * columns).split(columns, dim=-1)
    return (-2.0 * radius.log()).sqrt() * (2 * math.pi * angle).cos()


def seeded(seed: int) -> torch.Generator:
    """A generator on the CPU: its stream must depend on no device."""
    return torch.Generator("cpu").manual_seed(seed)


def placed(values: Tensor) -> Tensor:
    """Numbers that were drawn on the CPU, on the device where new tensors are made."""
    return values.to(torch.get_default_device())


def _factors(count: int, device: torch.device) -> Int64[Tensor, " count"]:
    return mix(torch.arange(1, count + 1, device=device)) | 1


def _shift_right(x: Tensor, by: int) -> Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)  # logical: torch's shift copies the sign
