"""Convolutional encoder and decoder: halvings, then residual blocks at the coarse resolution.

No normalisation over space and no attention: what a code decodes to depends on its neighbourhood only, so a network
trained on crops works on images of any size, whole or in tiles.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from codebound.errors import InputError

STRIDES = (1, 2, 4, 8, 16, 32)


class ResidualBlock(nn.Module):
    """x + W₁ σ(W₃ σ(x)): 3×3 then 1×1, σ = SiLU (van den Oord et al. 2017, §4.1, with ReLU); begins as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(width, width, 3, padding=1)
        self.narrow = nn.Conv2d(width, width, 1)
        for tensor in self.narrow.parameters():
            nn.init.zeros_(tensor)

    def forward(self, x: Float[Tensor, "b w h v"]) -> Float[Tensor, "b w h v"]:
        return x + self.narrow(nn.functional.silu(self.wide(nn.functional.silu(x))))


class ConvEncoder(nn.Sequential):
    """Images `[b, channels, h·stride, v·stride]` to latents `[b, dim, h, v]`.

    ```
    x ──▶ [4×4 convolution of step 2, SiLU] × log₂ stride ──▶ 3×3 ──▶ residual block × depth ──▶ SiLU, 1×1 ──▶ z
    ```

    The widths of the halvings double up to `width`.

    Raises:
        InputError: a stride that is no power of two up to 32, or a width, depth or number of channels out of range.
    """

    def __init__(self, channels: int, dim: int, *, width: int, depth: int, stride: int) -> None:
        _check(channels=channels, dim=dim, width=width, depth=depth, stride=stride)
        widths = _widths(width, stride)
        layers: list[nn.Module] = []
        for into, out in zip([channels, *widths], widths, strict=False):
            layers += [nn.Conv2d(into, out, 4, stride=2, padding=1), nn.SiLU()]
        layers.append(nn.Conv2d(widths[-1] if widths else channels, width, 3, padding=1))
        layers += [ResidualBlock(width) for _ in range(depth)]
        super().__init__(*layers, nn.SiLU(), nn.Conv2d(width, dim, 1))


class ConvDecoder(nn.Sequential):
    """Latents `[b, dim, h, v]` to images `[b, channels, h·stride, v·stride]`: the encoder's mirror.

    ```
    z ──▶ 3×3 ──▶ residual block × depth ──▶ [SiLU, 4×4 transposed convolution of step 2] × log₂ stride ──▶ x̂
    ```

    Raises:
        InputError: as `ConvEncoder`.
    """

    def __init__(self, channels: int, dim: int, *, width: int, depth: int, stride: int) -> None:
        _check(channels=channels, dim=dim, width=width, depth=depth, stride=stride)
        widths = _widths(width, stride)[::-1]
        layers: list[nn.Module] = [nn.Conv2d(dim, width, 3, padding=1)]
        layers += [ResidualBlock(width) for _ in range(depth)]
        for into, out in zip(widths, [*widths[1:], channels], strict=False):
            layers += [nn.SiLU(), nn.ConvTranspose2d(into, out, 4, stride=2, padding=1)]
        super().__init__(
            *layers if widths else [*layers, nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1)]
        )


def pad_to_multiple(x: Float[Tensor, "b c h w"], multiple: int) -> Float[Tensor, "b c H W"]:
    """Repeat the last row and column until both sides are multiples; cropping to `[h, w]` undoes it."""
    bottom, right = (-side % multiple for side in x.shape[-2:])
    return nn.functional.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def _widths(width: int, stride: int) -> list[int]:
    """Channels after each halving of the sides, fine to coarse; the last one has the full width."""
    halvings = int(math.log2(stride))
    return [max(width >> (halvings - 1 - i), 8) if i < halvings - 1 else width for i in range(halvings)]


def _check(**sizes: int) -> None:
    for name, size in sizes.items():
        least = 0 if name == "depth" else 1
        if size < least:
            raise InputError(f"{name} must be at least {least}; got {size}")
    if sizes["stride"] not in STRIDES:
        raise InputError(f"stride must be one of {', '.join(map(str, STRIDES))}; got {sizes['stride']}")


def parameters(module: torch.nn.Module) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
