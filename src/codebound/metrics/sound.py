"""How near a decoded sound is to the original: spectra to train on and to judge by, and what listeners' models say.

PESQ (ITU-T P.862.2), STOI (Taal et al. 2011) and ViSQOL (Chinen et al. 2020, lattice mapping) come with the extra
`speech-metrics`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from codebound import extras
from codebound.errors import InputError

MELS = 80
FLOOR = 1e-5  # of magnitudes, before their logarithm
QUIET = 1e-8  # added to energies, so that silence has a ratio
PESQ_RATE = 16_000
EXTRA = "speech-metrics"


def spectrum(x: Float[Tensor, "b n"], size: int) -> Tensor:
    """Short-time spectra `[b, f, t]`, windows of `size` samples that overlap by three quarters, of sum 1."""
    window = torch.hann_window(size, dtype=x.dtype, device=x.device)
    window = window / window.sum()
    return torch.stft(
        x, size, size // 4, window=window, center=True, pad_mode="constant", return_complex=True
    )


@lru_cache(maxsize=16)
def mel_filters(size: int, sample_rate: int, mels: int = MELS) -> Float[Tensor, "m f"]:
    """Triangles that are equally wide on the mel scale 2595·log10(1 + f/700), of sum 1."""
    highest = 2595 * math.log10(1 + sample_rate / 2 / 700)
    centres = 700 * (10 ** (torch.linspace(0, highest, mels + 2, dtype=torch.float64) / 2595) - 1)
    frequencies = torch.linspace(0, sample_rate / 2, size // 2 + 1, dtype=torch.float64)
    low, middle, high = centres[:-2, None], centres[1:-1, None], centres[2:, None]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    weights = torch.minimum(rising, falling).clamp_min(0)
    return (weights / weights.sum(1, keepdim=True).clamp_min(1e-9)).float()


def log_mel(x: Float[Tensor, "b n"], size: int, sample_rate: int) -> Float[Tensor, "b m t"]:
    """log10 of mel magnitudes."""
    mels = min(MELS, size // 8)
    filters = mel_filters(size, sample_rate, mels).to(x.device)
    return torch.log10((filters @ spectrum(x, size).abs()).clamp_min(FLOOR))


def mel_distance(
    x: Float[Tensor, "b n"], y: Float[Tensor, "b n"], sample_rate: int, sizes: tuple[int, ...] = (512, 2048)
) -> Float[Tensor, ""]:
    """Mean absolute difference of log10 mel magnitudes, over windows of several sizes."""
    parts = [(log_mel(x, size, sample_rate) - log_mel(y, size, sample_rate)).abs().mean() for size in sizes]
    return torch.stack(parts).mean()


def compressed_distances(
    x: Float[Tensor, "b n"], y: Float[Tensor, "b n"], size: int, power: float = 0.3
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean squared differences of spectra whose magnitudes are raised to a power: of magnitudes, and of complex values
    (Ephrat et al. 2018; Braun & Tashev 2021)."""
    a, b = (spectrum(part, size) for part in (x, y))
    lengths = [(part.real.square() + part.imag.square() + QUIET**2).sqrt() for part in (a, b)]
    powers = [length.pow(power) for length in lengths]
    magnitude = (powers[0] - powers[1]).square().mean()
    both = zip((a, b), lengths, powers, strict=True)
    first, second = (part * (raised / length) for part, length, raised in both)
    difference = first - second
    return magnitude, (difference.real.square() + difference.imag.square()).mean()


def si_sdr(reference: Float[Tensor, "b n"], decoded: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Scale-invariant ratio of signal to distortion, in dB (Le Roux et al. 2019)."""
    scale = (reference * decoded).sum(-1, keepdim=True) / (reference.square().sum(-1, keepdim=True) + QUIET)
    target = scale * reference
    ratio = (target.square().sum(-1) + QUIET) / ((decoded - target).square().sum(-1) + QUIET)
    return 10 * torch.log10(ratio)


def pesq(reference: np.ndarray, decoded: np.ndarray) -> float:
    """Wide-band PESQ at 16 kHz, 1.04 … 4.64; NaN where there is no utterance to judge.

    Raises:
        MissingExtra: the package pesq is not installed.
    """
    module = extras.imported("pesq", EXTRA, "PESQ")
    try:
        return float(module.pesq(PESQ_RATE, reference, decoded, "wb"))
    except module.NoUtterancesError:
        return math.nan


def stoi(reference: np.ndarray, decoded: np.ndarray, sample_rate: int) -> float:
    """Short-time objective intelligibility, up to 1.

    Raises:
        MissingExtra: the package pystoi is not installed.
    """
    return float(extras.imported("pystoi", EXTRA, "STOI").stoi(reference, decoded, sample_rate))


def visqol(reference: np.ndarray, decoded: np.ndarray) -> float:
    """ViSQOL in its speech mode at 16 kHz with the lattice mapping, 1 … 5.

    Raises:
        MissingExtra: visqol-python or its extra for the lattice is not installed.
    """
    extras.imported("ai_edge_litert", EXTRA, "ViSQOL")
    module = extras.imported("visqol", EXTRA, "ViSQOL")
    judge = _visqol_judge(module)
    return float(judge.measure_from_arrays(reference, decoded, 16_000).moslqo)


@lru_cache(maxsize=1)
def _visqol_judge(module: Any) -> Any:
    """One set of models for the process."""
    api = module.VisqolApi()
    api.create(mode="speech", use_lattice_model=True)
    return api


def installed(*names: str) -> bool:
    """Whether all of these packages can be imported."""
    try:
        for name in names:
            extras.imported(name, EXTRA, name)
    except InputError:
        return False
    return True
