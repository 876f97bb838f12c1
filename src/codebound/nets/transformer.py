"""A transformer over tokens that have places: pre-norm blocks, rotary places, a cache of keys and values."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from codebound import arguments
from codebound.errors import InputError

ROTARY_BASE = 100.0  # longest wavelength 2π·100 = 628 tokens: grids are tens wide, windows of sound 128 long
Network = Literal["gelu", "swiglu"]  # of a block: one layer and GELU, or two layers multiplied (Shazeer 2020)


class Rotation(NamedTuple):
    """Cosines and sines that queries and keys of each place are turned by."""

    cos: Float[Tensor, "n half"]
    sin: Float[Tensor, "n half"]

    def at(self, first: int, last: int) -> Rotation:
        """Those of some places."""
        return Rotation(self.cos[first:last], self.sin[first:last])


class KeyValueCache:
    """Keys and values of the tokens so far, in memory that is taken once.

    Args:
        layers, batch, heads, length, dim: the blocks; sequences; heads; tokens at most; numbers of a head.
    """

    def __init__(self, layers: int, batch: int, heads: int, length: int, dim: int, like: Tensor) -> None:
        self.keys = like.new_empty(layers, batch, heads, length, dim)
        self.values = torch.empty_like(self.keys)
        self.length = 0  # tokens in it

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put those of new tokens behind the others; returns all of that layer."""
        end = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class SwiGLU(nn.Module):
    """SiLU of the first half of the numbers, times the second half (Shazeer 2020)."""

    def forward(self, x: Float[Tensor, "*b two_d"]) -> Float[Tensor, "*b d"]:
        gate, value = x.chunk(2, dim=-1)
        return silu(gate) * value


class Block(nn.Module):
    """x + attention(norm x), then x + network(norm x); both begin as nothing, so that the block is the identity."""

    def __init__(self, width: int, heads: int, dropout: float, network: Network = "gelu") -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm = nn.RMSNorm(width)
        self.project_in = nn.Linear(width, 3 * width, bias=False)
        self.project_out = nn.Linear(width, width, bias=False)
        self.network_norm = nn.RMSNorm(width)
        # Both networks have about 8·width² weights; that of SwiGLU has a multiple of 8 units (8/3·width, rounded up).
        inner = 4 * width if network == "gelu" else -(-width // 3) * 8
        self.network = nn.Sequential(
            nn.Linear(width, inner if network == "gelu" else 2 * inner, bias=False),
            nn.GELU() if network == "gelu" else SwiGLU(),
            nn.Dropout(dropout),
            nn.Linear(inner, width, bias=False),
        )
        for last in (self.project_out, self.network[-1]):
            nn.init.zeros_(last.weight)  # pyright: ignore[reportArgumentType]

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        rotation: Rotation,
        causal: bool,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "b n d"]:
        # Heads beside one another, queries and keys turned by their places.
        q, k, v = (
            self.project_in(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        q, k = _turned(q, rotation), _turned(k, rotation)

        # New tokens see those in the cache, and of each other those before them where attention is causal.
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        dropout = self.dropout if self.training else 0.0
        seen = scaled_dot_product_attention(q, k, v, is_causal=causal and cache is None, dropout_p=dropout)
        x = x + self.project_out(seen.transpose(1, 2).flatten(2))
        return x + self.network(self.network_norm(x))


class Transformer(nn.Module):
    """Pre-norm blocks over tokens that have places (Vaswani et al. 2017; rotary positions: Su et al. 2021).

    Where tokens stand on a grid, half of a head's pairs are turned by the row of a token, half by its column, so that
    attention knows distances in both directions; in a sequence all are turned by the place.

    Args:
        width: numbers of a token; a multiple of 4·heads.
        depth: blocks.
        heads: of each attention.
        dropout: in attention and networks, while training.
        network: of each block: "gelu" or "swiglu".

    Raises:
        InputError: an argument out of its range.
    """

    def __init__(
        self, width: int, depth: int, heads: int, dropout: float = 0.0, network: Network = "gelu"
    ) -> None:
        super().__init__()
        if heads < 1 or width < 1 or width % (4 * heads):
            raise InputError(f"width must be a multiple of 4·heads; got width={width}, heads={heads}")
        if depth < 1 or not 0 <= dropout < 1:
            raise InputError(f"depth must be at least 1 and dropout in [0, 1); got {depth} and {dropout}")
        arguments.one_of("network", network, get_args(Network))
        self.width, self.heads = width, heads
        self.blocks = nn.ModuleList(Block(width, heads, dropout, network) for _ in range(depth))
        self.norm = nn.RMSNorm(width)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        rotation: Rotation,
        *,
        causal: bool,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b n d"]:
        """What stands behind the last block, normalised.

        Args:
            rotation: of these tokens' places.
            causal: a token sees itself and those before it.
            cache: of the tokens before these, which are added to it; with one, tokens are given one at a time.
        """
        for layer, block in enumerate(self.blocks):
            x = block(x, rotation, causal, cache, layer)
        if cache is not None:
            cache.length += x.shape[1]
        return self.norm(x)

    def rotation(self, places: Int[Tensor, "n axes"], base: float = ROTARY_BASE) -> Rotation:
        """How tokens at these places are turned: rows and columns, or numbers in a sequence.

        Args:
            base: longest wavelength, in 2π places.
        """
        pairs = self.width // self.heads // (2 * places.shape[1])  # for each axis
        wave = base ** -(torch.arange(pairs, device=places.device) / pairs)
        angles = (places[..., None] * wave).flatten(1)
        return Rotation(angles.cos(), angles.sin())

    def cache(self, batch: int, length: int) -> KeyValueCache:
        """Room for the keys and values of so many tokens."""
        like = next(self.parameters())
        return KeyValueCache(len(self.blocks), batch, self.heads, length, self.width // self.heads, like)


def _turned(x: Float[Tensor, "b h n e"], rotation: Rotation) -> Float[Tensor, "b h n e"]:
    """Each pair of numbers turned by its place's angle."""
    one, other = x.chunk(2, dim=-1)
    cos, sin = rotation.cos.to(x.dtype), rotation.sin.to(x.dtype)
    return torch.cat([one * cos - other * sin, one * sin + other * cos], dim=-1)
