"""How alike two pictures are: PSNR, SSIM and MS-SSIM, one definition each, for single pictures.

Import it as `codebound.metrics.likeness`: torchmetrics, which computes the windows, takes a second to load.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from codebound.errors import InputError

WINDOW = 11  # pixels: the side of SSIM's window, σ = 1.5
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
    with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`.

    Raises:
        InputError: a side under 11 pixels.
    """
    _check_side(x, WINDOW, "SSIM")
    _, places = structural_similarity_index_measure(
        x, y, data_range=1.0, reduction="none", return_full_image=True
    )
    # torchmetrics gives all places, also those where the window looks over the border; the definition does not.
    border = WINDOW // 2
    return places[..., border : x.shape[2] - border, border : x.shape[3] - border].mean((1, 2, 3))


def ms_ssim(x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Multi-scale structural similarity of pictures in [0, 1] (Wang et al. 2003), five scales, as torchmetrics has it.

    Raises:
        InputError: a side under 176 pixels.
    """
    _check_side(x, SMALLEST_MS_SSIM, "MS-SSIM")
    values = multiscale_structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    return values.reshape(len(x))


def _check_side(x: Tensor, least: int, name: str) -> None:
    if min(x.shape[2:]) < least:
        raise InputError(f"x is {x.shape[2]}x{x.shape[3]}; {name} needs sides of {least} pixels at least")
