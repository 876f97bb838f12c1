"""Means of float64 vectors that are large beside their spread: a code sees float32, and a file has 33 bits for a mean.

A number near 1e9 is a multiple of 64 in float32. Such means are taken off before a code sees the vectors; what a file
can't hold either is refused.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from codebound.coding.errors import CodecError
from codebound.quantize.bit_trellis import BitTrellis
from codebound.quantize.trellis import Trellis

MEAN_BITS = 33  # of a mean in a file
LARGE = 1e-3  # of the variance that float32's rounding of a mean may be
CONSTANT = 2.0**-40  # of a mean: a component that varies by less is taken for constant
PART = 1 << 16  # vectors that are looked at


def large_means(rows: Float[Tensor, "n D"]) -> Float[Tensor, " D"] | None:
    """The means that float32 rounds by a part of the spread, 0 for other components; None where there are none."""
    if rows.dtype != torch.float64 or len(rows) < 2:
        return None
    mean = rows.mean(0)
    large = _rounded(mean, rows.var(0, correction=0), LARGE)
    return torch.where(large, mean, 0.0) if bool(large.any()) else None


def _rounded(mean: Float[Tensor, " D"], variances: Float[Tensor, " D"], part: float) -> Bool[Tensor, " D"]:
    """Which components vary by less than float32's rounding of their means, or by not much more; not constant ones."""
    varies = variances > (mean * CONSTANT).square()
    return varies & (_lost(mean) > part * variances)


def _lost(mean: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
    """Mean squared error by float32: what is uniform within half a spacing has a third of its square."""
    return (mean * 2.0**-24).square() / 3


def check_mean(
    rows: Float[Tensor, "n D"],
    quantizer: Trellis | BitTrellis,
    power: int,
    centre: Float[Tensor, " D"] | None,
) -> None:
    """CodecError where float64 rows lose more by the rounding of their means than by the code."""
    if rows.dtype != torch.float64 or len(rows) < 2:
        return
    some = rows[:: -(-len(rows) // PART)]
    mean, variances = some.mean(0), some.var(0, correction=0)
    lost, where = _lost(mean), "a code computes in float32, which rounds"
    if centre is not None:
        # A file's numbers: those of the mean, and of the levels where there are no axes.
        mean = mean + centre
        unit = 2.0 ** (math.ceil(math.log2(float(mean.abs().max()))) - MEAN_BITS)
        lost, where = torch.full_like(mean, unit**2 / 6), f"a file has {MEAN_BITS} bits for means, and rounds"
    if isinstance(quantizer, Trellis):
        error = float(torch.where(quantizer.step > 0, quantizer.noise, quantizer.variances).double().sum())
    else:
        error = float(quantizer.scale.double().square().sum()) * 4.0**-quantizer.bits
    spread = float(variances.sum())
    worst = _rounded(mean, variances, 1.0) & (lost > variances)
    if spread > 0 and (float(lost.sum()) > min(error, spread) or bool(worst.any())):
        at = int(torch.where(worst, mean.abs(), 0.0).argmax() if bool(worst.any()) else mean.abs().argmax())
        own = float(variances[at]) if bool(worst.any()) else spread
        large, width = (math.ldexp(x, power) for x in (float(mean[at].abs()), math.sqrt(own)))
        raise CodecError(
            f"z has a mean of up to {large:.3g} and a spread of {width:.3g}: "
            f"{where} such a mean by more than the error; subtract the mean first"
        )
