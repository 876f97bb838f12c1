"""Intervals over seeds: what a study may say about a number it measured a few times.

A seed redraws everything (source, data, initialisation, order) and is shared by all arms, so that differences
between arms are taken seed by seed. Where seeds split the same rows again they are not independent; `overlap` then
widens the interval (Nadeau & Bengio, "Inference for the generalization error", 2003, section 5): the variance of a
mean of n values is s²·(1/n + held-out rows / training rows) instead of s²/n. 0 is independent seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import scipy

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A centre with its 95 % interval over `n` seeds.

    `kind` names the centre: "mean" (Student t), "ratio" (geometric mean of paired ratios, Student t on the
    logarithms) or "median" (order statistics; used where some seeds never got there and count as infinity).
    `mean` holds the centre whatever its kind. Where no interval can be formed (one seed; a median of fewer
    than 6 seeds) `low` and `high` are nan.
    """

    mean: float
    low: float
    high: float
    n: int
    kind: Literal["mean", "ratio", "median"] = "mean"
    never: int = 0  # seeds that never reached the target (their value is infinite)
    dropped: int = 0  # seeds left out: their value is nan, or a ratio of two that never got there

    @property
    def known(self) -> bool:
        """Whether there are bounds at all."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def below(self, value: float | int) -> bool:
        """The whole interval lies under `value`."""
        return self.known and self.high < value

    def above(self, value: float | int) -> bool:
        """The whole interval lies over `value`."""
        return self.known and self.low > value

    def widened(self, comparisons: int) -> Interval:
        """A mean's interval that holds for `comparisons` of them at once (Bonferroni): for the best of several.

        Raises ValueError if the centre is not a mean.
        """
        if self.kind != "mean":
            raise ValueError(f"widened is for means; this is a {self.kind}")
        if not self.known:
            return self
        usual, wide = scipy.stats.t.ppf(
            [(1 + CONFIDENCE) / 2, 1 - (1 - CONFIDENCE) / 2 / comparisons], self.n - 1
        )
        low, high = (self.mean + (side - self.mean) * wide / usual for side in (self.low, self.high))
        return replace(self, low=float(low), high=float(high))

    def to_json(self) -> dict[str, float | int | str | None]:
        """As a dictionary; what is not finite becomes null (JSON has no infinity)."""
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()
        }


def mean_interval(
    values: Iterable[float | int], floor: float | int = -math.inf, overlap: float | int = 0.0
) -> Interval:
    """Mean with its Student-t interval, m ± t(.975, n-1)·s·√(1/n + overlap), cut at `floor`.

    No mean can be below `floor`. nan is dropped; infinity is refused.
    """
    x, dropped = _clean(values)
    if np.isinf(x).any():
        raise ValueError("mean_interval: infinite values have no mean; use quantity_interval")
    if x.size == 0:
        return Interval(math.nan, math.nan, math.nan, 0, dropped=dropped)
    mean = float(x.mean())
    if x.size == 1:
        return Interval(mean, math.nan, math.nan, 1, dropped=dropped)
    half = float(student_half_width(x, overlap))
    return Interval(mean, max(mean - half, float(floor)), mean + half, int(x.size), dropped=dropped)


def ratio_interval(totals: Iterable[float | int], sizes: Iterable[float | int]) -> Interval:
    """Σ totals / Σ sizes over independent parts of different sizes, with its Student-t interval.

    By the residuals (total − ratio · size) / mean size: Cochran, "Sampling Techniques", 1977, section 2.11.

    Raises ValueError if the two are not equally many, or no part has a size.
    """
    total, size = (np.array(list(values), dtype=float) for values in (totals, sizes))
    if total.shape != size.shape or not size.sum() > 0:
        raise ValueError(
            f"ratio_interval: {len(total)} totals of {len(size)} sizes, their sum {size.sum():g}"
        )
    ratio = total.sum() / size.sum()
    return mean_interval(ratio + (total - ratio * size) / size.mean())


def student_half_width(x: np.ndarray, overlap: float | int = 0.0) -> Any:
    """t(.975, n-1)·s·√(1/n + overlap) over the first axis of `x`, n >= 2."""
    n = len(x)
    return scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * x.std(0, ddof=1) * math.sqrt(1 / n + overlap)


def paired_percent(
    a: Mapping[int, float | int], b: Mapping[int, float | int], overlap: float | int = 0.0
) -> Interval:
    """Mean of 100·(a/b - 1) over the seeds that both have: by how many per cent `a` is larger.

    Seeds in which b is 0 say nothing: they are left out and counted in `dropped`.
    """
    percents = (100 * (a[s] / b[s] - 1) if b[s] != 0 else math.nan for s in _shared(a, b))
    return mean_interval(percents, overlap=overlap)


def paired_ratio(a: Mapping[int, float | int], b: Mapping[int, float | int]) -> Interval:
    """Centre of a/b over the seeds that both have.

    All finite and positive: the geometric mean, Student t on the logarithms. Otherwise (a side never got
    there: a/b is 0 or infinite) the median. Seeds where neither did say nothing: they are left out and counted
    in `dropped`.
    """
    ratios, dropped = _clean(_ratio(a[s], b[s]) for s in _shared(a, b))
    if ratios.size and np.isfinite(ratios).all() and (ratios > 0).all():
        log = mean_interval(np.log(ratios))
        centre, low, high = (math.exp(x) for x in (log.mean, log.low, log.high))
        return Interval(centre, low, high, log.n, "ratio", dropped=dropped)
    return replace(median_interval(ratios), kind="ratio", never=0, dropped=dropped)


def median_interval(values: Iterable[float | int]) -> Interval:
    """Median with its distribution-free interval; infinity is a value like any other.

    [x_(r), x_(n+1-r)] with the largest r for which 1 - 2·P(Bin(n, ½) < r) >= .95; none exists under n = 6.
    """
    x, dropped = _clean(values)
    x.sort()
    n, never = int(x.size), int(np.isposinf(x).sum())
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, "median", 0, dropped)
    low, high = x[(n - 1) // 2], x[n // 2]
    median = float(low if low == high else (low + high) / 2)
    rank = int(scipy.stats.binom.ppf((1 - CONFIDENCE) / 2, n, 0.5))
    while rank > 0 and 2 * scipy.stats.binom.cdf(rank - 1, n, 0.5) > 1 - CONFIDENCE:
        rank -= 1
    if rank == 0:
        return Interval(median, math.nan, math.nan, n, "median", never, dropped)
    return Interval(median, float(x[rank - 1]), float(x[n - rank]), n, "median", never, dropped)


def quantity_interval(
    values: Iterable[float | int], floor: float | int = -math.inf, overlap: float | int = 0.0
) -> Interval:
    """The mean's interval, or the median's where a value is infinite (a target never reached)."""
    x = np.array(list(values), dtype=float)
    return median_interval(x) if np.isinf(x).any() else mean_interval(x, floor, overlap)


def _clean(values: Iterable[float | int]) -> tuple[np.ndarray, int]:
    """The values without nan, and how many were nan."""
    x = np.array(list(values), dtype=float)
    kept = x[~np.isnan(x)]
    return kept, int(x.size - kept.size)


def _shared(a: Mapping[int, float | int], b: Mapping[int, float | int]) -> list[int]:
    return sorted(set(a) & set(b))


def _ratio(a: float | int, b: float | int) -> float:
    if math.isnan(a) or math.isnan(b) or (math.isinf(a) and math.isinf(b)) or (a == 0 and b == 0):
        return math.nan
    return math.inf if b == 0 else a / b
