"""Which sounds are real: spectra of several resolutions, judged place by place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.nn.utils.parametrizations import weight_norm

from codebound import arguments

SLOPE = 0.2
POWER = 0.3  # of magnitudes: quiet parts count


class Judgement(NamedTuple):
    """Of each resolution: scores, high for real sound, and the activations before them."""

    scores: list[Tensor]
    features: list[Tensor]


class OneResolution(nn.Module):
    """Convolutions over compressed complex spectra, halving the frequencies (Défossez et al. 2022, §3.4)."""

    window: Tensor

    def __init__(self, size: int, width: int, layers: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("window", torch.hann_window(size) / (size / 2), persistent=False)
        widths = [2, *[width] * layers]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(into, out, (9, 3), stride=(2, 1), padding=(4, 1)))
            for into, out in pairwise(widths)
        )
        self.last = weight_norm(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, x: Float[Tensor, "b n"]) -> tuple[Tensor, list[Tensor]]:
        spectrum = torch.stft(
            x,
            self.size,
            self.size // 4,
            window=self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        length = (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt()
        scale = length.pow(POWER - 1)
        y = torch.stack([spectrum.real * scale, spectrum.imag * scale], dim=1)
        features = []
        for layer in self.layers:
            y = leaky_relu(layer(y), SLOPE)
            features.append(y)
        return self.last(y), features


class SpectralDiscriminator(nn.Module):
    """One judge for each resolution.

    Args:
        sizes: of the windows, in samples.
        width, layers: channels and convolutions of each.

    Raises:
        InputError: an argument out of its range.
    """

    def __init__(self, sizes: Sequence[int] = (1024, 512, 256), *, width: int = 16, layers: int = 4) -> None:
        super().__init__()
        arguments.whole("width", width, most=1024)
        arguments.whole("layers", layers, most=6)
        self.judges = nn.ModuleList(OneResolution(size, width, layers) for size in sizes)

    def forward(self, x: Float[Tensor, "b n"]) -> Judgement:
        """Scores and features of sounds in [−1, 1]."""
        found = [judge(x) for judge in self.judges]
        return Judgement([scores for scores, _ in found], [f for _, features in found for f in features])
