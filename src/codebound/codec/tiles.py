"""Pictures through a tokenizer in tiles of one size: beside a tile only the result is held, as large as its grid.

A tile is 64×64 tokens and a margin of what its outermost tokens depend on: indices and pixels are those of the whole
picture at once, to rounding. Where a picture ends, so does its tile, as in the networks' training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from torch import Tensor

from codebound.tokenizers.image import ImageTokenizer, to_uint8

TILE = 64  # tokens along a side


class _Span(NamedTuple):
    """A stretch of tokens, and a wider one that it depends on."""

    first: int
    last: int
    wide_first: int
    wide_last: int

    def inner(self, scale: int = 1) -> slice:
        """Where the stretch lies in the wider one."""
        return slice(scale * (self.first - self.wide_first), scale * (self.last - self.wide_first))

    def outer(self, scale: int = 1) -> slice:
        """The wider stretch."""
        return slice(scale * self.wide_first, scale * self.wide_last)

    def own(self, scale: int = 1) -> slice:
        """The stretch."""
        return slice(scale * self.first, scale * self.last)


def encode(tokenizer: ImageTokenizer, pixels: UInt8[np.ndarray, "h w c"]) -> Int64[np.ndarray, "H W q"]:
    """Indices on the grid of tokens, of the nearest codewords."""
    return _tokens(tokenizer, pixels, tokenizer.encode)


def latents(tokenizer: ImageTokenizer, pixels: UInt8[np.ndarray, "h w c"]) -> Float[np.ndarray, "H W D"]:
    """What the quantizer sees, on the grid of tokens."""
    return _tokens(tokenizer, pixels, tokenizer.latents)


def _tokens(
    tokenizer: ImageTokenizer, pixels: UInt8[np.ndarray, "h w c"], read: Callable[[Tensor], Tensor]
) -> Shaped[np.ndarray, "H W n"]:
    """What `read` finds for each token."""
    # The grid that the picture has at this stride.
    s = tokenizer.stride
    rows, columns = (-(-side // s) for side in pixels.shape[:2])

    # Each tile is read with its margin, and only its own tokens are kept.
    whole: np.ndarray | None = None
    for down in _spans(rows, _margin(tokenizer)):
        for right in _spans(columns, _margin(tokenizer)):
            tile = torch.from_numpy(pixels[down.outer(s), right.outer(s)].copy())
            tokens = read(tile.permute(2, 0, 1)[None])[0].numpy()
            if whole is None:
                whole = np.empty((rows, columns, tokens.shape[-1]), dtype=tokens.dtype)
            whole[down.own(), right.own()] = tokens[down.inner(), right.inner()]
    assert whole is not None
    return whole


def decode(
    tokenizer: ImageTokenizer, indices: Int64[np.ndarray, "H W q"], size: tuple[int, int]
) -> UInt8[np.ndarray, "h w c"]:
    """8-bit pixels of a picture of this height and width."""
    # Tile by tile: a wider stretch of tokens is decoded, and of its pixels only those of its own are kept.
    s = tokenizer.stride
    rows, columns = indices.shape[:2]
    pixels = np.empty((*size, tokenizer.channels), dtype=np.uint8)
    for down in _spans(rows, _margin(tokenizer)):
        for right in _spans(columns, _margin(tokenizer)):
            wide = torch.from_numpy(indices[down.outer(), right.outer()].copy())
            tile = to_uint8(tokenizer.decode(wide[None]))[0].permute(1, 2, 0).numpy()
            target = pixels[down.own(s), right.own(s)]
            target[:] = tile[down.inner(s), right.inner(s)][: target.shape[0], : target.shape[1]]
    return pixels


def _margin(tokenizer: ImageTokenizer) -> int:
    """Tokens beside it that one depends on: one per 3×3 layer, one for all halvings, one to spare."""
    return tokenizer.depth + 3


def _spans(tokens: int, margin: int) -> Iterator[_Span]:
    """A side cut into stretches of `TILE` tokens, each with its margin as far as the picture reaches."""
    for first in range(0, tokens, TILE):
        last = min(first + TILE, tokens)
        yield _Span(first, last, max(first - margin, 0), min(last + margin, tokens))
