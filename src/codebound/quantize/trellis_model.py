"""What a trellis code takes its axes for, in training: Gaussians, to which it adds an error of a known variance.

Levels have no gradient. What a training forward needs beside them, all differentiable, comes from here: an error that
stands in for that of the levels, what it grows by at a held rate, and the bits of what is received.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


class AxisModel(NamedTuple):
    """A code's account of its axes; see `trellis_design.Design`."""

    step: Float[Tensor, " D"]  # 0 where an axis is dropped
    slope: Float[Tensor, " D"]  # above 0 where its levels are fitted
    variances: Float[Tensor, " D"]
    noise: Float[Tensor, " D"]  # s, of the error before the gain

    def gains(self) -> Float[Tensor, " D"]:
        """Wiener's gain on each axis, 0 where it is dropped."""
        total = (self.variances + self.noise).clamp_min(torch.finfo(torch.float32).tiny)
        return torch.where(self.step > 0, self.variances / total, 0.0)

    def dither(self, y: Float[Tensor, "n D"], generator: torch.Generator | None) -> Float[Tensor, "n D"]:
        """Uniform over [−2Δ, 2Δ), none on axes with fitted levels."""
        uniform = torch.rand(y.shape, generator=generator, device=y.device) * 4 - 2
        return torch.where(self.slope > 0, 0.0, uniform * self.step)

    def dithered_error(
        self,
        y: Float[Tensor, "n D"],
        levels: Int64[Tensor, "n D"],
        dither: Float[Tensor, "n D"],
        generator: torch.Generator | None,
    ) -> Float[Tensor, "n D"]:
        """What the dithered code adds to y: of variance s, and independent of it."""
        gaussian = torch.randn(y.shape, generator=generator, device=y.device) * self.noise.sqrt()
        coded = levels * self.step - dither - y.detach()
        return torch.where(self.slope > 0, gaussian, torch.where(self.step > 0, coded, 0.0))

    def growth(self, y: Float[Tensor, "n D"], valid: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
        """1, with the gradient of what an error grows by at a held rate: the geometric mean of the coded axes' spreads.

        At the rate R of n coded axes the water level is θ = (Π σ_i²)^(1/n)·2^(−2R/n), up to a constant.
        """
        kept = (self.step > 0) & valid.unsqueeze(-1)
        variances = torch.where(kept, y, 0.0).square().sum(0) / valid.sum().clamp_min(1)
        there = variances.detach() > 0
        logs = torch.where(there, torch.where(there, variances, 1.0).log(), 0.0)
        mean = logs.sum() / there.sum().clamp_min(1)
        return (0.5 * (mean - mean.detach())).exp()

    def rate(self, received: Float[Tensor, "n D"], valid: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
        """Bits per vector of y + e under N(0, σ² + s) in cells of 2Δ, what the levels of one parity have each."""
        kept = self.step > 0
        total = torch.where(kept, self.variances + self.noise, 1.0)
        cells = torch.where(kept, 2 * self.step, 1.0)
        bits = 0.5 * (2 * math.pi * total / cells.square()).log2()
        bits = bits + received.square() / (2 * math.log(2) * total)
        bits = torch.where(kept & valid.unsqueeze(-1), bits, 0.0)
        return bits.sum() / valid.sum().clamp_min(1)
