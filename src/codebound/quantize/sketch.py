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

from codebound.quantize.noise import token_keys

EMPTY = torch.iinfo(torch.int64).max  # the key of an unfilled place


class Sketch(NamedTuple):
    """Distinct tokens with the smallest keys, ascending; unfilled places have the key EMPTY."""

    vectors: Float[Tensor, "R D"]
    keys: Int64[Tensor, " R"]

    @staticmethod
    def of(z: Float[Tensor, "n D"], valid: Bool[Tensor, " n"], size: int, salt: Int64[Tensor, ""]) -> Sketch:
        """The sketch of one batch; `salt` is a hash of (seed, step)."""
        if size == 0:
            return Sketch(z[:0], salt.new_empty(0))
        keys = torch.where(valid, token_keys(z, salt) & (EMPTY - 1), EMPTY)  # not negative, and never EMPTY
        pad = size - z.shape[0]
        if pad > 0:  # not F.pad: it takes its value through a float, which EMPTY does not survive
            z = torch.cat([z, z.new_zeros(pad, z.shape[1])])
            keys = torch.cat([keys, keys.new_full((pad,), EMPTY)])
        return _smallest(z, keys, size)

    def merge(self, other: Sketch) -> Sketch:
        """The sketch of the joined batch."""
        vectors = torch.cat([self.vectors, other.vectors])
        return _smallest(vectors, torch.cat([self.keys, other.keys]), self.keys.shape[0])

    def filled(self) -> Float[Tensor, "r D"]:
        """The tokens, without the unfilled places."""
        return self.vectors[self.keys != EMPTY]


def _smallest(vectors: Tensor, keys: Tensor, size: int) -> Sketch:
    """The `size` smallest different keys with their vectors: each key gets the place of its rank, equal ones none."""
    if keys.shape[0] == 0:
        return Sketch(vectors, keys)
    # All keys are sorted: a few smallest would not do, as they may be many times the same token.
    keys, at = keys.sort(stable=True)
    again = torch.nn.functional.pad(keys[1:] == keys[:-1], (1, 0))
    place = torch.cumsum(~again, 0) - 1
    place = torch.where(again | (place >= size), size, place)  # the extra place swallows the rest
    kept = keys.new_full((size + 1,), EMPTY).scatter(0, place, keys)[:size]
    source = at.new_zeros(size + 1).scatter(0, place, at)[:size]
    return Sketch(vectors.index_select(0, source), kept)
