"""A run as numbers: every one with its interval over seeds, and its distance from the limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from codebound.reporting.claims import Level
from codebound.studies.estimators.arms import BASELINE, EXACT_BETA
from codebound.studies.estimators.labels import PROTOCOLS, Line, lines
from codebound.studies.estimators.networks import NETWORK_ESTIMATORS
from codebound.studies.estimators.records import LIMITS, REFERENCES, RUN_METRICS
from codebound.studies.estimators.settings import Settings, SourceName
from codebound.studies.framework import declare as fw

NEGLIGIBLE = 0.25  # per cent: a difference whose whole interval is smaller is called level
RESTARTS = (1, 2, 5, 10, 20)
Percents = Mapping[str, Mapping[str, fw.Interval]]
"""A change of the error in per cent, by source and protocol."""

LLOYD: Mapping[str, Level] = {"estimator": BASELINE, "protocol": "lloyd", "beta": None}


@dataclass(frozen=True)
class Row:
    """A line of a source's ranking, or of its networks; `versus`: beside the baseline's error in per cent, paired."""

    line: Line
    metrics: dict[str, fw.Interval]
    versus: fw.Interval | None

    def to_json(self, baseline: str) -> dict[str, Any]:
        """`baseline` is what `versus` is against."""
        return {
            "estimator": self.line.estimator,
            "protocol": self.line.protocol,
            "beta": self.line.beta,
            "metrics": _json(self.metrics),
            f"percent_versus_{baseline}": self.versus.to_json() if self.versus else None,
        }


@dataclass(frozen=True)
class SourceResult:
    """A source: its limits and references, the ranking, what restarts are worth, the runs under an MLP."""

    source: SourceName
    codebook_size: int
    sizes: tuple[int, ...]
    seeds: int
    limits: dict[str, fw.Interval]
    rows: list[Row]
    restarts: dict[int, fw.Interval]  # per cent above the best of all: expected for the best of so many
    spread: fw.Interval  # per cent, worst above best restart
    networks: list[Row]

    @property
    def at(self) -> dict[str, Level]:
        """The levels of the comparison."""
        return {"source": self.source, "codebook_size": self.codebook_size}

    @property
    def bound(self) -> str:
        """What 0 dB is: tight for a Gaussian, a lower bound elsewhere, estimated for real data."""
        if "restricted" in self.limits:
            return "Shannon bound"
        return f"{'estimated ' if 'shannon_low' in self.limits else ''}Shannon lower bound"

    def row(self, estimator: str, protocol: str, beta: float | None) -> Row | None:
        """One line of the ranking, or None where it was not run."""
        return next((row for row in self.rows if row.line[:3] == (estimator, protocol, beta)), None)

    def to_json(self) -> dict[str, Any]:
        """As in results.json."""
        return {
            "source": self.source,
            "codebook_size": self.codebook_size,
            "seeds": self.seeds,
            "limits": _json(self.limits),
            "rows": [row.to_json("best_lloyd") for row in self.rows],
            "restarts_percent_above_best": _json({str(count): x for count, x in self.restarts.items()}),
            "restart_spread_percent": self.spread.to_json(),
            "mlp": [row.to_json("straight_through") for row in self.networks],
        }


def summarise(run: fw.StudyRun[Settings]) -> list[SourceResult]:
    """Every source that has a finished comparison, in the order of the settings."""
    return [
        _source(run, source)
        for source in run.settings.sources
        if run.where(experiment="linear", source=source)
    ]


def _source(run: fw.StudyRun[Settings], source: SourceName) -> SourceResult:
    table, sizes = run.table, run.settings.sizes(source)
    at: dict[str, Level] = {"source": source, "codebook_size": sizes[0]}
    finished = run.where(experiment="linear", source=source)
    most = len(finished[0]["sizes"][0]["restarts"]["train"])
    chosen = sorted({count for count in RESTARTS if count <= most} | {most})
    return SourceResult(
        source,
        sizes[0],
        sizes,
        len(finished),
        limits={n: table.interval(n, **at) for n in (*LIMITS, *REFERENCES) if table.values(n, **at)},
        rows=[row for line in lines(run.settings) if (row := _row(table, at, line, LLOYD)).metrics],
        restarts={n: table.interval("restart_percent", **at, restarts=n) for n in chosen},
        spread=table.interval("restart_spread_percent", **at),
        networks=_networks(run, at),
    )


def _row(table: fw.LongTable, at: Mapping[str, Level], line: Line, baseline: Mapping[str, Level]) -> Row:
    levels = {**at, "estimator": line.estimator, "protocol": line.protocol, "beta": line.beta}
    names = [metric.name for metric in RUN_METRICS]
    metrics = {name: table.interval(name, **levels) for name in names if table.values(name, **levels)}
    itself = line.estimator == baseline["estimator"]
    return Row(line, metrics, None if itself else table.percent("mse", baseline, **levels))


def _networks(run: fw.StudyRun[Settings], at: Mapping[str, Level]) -> list[Row]:
    """Each estimator at β and at 1, beside straight-through at the same β."""
    baseline = {"estimator": "straight_through"}
    rows = [
        _row(run.table, at, Line(name, "mlp", beta, f"β = {beta:g}"), baseline)
        for beta in dict.fromkeys((run.settings.commitment, EXACT_BETA))
        for name in NETWORK_ESTIMATORS
    ]
    return [row for row in rows if row.metrics]


def learned_gain(table: fw.LongTable, source: str, size: int, beta: float) -> fw.Interval | None:
    """Per cent by which a trained encoder (straight-through, from the best Lloyd codebook) changes that one's error."""
    own = {"estimator": "straight_through", "protocol": "lloyd", "beta": beta}
    return table.percent("mse", LLOYD, source=source, codebook_size=size, **own)


