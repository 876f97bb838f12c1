"""Codecs side by side, over the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from codebound.metrics.rate_distortion import RateCurve, bd_rate
from codebound.reporting.statistics import Interval, mean_interval
from codebound.studies.compression.codecs import OURS


class CodecResult(NamedTuple):
    """One codec, named as in results.json; an interval's `n` is how many pictures it is over."""

    codec: str
    psnr: Interval  # at the rate of the comparison
    ssim: Interval
    our_gain_db: Interval  # ours less this codec's PSNR, on the pictures where both have the rate
    bd_rate_percent: Interval
    our_gain_at_least_db: Interval  # at the sizes of its smallest files
    least_rate: float  # bits per pixel of those
    encode_s: float
    decode_s: float

    def to_json(self) -> dict[str, Any]:
        """Means, and how many pictures they are of."""
        plain = {
            name: (value.mean if value.n else None) if isinstance(value, Interval) else value
            for name, value in self._asdict().items()
        }
        return plain | {"pictures": self.psnr.n, "bd_pictures": self.bd_rate_percent.n}


def compare(pictures: Sequence[Mapping[str, Any]], codecs: Sequence[str], rate: float) -> list[CodecResult]:
    """A result for each codec, ours first; a picture has name, height, width and points."""
    return [_result(pictures, codec, rate) for codec in (OURS, *codecs)]


def _result(pictures: Sequence[Mapping[str, Any]], codec: str, rate: float) -> CodecResult:
    files = [[point for point in picture["points"] if point["codec"] == codec] for picture in pictures]
    psnr, ssim = ([_curve(points, measure) for points in files] for measure in ("psnr", "ssim"))
    least = [min(points, key=lambda point: point["bits_per_pixel"]) for points in files]

    # Our own curve of each picture; nothing is compared with itself.
    ours = [_curve([p for p in picture["points"] if p["codec"] == OURS], "psnr") for picture in pictures]
    pairs = [] if codec == OURS else list(zip(ours, psnr, least, strict=True))
    return CodecResult(
        codec,
        psnr=_interval(curve.at(rate) for curve in psnr),
        ssim=_interval(curve.at(rate) for curve in ssim),
        our_gain_db=_interval(_less(one.at(rate), other.at(rate)) for one, other, _ in pairs),
        bd_rate_percent=_interval(bd_rate(one, other) for one, other, _ in pairs),
        our_gain_at_least_db=_interval(_less(o.at(p["bits_per_pixel"]), p["psnr"]) for o, _, p in pairs),
        least_rate=float(np.mean([point["bits_per_pixel"] for point in least])),
        encode_s=_median(files, "encode_s"),
        decode_s=_median(files, "decode_s"),
    )


def _curve(points: Sequence[Mapping[str, Any]], measure: str) -> RateCurve:
    return RateCurve.of((point["bits_per_pixel"], point[measure]) for point in points)


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _interval(values: Iterable[float | None]) -> Interval:
    return mean_interval(value for value in values if value is not None)


def _median(files: Sequence[Sequence[Mapping[str, Any]]], what: str) -> float:
    """Over the pictures, of the median over the qualities."""
    return float(np.median([np.median([point[what] for point in points]) for points in files]))
