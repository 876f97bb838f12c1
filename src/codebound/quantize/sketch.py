"""A fixed-size sample of a stream that does not depend on how the stream was divided.

Each token gets a pseudo-random key, a hash of its own bits and of (seed, step); the sketch keeps the tokens
with the smallest keys (bottom-k sketch: Cohen & Kaplan, "Summarizing data using bottom-k sketches", PODC
2007). Ranks and accumulation steps merge their sketches and arrive at the sample that one process would have
taken from the joined batch. Equal tokens share a key and count once, so padding can't fill the sample.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

EMPTY = torch.iinfo(torch.int64).max  # the key of an unfilled place
_HASHED_DIMS = 8  # plenty to tell tokens apart, and O(N) instead of O(N·D)


class Sketch(NamedTuple):
    """Distinct tokens with the smallest keys, ascending; unfilled places have the key EMPTY."""

    vectors: Float[Tensor, "R D"]
    keys: Int64[Tensor, " R"]

    @staticmethod
    def of(z: Float[Tensor, "n D"], valid: Bool[Tensor, " n"], size: int, salt: Int64[Tensor, ""]) -> Sketch:
        """The sketch of one batch; `salt` is a hash of (seed, step)."""
        keys = torch.where(valid, _hash(z, salt), EMPTY)
        pad = max(0, size - z.shape[0])
        vectors = torch.nn.functional.pad(z, (0, 0, 0, pad))
        return _smallest(vectors, torch.nn.functional.pad(keys, (0, pad), value=EMPTY), size)

    def merge(self, other: Sketch) -> Sketch:
        """The sketch of the joined batch."""
        vectors = torch.cat([self.vectors, other.vectors])
        return _smallest(vectors, torch.cat([self.keys, other.keys]), self.keys.shape[0])

    def filled(self) -> Float[Tensor, "r D"]:
        """The tokens, without the unfilled places."""
        return self.vectors[self.keys != EMPTY]


def mix(x: Tensor) -> Tensor:
    """A 64-bit finaliser (splitmix64; Steele, Lea & Flood 2014), wrapping in int64."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ _shift_right(x, shift)) * factor
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, by: int) -> Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)  # logical: torch's shift copies the sign


def _hash(z: Tensor, salt: Tensor) -> Tensor:
    stride = max(1, z.shape[-1] // _HASHED_DIMS)
    bits = z[:, ::stride][:, :_HASHED_DIMS].to(torch.float32).contiguous().view(torch.int32).to(torch.int64)
    key = salt.expand(z.shape[0])
    for column in bits.unbind(-1):
        key = mix(key ^ column)
    return key & (EMPTY - 1)  # not negative, and never EMPTY


def _smallest(vectors: Tensor, keys: Tensor, size: int) -> Sketch:
    # Twice the size is taken, so that removing duplicates seldom leaves a place unfilled.
    kept, at = keys.topk(min(2 * size, keys.shape[0]), largest=False, sorted=True)
    again = torch.nn.functional.pad(kept[1:] == kept[:-1], (1, 0))
    kept, order = torch.where(again, EMPTY, kept).sort(stable=True)
    return Sketch(vectors.index_select(0, at[order[:size]]), kept[:size])
