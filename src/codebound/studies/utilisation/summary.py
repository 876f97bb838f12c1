"""From cells to the long table: each training's figures, and its distance from the baseline of the same seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from codebound.studies.framework import declare as fw
from codebound.studies.utilisation.arms import ARMS, BASELINE, PLAIN, STARTS, Start
from codebound.studies.utilisation.settings import Settings

GAIN, GAIN_PLAIN, GAIN_AT_RATE = "psnr_gain", "psnr_gain_without_revival", "psnr_gain_at_equal_rate"
FIGURES = (  # of a finished training
    fw.Metric("psnr", "PSNR", "dB", better="more", digits=2),
    fw.Metric("usage", "Usage", better="more", digits=1),
    fw.Metric("perplexity", "Perplexity", better="more", digits=0),
    fw.Metric("entropy_bits", "Index entropy", "bits", digits=2),
    fw.Metric("bpp_nominal", "Nominal rate", "bits per pixel", better="less", digits=3),
    fw.Metric("bpp_entropy", "Rate", "bits per pixel", better="less", digits=3),
    fw.Metric("gap_db", "Gap", "dB", better="less", digits=2),
    fw.Metric("gaussian_reference_db", "Above the Gaussian reference", "dB", better="less", digits=2),
    fw.Metric("usage_training", "Usage on training photographs", better="more", digits=1),
)
METRICS = (
    *FIGURES,
    fw.Metric(GAIN, "Above EMA", "dB", better="more", digits=2),
    fw.Metric(GAIN_PLAIN, "Above EMA without revival", "dB", better="more", digits=2),
    fw.Metric(GAIN_AT_RATE, "Above EMA at equal rate", "dB", better="more", digits=2),
    fw.Metric("cell_seconds", "Training", "s", better="less", digits=0),
    fw.Metric("curve_psnr", "PSNR", "dB", better="more"),
    fw.Metric("curve_usage", "Usage", "fraction of the codewords", better="more"),
)
Finals = dict[tuple[str, int, Start], dict[int, Mapping[str, Any]]]  # by arm, K and start, then by seed


@dataclass(frozen=True, eq=False)
class Row:
    """An arm at a codebook size from a start: intervals over its seeds."""

    table: fw.LongTable
    codebook_size: int
    start: Start
    arm: str

    @property
    def levels(self) -> dict[str, Any]:
        return {"arm": self.arm, "codebook_size": self.codebook_size, "start": self.start}

    @property
    def name(self) -> str:
        return f"{ARMS[self.arm].label}, K = {self.codebook_size:,}, {STARTS[self.start]}"

    def of(self, metric: str) -> fw.Interval:
        """Its mean over the seeds with the 95 % interval; of no values where it was not measured."""
        return self.table.interval(metric, **self.levels)

    def above(self, **levels: Any) -> fw.Interval | None:
        """PSNR above that at other levels, in dB, paired by seed; None without a pair."""
        return self.table.difference("psnr", levels, **self.levels)

    def to_json(self) -> dict[str, Any]:
        """As results.json has it."""
        gains = {name: self.of(name) for name in (GAIN, GAIN_PLAIN, GAIN_AT_RATE)}
        return {
            **self.levels,
            "seeds": self.of("psnr").n,
            "figures": {metric.name: self.of(metric.name).to_json() for metric in FIGURES},
            **{name: gain.to_json() if gain.n else None for name, gain in gains.items()},
            "cell_seconds": self.of("cell_seconds").to_json(),
        }


def rows(run: fw.StudyRun[Settings]) -> list[Row]:
    """By size, then start, then in the arms' order."""
    cells = [finished.cell for finished in run.cells.values()]
    keys = {(cell["codebook_size"], cell["start"], cell["arm"]) for cell in cells}
    starts, arms = list(STARTS), list(ARMS)
    ordered = sorted(keys, key=lambda key: (key[0], starts.index(key[1]), arms.index(key[2])))
    return [Row(run.table, *key) for key in ordered]


def records(run: fw.StudyRun[Settings]) -> Iterator[fw.Record]:
    """Final figures and gains of each training, and the points of its curve."""
    finals: Finals = {}
    for finished in run.cells.values():
        arm, size, start, seed = (finished.cell[name] for name in ("arm", "codebook_size", "start", "seed"))
        finals.setdefault((arm, size, start), {})[seed] = finished["final"]

    for finished in run.cells.values():
        arm, size, start, seed = (finished.cell[name] for name in ("arm", "codebook_size", "start", "seed"))
        final, levels = finished["final"], finished.cell.factors
        values = {metric.name: final.get(metric.name) for metric in FIGURES}
        for name, base in ((GAIN, BASELINE), (GAIN_PLAIN, PLAIN)):
            other = finals.get((base, size, start), {}).get(seed)
            values[name] = final["psnr"] - other["psnr"] if other and arm != base else None
        values[GAIN_AT_RATE] = _gains_at_rate(finals, arm, size, start).get(seed)
        yield fw.Record(levels, {**values, "cell_seconds": finished.seconds})
        for point in finished["curve"]:
            values = {"curve_psnr": point["psnr"], "curve_usage": point["usage"]}
            yield fw.Record({**levels, "step": point["step"]}, values)


def _gains_at_rate(finals: Finals, arm: str, size: int, start: Start) -> dict[int, float]:
    """PSNR above that seed's baseline at the same index entropy, read off between the baseline's own sizes.

    Empty for the baseline itself, and where the curve over K does not reach the rate of every seed.
    """
    gains: dict[int, float] = {}
    for seed, final in finals[arm, size, start].items():
        curve = sorted(
            (by_seed[seed]["bpp_entropy"], by_seed[seed]["psnr"])
            for (name, _, begun), by_seed in finals.items()
            if name == BASELINE and begun == "kmeans" and seed in by_seed
        )
        if len(curve) > 1 and curve[0][0] <= final["bpp_entropy"] <= curve[-1][0]:
            gains[seed] = final["psnr"] - float(np.interp(final["bpp_entropy"], *np.array(curve).T))
    return gains if arm != BASELINE and len(gains) == len(finals[arm, size, start]) else {}


def even_usage(codebook_size: int, tokens: int) -> float:
    """Expected usage of a code that is used evenly, on this many tokens: 1 − (1 − 1/K)^N."""
    return -math.expm1(tokens * math.log1p(-1 / codebook_size))
