"""A network on short-time spectra that improves a decoded sound: gains and additions, nothing at the start."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from codebound import arguments
from codebound.errors import InputError

FLOOR = 1e-5  # of magnitudes, before their logarithm: −100 dB of full scale over the window's sum
LOUDER = 2.0  # the largest gain, as a power of e


class Block(nn.Module):
    """A depthwise convolution over time and two matrices over channels, added (ConvNeXt: Liu et al. 2022; Vocos:
    Siuzdak 2023)."""

    def __init__(self, width: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.over_time = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
        moved = self.over_time(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.narrow(functional.gelu(self.wide(self.norm(moved))))


class SpectralDecoder(nn.Module):
    """Samples and the latents that they were decoded from to better samples.

    ```
    x [b n] ──STFT──▶ S [b t f] ──log |S|, z──▶ blocks ──▶ gain, re, im ──▶ S · e^gain + (re + i·im) ──▶ inverse STFT
    ```

    The last layer is zero at the start, so that training begins from the samples as they are.

    Args:
        hop: samples between latents; windows are twice as long and overlap by three quarters.
        dim: of a latent.
        width, hidden, blocks, kernel: of the network.

    Raises:
        InputError: an argument out of its range.
    """

    window: Tensor

    def __init__(
        self, hop: int, dim: int, *, width: int = 160, hidden: int = 320, blocks: int = 5, kernel: int = 7
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("hidden", hidden), ("blocks", blocks)):
            arguments.whole(name, value, most=4096)
        if arguments.whole("kernel", kernel, most=63) % 2 == 0:
            raise InputError(f"kernel is {kernel}; odd numbers are accepted: its frame stands in the middle")
        self.size, self.step = 2 * hop, hop // 2
        bins = hop + 1
        self.register_buffer("window", torch.hann_window(self.size), persistent=False)
        self.into = nn.Linear(bins + dim, width)
        self.blocks = nn.Sequential(*(Block(width, hidden, kernel) for _ in range(blocks)))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * bins)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        nn.init.trunc_normal_(self.into.weight, std=0.02)

    def forward(self, x: Float[Tensor, "b n"], z: Float[Tensor, "b l d"]) -> Float[Tensor, "b n"]:
        """Samples [−1, 1] of whole hops, n = (l − 1) · hop, and latents of size 1, more or less."""
        spectrum = torch.stft(
            x, self.size, self.step, window=self.window, center=True, pad_mode="constant", return_complex=True
        ).transpose(1, 2)
        level = torch.log(spectrum.abs() + FLOOR)

        # A spectrum lies on each latent's middle and one between two: there the mean of both.
        between = (z[:, 1:] + z[:, :-1]) / 2
        both = torch.stack([z[:, :-1], between], dim=2).flatten(1, 2)
        both = torch.cat([both, z[:, -1:]], dim=1)
        hidden = self.blocks(self.into(torch.cat([level / 4, both], dim=-1)))
        gain, real, imaginary = self.out(self.norm(hidden)).chunk(3, dim=-1)

        # Each value of the spectrum times a gain in e^−2 … e^2, and a complex number added: that fills what is empty.
        better = spectrum * torch.exp(LOUDER * torch.tanh(gain)) + torch.complex(real, imaginary)
        return torch.istft(
            better.transpose(1, 2), self.size, self.step, window=self.window, center=True, length=x.shape[1]
        )
