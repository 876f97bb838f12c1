"""Which sounds are real: spectra of several resolutions and samples of several periods, judged place by place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad
from torch.nn.utils.parametrizations import weight_norm

from codebound import arguments

SLOPE = 0.2
POWER = 0.3  # of magnitudes: quiet parts count


class Judgement(NamedTuple):
    """Of each judge: scores, high for real sound, and the activations before them."""

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


class OnePeriod(nn.Module):
    """Convolutions over every so many-th sample, a third as many in each layer (HiFi-GAN: Kong et al. 2020, §2.3)."""

    def __init__(self, period: int, width: int, layers: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, *[width * min(2**layer, 4) for layer in range(layers)]]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(into, out, (5, 1), stride=(3, 1), padding=(2, 0)))
            for into, out in pairwise(widths)
        )
        self.last = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, x: Float[Tensor, "b n"]) -> tuple[Tensor, list[Tensor]]:
        # Rows of one period each; silence fills the last one.
        filled = pad(x, (0, -x.shape[1] % self.period))
        y = filled.view(len(x), 1, -1, self.period)
        features = []
        for layer in self.layers:
            y = leaky_relu(layer(y), SLOPE)
            features.append(y)
        return self.last(y), features


class SoundDiscriminator(nn.Module):
    """Several judges of one sound."""

    judges: nn.ModuleList

    def forward(self, x: Float[Tensor, "b n"]) -> Judgement:
        """Scores and features of sounds in [−1, 1]."""
        found = [judge(x) for judge in self.judges]
        return Judgement([scores for scores, _ in found], [f for _, features in found for f in features])


class SpectralDiscriminator(SoundDiscriminator):
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


class PeriodDiscriminator(SoundDiscriminator):
    """One judge for each period: they see what spectra of long windows smear, the pulses of a voice.

    Args:
        periods: in samples, without a common factor, so that the judges see different ones.
        width, layers: channels of the first convolution (up to four times as many later), and how many there are.

    Raises:
        InputError: an argument out of its range.
    """

    def __init__(self, periods: Sequence[int] = (2, 3, 5, 7, 11), *, width: int = 8, layers: int = 4) -> None:
        super().__init__()
        arguments.whole("width", width, most=1024)
        arguments.whole("layers", layers, most=6)
        for period in periods:
            arguments.whole("periods", period, most=1024)
        self.judges = nn.ModuleList(OnePeriod(period, width, layers) for period in periods)


class JoinedDiscriminator(SoundDiscriminator):
    """The judges of several discriminators together."""

    def __init__(self, parts: Sequence[SoundDiscriminator]) -> None:
        super().__init__()
        self.judges = nn.ModuleList(judge for part in parts for judge in part.judges)
