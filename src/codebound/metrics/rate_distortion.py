"""Curves of quality over rate: read off at a rate, and compared by Bjøntegaard's difference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy


@dataclass(frozen=True)
class RateCurve:
    """Points of one codec, from the lowest rate on: `log_rate` [n] is the natural logarithm, `quality` [n] as PSNR."""

    log_rate: np.ndarray
    quality: np.ndarray

    @classmethod
    def of(cls, points: Iterable[tuple[float, float | None]]) -> RateCurve:
        """From (rate, quality) in any order; points without a quality are left out, of one rate the best one counts."""
        known = dict(sorted((np.log(rate), quality) for rate, quality in points if quality is not None))
        return cls(np.array(list(known)), np.array(list(known.values())))

    def at(self, rate: float | int) -> float | None:
        """The quality at a rate, between its points on the logarithm of the rate; None outside of them."""
        x = self.log_rate
        if len(x) < 2 or not x[0] <= np.log(rate) <= x[-1]:
            return None
        return float(scipy.interpolate.PchipInterpolator(x, self.quality)(np.log(rate)))


def bd_rate(ours: RateCurve, other: RateCurve) -> float | None:
    """Bjøntegaard's difference in rate, in percent: below 0 we need fewer bits at the same PSNR (VCEG-M33, 2001).

    The mean over the PSNR that both curves reach of log(our rate / theirs), interpolated monotonically. None where
    the ranges overlap by less than 1 dB or a curve isn't increasing.
    """
    (x, y), (u, v) = (ours.log_rate, ours.quality), (other.log_rate, other.quality)
    if len(x) < 2 or len(u) < 2 or np.any(np.diff(y) <= 0) or np.any(np.diff(v) <= 0):
        return None
    low, high = max(y[0], v[0]), min(y[-1], v[-1])
    if high - low < 1:
        return None
    mine, theirs = (
        scipy.interpolate.PchipInterpolator(b, a).integrate(low, high) for a, b in ((x, y), (u, v))
    )
    return 100 * (float(np.exp((mine - theirs) / (high - low))) - 1)
