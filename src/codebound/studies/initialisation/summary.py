"""From a run to rows: every number with its interval over seeds, and its distance from the limit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

from codebound.reporting.long_table import LongTable, Metric, Record
from codebound.reporting.statistics import Interval, mean_interval
from codebound.studies.framework.results import FinishedCell, StudyRun
from codebound.studies.initialisation import curves
from codebound.studies.initialisation.curves import PERCENTS, REFERENCES, SPLITS
from codebound.studies.initialisation.labels import in_order
from codebound.studies.initialisation.settings import Settings
from codebound.theory.gaussian import gap_db

Better = Literal["more", "less"] | None
BASELINE = "kmeans"
WHEN = ("initial", "final")
RESPLIT = 0.2 / 0.8  # held-out rows over training rows where every seed splits the same rows again
MOVES = "the curve still moves when the run stops, so its own end is not where it converges to"

# What a cell measures on a split, and of a codebook; a run's distances from the limits: what is better, if anything.
_OF_A_SPLIT: dict[str, Better] = dict.fromkeys(
    ("distortion", "distortion_per_dim", "reconstruction", "dead"), "less"
)
_OF_A_SPLIT |= dict.fromkeys(("perplexity", "entropy_bits"), "more")
_OF_A_SPLIT |= dict.fromkeys(("usage_min", "usage_max", "usage_std"))
_OF_A_CODEBOOK = ("norm_mean", "norm_std", "pairwise_distance")
_OF_A_BOUND = ("gap_db", "gap_db_low", "gap_db_high", "gaussian_reference_db")


def _metrics() -> Iterator[Metric]:
    def metric(name: str, unit: str, better: Better, floor: float = 0.0) -> Metric:
        absent = MOVES if name.endswith("_own") else ""
        return Metric(name, name.replace("_", " "), unit, better, floor=floor, absent=absent)

    for when, split in product(WHEN, SPLITS):
        for name, better in _OF_A_SPLIT.items():
            unit = "bits" if "bits" in name else "squared error" if name.startswith(("dis", "rec")) else ""
            yield metric(f"{when}_{split}_{name}", unit, better)
    for when in WHEN:
        yield from (metric(f"{when}_{name}", "", None) for name in _OF_A_CODEBOOK)
        yield from (metric(f"{when}_{name}", "dB", "less", -math.inf) for name in _OF_A_BOUND)
    yield metric("fresh_change_percent", "%", "less", -math.inf)
    yield metric("codeword_variance", "", None)
    for split, percent, reference in product(SPLITS, PERCENTS, REFERENCES):
        yield metric(f"steps_{split}_{percent}pct_{reference}", "steps", "less")


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
