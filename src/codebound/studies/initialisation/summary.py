"""From a run to rows: every number with its interval over seeds, and its distance from the limit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from codebound.reporting.long_table import LongTable, Metric, Record
from codebound.reporting.statistics import Interval, mean_interval
from codebound.studies.framework.results import FinishedCell, StudyRun
from codebound.studies.initialisation import curves
from codebound.studies.initialisation.curves import PERCENTS, REFERENCES, SPLITS
from codebound.studies.initialisation.labels import in_order
from codebound.studies.initialisation.settings import Settings
from codebound.theory.gaussian import gap_db

BASELINE = "kmeans"
WHEN = ("initial", "final")
RESPLIT = 0.2 / 0.8  # held-out rows over training rows where every seed splits the same rows again
MOVES = "the curve still moves when the run stops, so its own end is not where it converges to"

_OF_A_SPLIT: tuple[tuple[str, str, str, Literal["more", "less"] | None], ...] = (
    ("distortion", "error", "squared error per vector", "less"),
    ("distortion_per_dim", "error per dimension", "squared error", "less"),
    ("reconstruction", "reconstruction loss", "squared error per vector", "less"),
    ("perplexity", "perplexity", "codewords", "more"),
    ("entropy_bits", "entropy of the indices", "bits", "more"),
    ("usage_min", "share of the least used codeword", "", None),
    ("usage_max", "share of the most used codeword", "", None),
    ("usage_std", "spread of the shares", "", None),
    ("dead", "dead codes", "codewords", "less"),
)
_OF_A_CODEBOOK = {"norm_mean": "mean norm", "norm_std": "spread of norms", "pairwise_distance": "distance"}
_OF_A_BOUND = {
    "gap_db": "above the bound",
    "gap_db_low": "above the largest bound that the estimate allows",
    "gap_db_high": "above the smallest bound that the estimate allows",
    "gaussian_reference_db": "to the Gaussian reference",
}


def _metrics() -> Iterator[Metric]:
    for when in WHEN:
        for split in SPLITS:
            for name, label, unit, better in _OF_A_SPLIT:
                yield Metric(f"{when}_{split}_{name}", f"{label}, {split}, {when}", unit, better, floor=0)
        for name, label in _OF_A_CODEBOOK.items():
            yield Metric(f"{when}_{name}", f"{label} of codewords, {when}", floor=0)
        for name, label in _OF_A_BOUND.items():
            yield Metric(f"{when}_{name}", f"{label}, {when}", "dB", "less")
    yield Metric("fresh_change_percent", "error gained in training", "%", "less")
    yield Metric("codeword_variance", "variance of the first codewords", floor=0)
    for split in SPLITS:
        for percent in PERCENTS:
            for reference in REFERENCES:
                yield Metric(
                    f"steps_{split}_{percent}pct_{reference}", f"steps to {percent} % of {reference}, {split}", "steps",
                    "less", floor=0, absent=MOVES if reference == "own" else "",
                )  # fmt: skip


METRICS = tuple(_metrics())


def records(run: StudyRun[Settings]) -> Iterator[Record]:
    """A row of the long table for each codebook that was trained."""
    for cell in run.cells.values():
        steps = curves.arrivals(curves.read(run.folder, cell))
        for trained in cell["runs"]:
            names = {"arm": trained["arm"], "optimizer": trained["optimizer"]}
            measured = {f"{when}_{name}": value for when in WHEN for name, value in trained[when].items()}
            start, end = (trained[when]["fresh_distortion"] for when in WHEN)
            yield Record(
                {"source": cell.cell["source"], **names, "seed": cell.cell["seed"]},
                {
                    **measured,
                    **_gaps(trained, cell["limits"]),
                    "fresh_change_percent": 100 * (end / start - 1) if start > 0 else math.nan,
                    "codeword_variance": cell["codeword_variance"].get(trained["arm"], math.nan),
                    **steps[trained["arm"], trained["optimizer"]],
                },
            )


@dataclass(frozen=True)
class Row:
    """One arm under one optimizer on one source; `metrics` by the names of the long table.

    Where the bound is estimated, the interval of a `gap_db` covers the estimate's uncertainty as well as the seeds.
    """

    source: str
    arm: str
    optimizer: str
    seeds: int
    metrics: dict[str, Interval]
    versus_baseline: dict[str, Interval]  # per cent, paired by seed, same optimizer; empty for the baseline

    def to_json(self) -> dict[str, Any]:
        """As in results.json."""
        return {
            "source": self.source,
            "arm": self.arm,
            "optimizer": self.optimizer,
            "seeds": self.seeds,
            "metrics": {name: value.to_json() for name, value in self.metrics.items()},
            f"percent_versus_{BASELINE}": {k: v.to_json() for k, v in self.versus_baseline.items()},
        }


@dataclass(frozen=True)
class Summary:
    """All rows of a run, and the limits of its sources."""

    settings: Settings
    rows: list[Row]
    limits: dict[str, dict[str, Interval]]  # by source
    seeds: dict[str, int]
    held_out: dict[str, int]  # vectors that usage was counted on, the fewest of any seed
    data_dim: int | None  # of the user's vectors as they are given

    @property
    def sources(self) -> list[str]:
        """Those with a finished cell."""
        return list(self.limits)

    @property
    def arms(self) -> list[str]:
        """Those that ran, in the order of every table."""
        return in_order({row.arm for row in self.rows})

    def estimated(self, source: str) -> bool:
        """Whether the source's distribution is unknown, so that its bound is an estimate with an interval."""
        return "shannon_low" in self.limits[source]

    def reference(self, source: str) -> str:
        """The distance to show first: to the bound, or where that is estimated to the Gaussian of equal covariance."""
        return "gaussian_reference_db" if self.estimated(source) else "gap_db"

    def select(self, source: str, optimizer: str = "adam") -> list[Row]:
        """The rows of a source under one optimizer, in the order of every table."""
        rows = {r.arm: r for r in self.rows if r.source == source and r.optimizer == optimizer}
        return [rows[arm] for arm in in_order(set(rows))]

    def row(self, source: str, arm: str, optimizer: str = "adam") -> Row | None:
        """One row, or None where it was not run."""
        return next((r for r in self.select(source, optimizer) if r.arm == arm), None)

    def to_json(self) -> dict[str, Any]:
        """The study's keys of results.json."""
        return {
            "dim": self.settings.dim,
            "codebook_size": self.settings.codebook_size,
            "steps": self.settings.steps,
            "seeds": self.seeds,
            "held_out": self.held_out,
            "limits": {s: {k: v.to_json() for k, v in by.items()} for s, by in self.limits.items()},
            "rows": [row.to_json() for row in self.rows],
        }


