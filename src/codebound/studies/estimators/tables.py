"""The study's tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from codebound.reporting.statistics import paired_ratio
from codebound.reporting.tables import Value
from codebound.studies.estimators.arms import EXACT_BETA
from codebound.studies.estimators.labels import COLOURS, PROTOCOLS, WAYS, source_name
from codebound.studies.estimators.records import RUN_METRICS, TIMING, VERIFIED_ON
from codebound.studies.estimators.settings import Settings
from codebound.studies.estimators.summary import LLOYD, Row, SourceResult, learned_gain
from codebound.studies.framework import declare as fw

_METRICS = {metric.name: metric for metric in RUN_METRICS}
_LIMITS = {  # by name in results.json: title, what it says
    "shannon": ("{bound}", "No code of this rate, however long its blocks, has a smaller error."),
    "restricted": ("Shannon, m dimensions and the tail", "The same if all but PCA's first m dimensions are dropped."),
    "reference_pca": ("Optimal quantizer behind PCA", "Reached by Lloyd on many fresh samples. No bound."),
    "reference_free": ("… in all dimensions", "The same in all dimensions of the source's rank. No bound."),
    "gaussian_reference": ("Gaussian reference", "Bound of the Gaussian of equal covariance, which others may beat."),
}  # fmt: skip


def ranking(result: SourceResult) -> fw.ResultTable:
    """Error, distance from the bound, change beside the best Lloyd restart, use of the codes."""
    seeds = fw.count_text(result.seeds, "seed")
    title = f"{source_name(result.source)}, K = {result.codebook_size}: fresh data, {seeds}"
    return _ranked(title, result.rows, "beside best Lloyd", ("entropy_percent", "dead", "captured_percent"))


def networks(result: SourceResult) -> fw.ResultTable:
    """The same of the runs under an MLP, beside straight-through."""
    title = f"{source_name(result.source)}: MLP encoder and decoder"
    return _ranked(title, result.networks, "beside straight-through", ("perplexity_percent", "dead"))


def _ranked(title: str, rows: Sequence[Row], beside: str, others: Sequence[str]) -> fw.ResultTable:
    """Rows under the headings of their groups; the smallest error is to be seen first."""
    columns = [
        fw.Column("Method"),
        fw.Column.of(_METRICS["mse"]),
        replace(fw.Column.of(_METRICS["gap_db"]), kind="gap"),
        _change(beside),
        *(fw.Column.of(_METRICS[name], terminal=name != "captured_percent") for name in others),
    ]
    table: list[list[Value] | str] = []
    best, least = 0, math.inf
    for row in rows:
        if row.line.group not in table:
            table.append(row.line.group)
        if row.metrics["mse"].mean < least:
            best, least = len(table), row.metrics["mse"].mean
        name = fw.Swatch(COLOURS[row.line.estimator], row.line.name)
        error, gap, *rest = (row.metrics.get(metric) for metric in ("mse", "gap_db", *others))
        table.append([name, error, gap, row.versus, *rest])
    return fw.ResultTable(title, columns, table, best=best)


def limits(result: SourceResult) -> fw.ResultTable:
    """Bounds and references, in the error's unit and as decibels above the bound."""
    shown = dict(result.limits)
    if "restricted" in shown:
        del shown["gaussian_reference"]  # the Gaussian's own is its bound
    if "shannon_low" in shown:
        low, high = (shown[f"shannon_{end}"].mean for end in ("low", "high"))
        shown["shannon"] = replace(shown["shannon"], low=low, high=high)
    rows = [
        [title.format(bound=result.bound), shown[name], shown.get(f"{name}_db"), text]
        for name, (title, text) in _LIMITS.items()
        if name in shown
    ]
    says = fw.Column("What it says", kind="text", terminal=False)
    columns = [
        fw.Column("Limit or reference"),
        fw.Column("Error", 3),
        fw.Column("dB above the bound", 2),
        says,
    ]
    return fw.ResultTable(f"Limits at K = {result.codebook_size}", columns, rows)


