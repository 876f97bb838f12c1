"""From a run to tables: every number with its interval over seeds, and its distance from the limit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE
from rich.table import Table

from codebound.studies.claims import number
from codebound.studies.initialisation.labels import in_order, look, source_name
from codebound.studies.initialisation.rundata import (
    SPLITS,
    WHEN,
    StudyData,
    Values,
    facts,
    load,
    lookup,
    only,
)
from codebound.studies.statistics import Interval, mean_interval, paired_percent, quantity_interval

__all__ = ["Row", "StudyData", "Summary", "facts", "load", "lookup", "rich_table", "summarise", "tables"]

BASELINE = "kmeans"


@dataclass(frozen=True)
class Row:
    """One arm under one optimizer on one source. `metrics` by the names of `StudyData.runs`."""

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
    missing: list[str]
    steps: int
    codebook_size: int
    dim: int
    arms: list[str] = field(default_factory=list)

    @property
    def sources(self) -> list[str]:
        return list(self.limits)

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
        base = only(data.runs, source=source, arm=BASELINE, optimizer=optimizer)
        columns = {name: frame[name].to_numpy(dtype=float) for name in names}
        metrics = {name: _interval(name, x) for name, x in columns.items() if not np.isnan(x).all()}
        versus = {} if arm == BASELINE or base.empty else _versus(frame, base)
        rows.append(Row(source, arm, optimizer, len(frame), metrics, versus))
    limit_names = list(next(iter(data.cells.values()))["limits"])
    limits = {
        s: {n: mean_interval(v.values()) for n in limit_names if (v := data.limit(s, n))}
        for s in data.sources
    }
    first = next(iter(data.cells.values()))
    return Summary(
        rows=rows,
        limits=limits,
        seeds={s: len(data.seeds(s)) for s in data.sources},
        missing=data.missing,
        steps=int(data.curves["step"].to_numpy().max()),
        codebook_size=first["codebook_size"],
        dim=first["dim"],
        arms=in_order(set(data.runs["arm"])),
    )


def _interval(name: str, values: np.ndarray) -> Interval:
    return quantity_interval(values, floor=-math.inf if name.endswith("_db") else 0.0)


def _versus(frame: pd.DataFrame, base: pd.DataFrame) -> dict[str, Interval]:
    def by_seed(table: pd.DataFrame, column: str) -> Values:
        return dict(zip(table["seed"], table[column], strict=True))

    names = [f"{when}_{split}_distortion" for when in WHEN for split in SPLITS]
    return {name: paired_percent(by_seed(frame, name), by_seed(base, name)) for name in names}


def _groups(runs: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    for key, frame in runs.groupby(["source", "arm", "optimizer"], sort=False):
        source, arm, optimizer = key  # pyright: ignore[reportGeneralTypeIssues]
        yield source, arm, optimizer, frame


def tables(summary: Summary, optimizer: str = "adam") -> list[Table]:
    """One table per source."""
    return [rich_table(summary, source, optimizer) for source in summary.sources]


def rich_table(summary: Summary, source: str, optimizer: str = "adam") -> Table:
    """Error, distance from the bound, dead codes and perplexity of each arm, in 80 columns; the best in bold."""
    limits = summary.limits[source]
    shown = [f"{name.replace('_', ' ')} {number(limits[name].mean)}" for name in _LIMITS if name in limits]
    table = Table(
        title=f"{source_name(source)}: error on fresh data, {summary.seeds[source]} seed(s)",
        caption="; ".join(shown) + ". dB: end above Shannon.",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.add_column("init", no_wrap=True)
    for name in ("start", "end", "dB", "end vs k-means", "dead", "perplexity"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = summary.select(source, optimizer)
    best = min((r.metrics["final_fresh_distortion"].mean for r in rows), default=0.0)
    for row in rows:
        leading = row.metrics["final_fresh_distortion"].mean == best
        table.add_row(*_cells(row), style="bold" if leading else "")
    return table


_LIMITS = ("shannon", "converse", "best_known", "gaussian_reference")


def percent_text(interval: Interval | None) -> str:
    """+1.2 ± 0.3 %"""
    if interval is None:
        return "–"
    digits = 1 if abs(interval.mean) < 100 else 0
    half = f" ± {(interval.high - interval.low) / 2:.{digits}f}" if interval.known else ""
    return f"{interval.mean:+.{digits}f}{half} %"


def change_text(row: Row, name: str, digits: int = 0) -> str:
    """start → end of a measure."""
    start, end = (row.metrics[f"{when}_{name}"].mean for when in ("initial", "final"))
    return f"{start:.{digits}f} → {end:.{digits}f}"


def _cells(row: Row) -> list[str]:
    gap = row.metrics.get("final_gap_db")
    return [
        look(row.arm).name,
        number(row.metrics["initial_fresh_distortion"].mean),
        number(row.metrics["final_fresh_distortion"].mean),
        "–" if gap is None else f"{gap.mean:.2f}",
        percent_text(row.versus_baseline.get("final_fresh_distortion")),
        change_text(row, "fresh_dead"),
        change_text(row, "fresh_perplexity"),
    ]
