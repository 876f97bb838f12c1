"""A linear path beside a network: patches of pixels to latents and back, beginning as a block transform.

Squared error is carried by a picture's large linear components, which a stack of convolutions finds slowly and a
discrete cosine transform has from the first step (Ahmed, Natarajan & Rao 1974; JPEG). The network beside it begins at
zero and learns what a block transform can't do.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

_CHROMA_PENALTY = 8.0  # luminance varies about eight times as much as a colour difference


def block_basis(channels: int, size: int, dim: int) -> Float[Tensor, "dim channels size size"]:
    """The first `dim` functions of a block DCT-II over colour patches, orthonormal, those of most variance first.

    Colours by their sum and two differences; frequencies by 1 + u² + v², a natural picture's spectrum. Functions
    beyond the `channels`·`size`² that there are, are zero.
    """
    place = np.arange(size)
    cosines = np.cos(np.pi * (place + 0.5) * place[:, None] / size) * math.sqrt(2 / size)
    cosines[0] /= math.sqrt(2)
    colours = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=np.float64)[:channels, :channels]
    colours /= np.linalg.norm(colours, axis=1, keepdims=True)
    basis = np.einsum("kc,uy,vx->kuvcyx", colours, cosines, cosines).reshape(-1, channels, size, size)
    penalty = np.where(np.arange(channels) > 0, _CHROMA_PENALTY, 1.0)[:, None, None]
    rank = (penalty * (1 + place[:, None] ** 2 + place**2)).ravel().argsort(kind="stable")[:dim]
    filled = np.zeros((dim, channels, size, size))
    filled[: len(rank)] = basis[rank]
    return torch.from_numpy(filled).float()


class LinearEncoder(nn.Conv2d):
    """Images `[b, channels, h·size, v·size]` to latents `[b, dim, h, v]`, each patch by itself."""

    def __init__(self, channels: int, dim: int, size: int) -> None:
        super().__init__(channels, dim, size, stride=size)
        _begin(self, block_basis(channels, size, dim))


class LinearDecoder(nn.ConvTranspose2d):
    """Latents `[b, dim, h, v]` to images `[b, channels, h·size, v·size]`: `LinearEncoder` transposed."""

    def __init__(self, channels: int, dim: int, size: int) -> None:
        super().__init__(dim, channels, size, stride=size)
        _begin(self, block_basis(channels, size, dim))


class LinearBypass(nn.Module):
    """network(x) + linear(x); the network's last layer is set to zero, so that it begins with the linear part alone."""

    def __init__(self, network: nn.Sequential, linear: nn.Module) -> None:
        super().__init__()
        self.network, self.linear = network, linear
        for tensor in network[-1].parameters():
            nn.init.zeros_(tensor)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d H W"]:
        return self.network(x) + self.linear(x)


def _begin(layer: nn.Conv2d | nn.ConvTranspose2d, weight: Tensor) -> None:
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.zero_()
