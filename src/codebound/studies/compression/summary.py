"""What the study found: curves per picture, quality at one rate, Bjøntegaard differences where curves overlap."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.interpolate import PchipInterpolator

from codebound import config
from codebound.errors import InputError
from codebound.runs.folder import read_study
from codebound.studies.compression import study
from codebound.studies.compression.codecs import OURS
from codebound.studies.compression.settings import Settings

Measure = Literal["psnr", "ssim"]


@dataclass(frozen=True)
class Curve:
    """One codec on one picture: points of growing rate."""

    codec: str
    points: tuple[dict[str, Any], ...]

    def at(self, rate: float | int, measure: Measure) -> float | None:
        """PSNR or SSIM at a rate in bits per pixel, between its points on the logarithm of the rate; else None."""
        x, y = self._xy(measure)
        if len(x) < 2 or not x[0] <= np.log(rate) <= x[-1]:
            return None
        return float(PchipInterpolator(x, y)(np.log(rate)))

    def smallest(self) -> dict[str, Any]:
        """The smallest file."""
        return min(self.points, key=lambda point: point["bits_per_pixel"])

    def seconds(self, what: Literal["encode_s", "decode_s"]) -> float:
        """Median over the qualities."""
        return float(np.median([point[what] for point in self.points]))

    def _xy(self, measure: Measure) -> tuple[np.ndarray, np.ndarray]:
        found = sorted(
            (np.log(p["bits_per_pixel"]), p[measure]) for p in self.points if p[measure] is not None
        )
        return np.array([x for x, _ in found]), np.array([y for _, y in found])


def bd_rate(ours: Curve, other: Curve) -> float | None:
    """Bjøntegaard's difference in rate, in percent: below 0 we need fewer bits at the same PSNR (VCEG-M33, 2001).

    The mean over the PSNR that both curves reach of log(our rate / theirs), interpolated monotonically. None where
    the ranges overlap by less than 1 dB or a curve isn't increasing.
    """
    (x, y), (u, v) = ours._xy("psnr"), other._xy("psnr")
    if len(x) < 2 or len(u) < 2 or np.any(np.diff(y) <= 0) or np.any(np.diff(v) <= 0):
        return None
    low, high = max(y[0], v[0]), min(y[-1], v[-1])
    if high - low < 1:
        return None
    mine, theirs = (PchipInterpolator(b, a).integrate(low, high) for a, b in ((x, y), (u, v)))
    return 100 * (float(np.exp((mine - theirs) / (high - low))) - 1)


@dataclass(frozen=True)
class Data:
    """A run, finished or not."""

    path: Path
    study: dict[str, Any]
    settings: Settings
    pictures: tuple[dict[str, Any], ...]
    ladder: tuple[dict[str, Any], ...]
    decoder_bytes: int | None

    @property
    def codecs(self) -> tuple[str, ...]:
        """Ours first."""
        return (OURS, *self.settings.codecs)

    def curve(self, picture: dict[str, Any], codec: str) -> Curve:
        """A codec's files of a picture."""
        return Curve(codec, tuple(p for p in picture["points"] if p["codec"] == codec))

    def comparison(self) -> list[dict[str, Any]]:
        """One row per codec: means over the pictures where it has the rate, and how many those are."""
        return [self._row(codec) for codec in self.codecs]

    def _row(self, codec: str) -> dict[str, Any]:
        curves = [self.curve(picture, codec) for picture in self.pictures]
        ours = [self.curve(picture, OURS) for picture in self.pictures]
        rate = self.settings.rate
        psnr, ssim = ([curve.at(rate, m) for curve in curves] for m in ("psnr", "ssim"))
        both = [(a.at(rate, "psnr"), b.at(rate, "psnr")) for a, b in zip(ours, curves, strict=True)]
        gains = [a - b for a, b in both if a is not None and b is not None]
        deltas = [] if codec == OURS else [bd_rate(a, b) for a, b in zip(ours, curves, strict=True)]
        least = [curve.smallest() for curve in curves]
        beside = [(a.at(b["bits_per_pixel"], "psnr"), b["psnr"]) for a, b in zip(ours, least, strict=True)]
        return {
            "codec": codec,
            "pictures": sum(value is not None for value in psnr),
            "psnr": _mean(psnr),
            "ssim": _mean(ssim),
            "our_gain_db": _mean(gains) if codec != OURS else None,
            "bd_rate_percent": _mean(deltas),
            "bd_pictures": sum(delta is not None for delta in deltas),
            "least_rate": float(np.mean([point["bits_per_pixel"] for point in least])),
            "our_gain_at_least_db": _mean([a - b for a, b in beside if a is not None])
            if codec != OURS
            else None,
            "encode_s": float(np.median([curve.seconds("encode_s") for curve in curves])),
            "decode_s": float(np.median([curve.seconds("decode_s") for curve in curves])),
        }


def load(out: Path) -> Data:
    """The cells of a run.

    Raises:
        InputError: not a run of this study, or none of its pictures is finished.
    """
    found = read_study(out)
    if found["study"] != study.STUDY:
        raise InputError(f"{out} holds a run of study {found['study']!r}, not {study.STUDY!r}")
    settings = config.from_yaml(Settings, out / "config.yaml")
    cells = [
        json.loads(p.read_text(encoding="utf-8")) for p in sorted((out / "cells").glob("picture-*.json"))
    ]
    if not cells:
        raise InputError(f"{out} has no finished picture")
    path = out / "cells" / f"{study.LADDER}.json"
    ladder = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return Data(
        out, found, settings, tuple(cells), tuple(ladder.get("rows", ())), ladder.get("decoder_bytes")
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