def rotation_percents(table: fw.LongTable, result: SourceResult, beta: float) -> dict[str, fw.Interval]:
    """Rotation against straight-through with a linear encoder, by protocol."""
    return _by_protocol(
        table, result, {"estimator": "straight_through"}, {"estimator": "rotation", "beta": beta}
    )


def exact_percents(table: fw.LongTable, result: SourceResult, beta: float) -> dict[str, fw.Interval]:
    """β = 1, the exact gradient, against this β, straight-through with a linear encoder, by protocol."""
    exact = {"estimator": "straight_through", "beta": EXACT_BETA}
    return _by_protocol(table, result, {"beta": beta}, exact)


def _by_protocol(
    table: fw.LongTable, result: SourceResult, against: Mapping[str, Level], own: Mapping[str, Level]
) -> dict[str, fw.Interval]:
    changes = {name: table.percent("mse", against, **result.at, **own, protocol=name) for name in PROTOCOLS}
    return {name: change for name, change in changes.items() if change is not None}


def paired_gap(table: fw.LongTable, **levels: Level) -> fw.Interval:
    """Decibels above the bound; the interval is of the difference from the best Lloyd restart's, paired by seed.

    The seeds' sources differ more than the methods do; the baseline itself has its own interval.
    """
    difference = table.difference("gap_db", LLOYD, **levels)
    if levels["estimator"] == BASELINE or difference is None:
        return table.interval("gap_db", **levels)
    middle = table.interval("gap_db", **{**levels, **LLOYD}).mean
    low, mean, high = (middle + side for side in (difference.low, difference.mean, difference.high))
    return replace(difference, low=low, mean=mean, high=high)


def word(percent: fw.Interval) -> str:
    """better, worse, level (the whole interval within ± `NEGLIGIBLE`) or undecided."""
    if not percent.known:
        return "undecided"
    if max(abs(percent.low), abs(percent.high)) < NEGLIGIBLE:
        return "level"
    return "better" if percent.high < 0 else "worse" if percent.low > 0 else "undecided"


def _json(intervals: Mapping[str, fw.Interval]) -> dict[str, Any]:
    return {name: interval.to_json() for name, interval in intervals.items()}