def learning(table: fw.LongTable, results: Sequence[SourceResult]) -> fw.ResultTable:
    """What training adds to PCA and the best Lloyd codebook at each K."""
    rows = []
    for result in results:
        for size in sorted(result.sizes):
            before = table.interval("mse", **{**result.at, "codebook_size": size}, **LLOYD)
            gain = learned_gain(table, result.source, size, EXACT_BETA)
            rows.append([source_name(result.source), size, before, gain])
    columns = [
        fw.Column("Source"),
        fw.Column("K"),
        fw.Column("Best Lloyd's error", 4),
        _change("by training"),
    ]
    title = f"Straight-through at β = {EXACT_BETA:g} from the best Lloyd codebook"
    return fw.ResultTable(title, columns, rows)


def by_protocol(title: str, percents: Mapping[str, Mapping[str, fw.Interval]]) -> fw.ResultTable:
    """Changes of the error by source and protocol."""
    protocols = [name for name in PROTOCOLS if any(name in changes for changes in percents.values())]
    columns = [fw.Column("Source"), *(_change(PROTOCOLS[name][0]) for name in protocols)]
    rows = [[source_name(source), *map(changes.get, protocols)] for source, changes in percents.items()]
    return fw.ResultTable(title, columns, rows)


def beta_ranges(table: fw.LongTable, results: Sequence[SourceResult]) -> fw.ResultTable:
    """How far apart the best and the worst β are."""
    protocols = ("documents", "tuned")
    columns = [fw.Column("Source"), *(fw.Column(f"{PROTOCOLS[name][0]}, %", 2) for name in protocols)]
    arm = {"estimator": "straight_through", "beta": None}
    rows = [
        [
            source_name(result.source),
            *(table.interval("beta_range_percent", **result.at, **arm, protocol=name) for name in protocols),
        ]
        for result in results
    ]
    return fw.ResultTable("Straight-through: error at the worst β above the best", columns, rows)


def restarts(results: Sequence[SourceResult]) -> fw.ResultTable:
    """The spread of Lloyd's restarts, and what the best of some leaves."""
    counts = sorted({count for result in results for count in result.restarts})
    bests = [fw.Column(f"best of {count}, %", 2) for count in counts]
    rows = [
        [source_name(result.source), result.spread, *map(result.restarts.get, counts)] for result in results
    ]
    columns = [fw.Column("Source"), fw.Column("worst above best, %", 2), *bests]
    return fw.ResultTable("Restarts of PCA + Lloyd: expected error above the best of all", columns, rows)


def verification(table: fw.LongTable) -> fw.ResultTable | None:
    """Largest relative differences from autograd, over steps and seeds."""
    rows: list[list[Value]] = []
    for way, name in WAYS.items():
        levels = {"source": VERIFIED_ON, "protocol": "verify", "estimator": way}
        worst = [table.values(f"{part}_difference", **levels).values() for part in ("gradient", "trajectory")]
        if all(worst):
            rows.append([name, *(f"{max(values):.1e}" for values in worst)])
    columns = [fw.Column(title) for title in ("Way", "Gradients", "Trajectories")]
    return fw.ResultTable("Largest relative difference from autograd", columns, rows) if rows else None


def time_ratios(table: fw.LongTable, settings: Settings) -> dict[str, fw.Interval]:
    """Time of a step of each way beside autograd's, paired by round; empty where nothing was timed."""
    seconds = {way: _timed(table, settings, way, "seconds") for way in WAYS}
    return {way: paired_ratio(values, seconds["autograd"]) for way, values in seconds.items() if values}


def cost(table: fw.LongTable, settings: Settings) -> fw.ResultTable:
    """Time and memory of a step."""
    rows = []
    for way, ratio in time_ratios(table, settings).items():
        seconds, memory = (
            list(_timed(table, settings, way, name).values()) for name in ("seconds", "peak_bytes")
        )
        rows.append([WAYS[way], 1e3 * float(np.median(seconds)), ratio, memory[0] / 1e6])
    titles = ("ms a step, median", "of autograd's time", "MB at the peak")
    note = "Memory is what a step holds beyond what it began with; of 16 runs, all of them together."
    columns = [fw.Column("Way"), *(fw.Column(title, 2) for title in titles)]
    return fw.ResultTable("Cost of a training step", columns, rows, note)


def _timed(table: fw.LongTable, settings: Settings, way: str, metric: str) -> dict[int, float]:
    at = {"source": TIMING, "protocol": "documents", "codebook_size": settings.codebook_size}
    return table.values(metric, **at, estimator=way, beta=settings.commitment)


def _change(title: str) -> fw.Column:
    return fw.Column(f"{title}, %", 2, kind="change", better="less")
