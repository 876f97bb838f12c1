"""From a run to tables: every number with its interval over seeds, and its distance from the limit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from codebound.reporting.statistics import Interval, mean_interval, paired_percent, quantity_interval
from codebound.studies.initialisation.labels import in_order
from codebound.studies.initialisation.rundata import SPLITS, WHEN, StudyData, Values, only

BASELINE = "kmeans"


@dataclass(frozen=True)
class Row:
    """One arm under one optimizer on one source. `metrics` by the names of `StudyData.runs`.

    Where the bound is estimated, the interval of a `gap_db` covers the estimate's uncertainty as well as the seeds.
    """

    source: str
    arm: str
    optimizer: str
    seeds: int
    metrics: dict[str, Interval]
    versus_baseline: dict[str, Interval]  # per cent, paired by seed, same optimizer; empty for the baseline

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "arm": self.arm,
            "optimizer": self.optimizer,
            "seeds": self.seeds,
            "metrics": {k: v.to_json() for k, v in self.metrics.items()},
            f"percent_versus_{BASELINE}": {k: v.to_json() for k, v in self.versus_baseline.items()},
        }


@dataclass(frozen=True)
class Summary:
    """All rows of a study, its limits per source, and what is missing."""

    rows: list[Row]
    limits: dict[str, dict[str, Interval]]
    seeds: dict[str, int]
    held_out: dict[
        str, int
    ]  # fresh vectors that the usage of the codebooks was counted on, the fewest of any seed
    missing: list[str]
    steps: int
    codebook_size: int
    dim: int
    arms: list[str] = field(default_factory=list)

    @property
    def sources(self) -> list[str]:
        return list(self.limits)

    def estimated(self, source: str) -> bool:
        """Whether the source's distribution is unknown, so that its bound is an estimate with an interval."""
        return "shannon_low" in self.limits[source]

    def select(self, source: str, optimizer: str = "adam") -> list[Row]:
        """The rows of a source under one optimizer, in the order of every table."""
        rows = {r.arm: r for r in self.rows if r.source == source and r.optimizer == optimizer}
        return [rows[arm] for arm in in_order(set(rows))]

    def row(self, source: str, arm: str, optimizer: str = "adam") -> Row | None:
        """One row, or None where it was not run."""
        return next((r for r in self.select(source, optimizer) if r.arm == arm), None)

    def optimizers(self, source: str) -> list[str]:
        """Optimizers that were run on a source."""
        return list(dict.fromkeys(r.optimizer for r in self.rows if r.source == source))

    def to_dict(self) -> dict[str, Any]:
        """As plain types; what is not finite is null."""
        return {
            "complete": not self.missing,
            "missing_cells": self.missing,
            "dim": self.dim,
            "codebook_size": self.codebook_size,
            "steps": self.steps,
            "seeds": self.seeds,
            "held_out": self.held_out,
            "limits": {s: {k: v.to_json() for k, v in by.items()} for s, by in self.limits.items()},
            "rows": [row.to_json() for row in self.rows],
        }

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


def summarise(data: StudyData) -> Summary:
    """Intervals over seeds for every run of a study."""
    names = [c for c in data.runs.columns if c not in ("source", "seed", "arm", "optimizer")]
    rows = []
    for source, arm, optimizer, frame in _groups(data.runs):
        overlap = data.overlap(source)
        base = only(data.runs, source=source, arm=BASELINE, optimizer=optimizer)
        columns = {name: frame[name].to_numpy(dtype=float) for name in names}
        metrics = {n: _interval(n, x, overlap) for n, x in columns.items() if not np.isnan(x).all()}
        versus = {} if arm == BASELINE or base.empty else _versus(frame, base, overlap)
        rows.append(Row(source, arm, optimizer, len(frame), metrics | _estimated_gaps(metrics), versus))
    limit_names = list(next(iter(data.cells.values()))["limits"])
    limits = {
        s: {
            n: mean_interval(v.values(), overlap=data.overlap(s))
            for n in limit_names
            if (v := data.limit(s, n))
        }
        for s in data.sources
    }
    first = next(iter(data.cells.values()))
    return Summary(
        rows=rows,
        limits=limits,
        seeds={s: len(data.seeds(s)) for s in data.sources},
        held_out={
            s: min(cell["fresh_samples"] for (source, _), cell in data.cells.items() if source == s)
            for s in data.sources
        },
        missing=data.missing,
        steps=int(data.curves["step"].to_numpy().max()),
        codebook_size=first["codebook_size"],
        dim=first["dim"],
        arms=in_order(set(data.runs["arm"])),
    )


def _interval(name: str, values: np.ndarray, overlap: float) -> Interval:
    signed = "_db" in name or name.endswith("_percent")
    return quantity_interval(values, -math.inf if signed else 0.0, overlap)


def _estimated_gaps(metrics: dict[str, Interval]) -> dict[str, Interval]:
    """The gaps to an estimated bound: from the low end of the nearest to the high end of the farthest it may be."""
    found = {}
    for when in WHEN:
        name = f"{when}_gap_db"
        if name not in metrics or f"{name}_high" not in metrics:
            continue
        near, far = metrics[f"{name}_low"], metrics[f"{name}_high"]
        low = near.low if near.known else near.mean
        high = far.high if far.known else far.mean
        found[name] = replace(metrics[name], low=low, high=high)
    return found


def _versus(frame: pd.DataFrame, base: pd.DataFrame, overlap: float) -> dict[str, Interval]:
    def by_seed(table: pd.DataFrame, column: str) -> Values:
        return dict(zip(table["seed"], table[column], strict=True))

    names = [f"{when}_{split}_distortion" for when in WHEN for split in SPLITS]
    return {name: paired_percent(by_seed(frame, name), by_seed(base, name), overlap) for name in names}


def _groups(runs: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    for key, frame in runs.groupby(["source", "arm", "optimizer"], sort=False):
        source, arm, optimizer = key  # pyright: ignore[reportGeneralTypeIssues]
        yield source, arm, optimizer, frame
