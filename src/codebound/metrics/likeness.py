"""How alike two pictures are: PSNR, SSIM and MS-SSIM, one definition each, for single pictures.

Import it as `codebound.metrics.likeness`: torchmetrics, which computes MS-SSIM, takes a second to load.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from codebound.errors import InputError

WINDOW, SIGMA = 11, 1.5  # pixels: SSIM's window and its spread
K1, K2 = 0.01, 0.03  # SSIM's constants, for pictures in [0, 1]
SMALLEST_MS_SSIM = 176  # pixels: at the fifth scale, a sixteenth, the window still fits
HIGHEST_PSNR = 100.0  # decibels: what equal pictures are given


def psnr(x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of pictures in [0, 1], in dB: −10·log₁₀ of the mean squared error over all channels.

    Equal pictures have 100 dB, and nothing has more.
    """
    error = (x - y).double().square().mean((1, 2, 3))
    return (-10 * error.clamp_min(10 ** (-HIGHEST_PSNR / 10)).log10()).to(x.dtype)


def ssim(x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Structural similarity of pictures in [0, 1] (Wang et al. 2004), the mean over channels and places.

    A Gaussian window of 11 pixels, σ = 1.5, at the places where it fits, K₁ = 0.01, K₂ = 0.03: as scikit-image has it
    with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`. Computed in float64: a variance is the small
    difference of large numbers.

    Raises:
        InputError: a side under 11 pixels.
    """
    _check_side(x, WINDOW, "SSIM")
    one, other = x.double(), y.double()

    # Means, variances and covariance of each place's window.
    mean_x, mean_y = _window_means(one), _window_means(other)
    variance_x = _window_means(one * one) - mean_x * mean_x
    variance_y = _window_means(other * other) - mean_y * mean_y
    covariance = _window_means(one * other) - mean_x * mean_y

    # Likeness in brightness, and in contrast and structure.
    brightness = (2 * mean_x * mean_y + K1**2) / (mean_x * mean_x + mean_y * mean_y + K1**2)
    structure = (2 * covariance + K2**2) / (variance_x + variance_y + K2**2)
    return (brightness * structure).mean((1, 2, 3)).to(x.dtype)


def ms_ssim(x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Multi-scale structural similarity of pictures in [0, 1] (Wang et al. 2003), five scales, as torchmetrics has it.

    Raises:
        InputError: a side under 176 pixels.
    """
    _check_side(x, SMALLEST_MS_SSIM, "MS-SSIM")
    values = multiscale_structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    return values.reshape(len(x))


def _window_means(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h-10 w-10"]:
    """The Gaussian window's weighted means, along the rows and then along the columns.

    Sums of shifted pictures: a float64 convolution would copy each pixel once for every place of the window, which
    takes a hundred times as long.
    """
    weights = [math.exp(-(place**2) / (2 * SIGMA**2)) for place in range(-(WINDOW // 2), WINDOW // 2 + 1)]
    for side in (2, 3):
        length = x.shape[side] - WINDOW + 1
        shifted = [x.narrow(side, start, length) for start in range(WINDOW)]
        total = torch.zeros_like(shifted[0])
        for weight, picture in zip(weights, shifted, strict=True):
            total.add_(picture, alpha=weight / sum(weights))
        x = total
    return x


def _check_side(x: Tensor, least: int, name: str) -> None:
    if min(x.shape[2:]) < least:
        raise InputError(f"x is {x.shape[2]}x{x.shape[3]}; {name} needs sides of {least} pixels at least")