def overlap(source: str) -> float:
    """How far the seeds of a source are from independent (`statistics`): 0, but for rows split again."""
    return RESPLIT if source == "data" else 0.0


def summarise(run: StudyRun[Settings]) -> Summary:
    """Intervals over seeds for every run of a study."""
    cells = {source: run.where(source=source) for source in run.settings.sources}
    cells = {source: finished for source, finished in cells.items() if finished}
    rows = []
    for source in cells:
        own = tuple(record for record in run.table.records if record.levels["source"] == source)
        rows += _rows(source, LongTable(own, METRICS, overlap=overlap(source)))
    return Summary(
        run.settings,
        rows,
        limits={source: _limits(source, finished) for source, finished in cells.items()},
        seeds={source: len(finished) for source, finished in cells.items()},
        held_out={source: min(cell["fresh_samples"] for cell in c) for source, c in cells.items()},
        data_dim=next((cell.get("data_dim") for cell in cells.get("data", ())), None),
    )


def _rows(source: str, table: LongTable) -> Iterator[Row]:
    runs = dict.fromkeys((record.levels["arm"], record.levels["optimizer"]) for record in table.records)
    for arm, optimizer in runs:
        levels = {"arm": arm, "optimizer": optimizer}
        intervals = {metric.name: table.interval(metric.name, **levels) for metric in METRICS}
        metrics = {name: interval for name, interval in intervals.items() if interval.n}
        seeds = len(table.values("final_fresh_distortion", **levels))
        versus = {} if arm == BASELINE else _versus(table, levels)
        yield Row(source, str(arm), str(optimizer), seeds, metrics | _estimated_gaps(metrics), versus)


def _versus(table: LongTable, levels: dict[str, Any]) -> dict[str, Interval]:
    names = [f"{when}_{split}_distortion" for when in WHEN for split in SPLITS]
    changes = {name: table.percent(name, {"arm": BASELINE}, **levels) for name in names}
    return {name: change for name, change in changes.items() if change is not None}


def _limits(source: str, cells: list[FinishedCell]) -> dict[str, Interval]:
    """Each limit that is defined, over the seeds."""
    values = {name: [cell["limits"].get(name) for cell in cells] for name in cells[0]["limits"]}
    known = {name: [value for value in each if value is not None] for name, each in values.items()}
    return {name: mean_interval(each, overlap=overlap(source)) for name, each in known.items() if each}


def _estimated_gaps(metrics: dict[str, Interval]) -> dict[str, Interval]:
    """The gaps to an estimated bound: from the low end of the nearest to the high end of the farthest it may be."""
    gaps = {}
    for when in WHEN:
        name = f"{when}_gap_db"
        if name in metrics and f"{name}_high" in metrics:
            near, far = metrics[f"{name}_low"], metrics[f"{name}_high"]
            low = near.low if near.known else near.mean
            high = far.high if far.known else far.mean
            gaps[name] = replace(metrics[name], low=low, high=high)
    return gaps


def _gaps(run: dict[str, Any], limits: dict[str, Any]) -> dict[str, float]:
    """Decibels to the bound and to the Gaussian reference, on fresh data.

    Where the bound is estimated, also to the ends of its interval: `gap_db_low` to the largest bound the estimate
    allows, `gap_db_high` to the smallest (infinite where that is zero).
    """
    names = {"gap_db": "shannon", "gaussian_reference_db": "gaussian_reference"}
    if limits.get("shannon_low") is not None:
        names |= {"gap_db_low": "shannon_high", "gap_db_high": "shannon_low"}
    return {
        f"{when}_{name}": _db(run[when]["fresh_distortion"], limits[key])
        for name, key in names.items()
        for when in WHEN
    }


def _db(value: float, limit: float | None) -> float:
    if limit is None or value <= 0:
        return math.nan
    return gap_db(value, limit) if limit > 0 else math.inf
