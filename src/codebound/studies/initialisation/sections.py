"""The page's parts: each source with its figures and table, the ranking, the optimizers, the limits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from markupsafe import Markup

from codebound.reporting.formatting import few_vectors_text
from codebound.reporting.statistics import Interval
from codebound.studies.framework.declare import Column, Illustration, ResultTable, Section, StudyRun
from codebound.studies.initialisation import figures, labels
from codebound.studies.initialisation.findings import optimizer_spreads
from codebound.studies.initialisation.recommendation import ranking, recommend
from codebound.studies.initialisation.settings import Settings
from codebound.studies.initialisation.summary import Summary


def sections(run: StudyRun[Settings], summary: Summary) -> list[Section]:
    """All of them, in the order of the page."""
    each = [_source(run, summary, source) for source in summary.sources]
    tuned = [_optimizers(summary)] if len(optimizer_spreads(summary)) > 1 else []
    return [_ranking(summary), *each, *tuned, _limits(summary)]


def title(summary: Summary, source: str) -> str:
    """The source's name; of the user's data with their dimension, and the one that they were taken to."""
    name, dims = labels.source_name(source, summary.settings), dimensions(summary)
    return f"{name}, {dims} dimensions" if source == "data" and dims else name


def dimensions(summary: Summary) -> str:
    """Of the user's data: 16, or 16 → 8 where they were taken to fewer; empty if there are none."""
    own, used = summary.data_dim, summary.settings.dim
    return "" if own is None else str(own) if own == used else f"{own} → {used}"


def _ranking(summary: Summary) -> Section:
    ranks, best = ranking(summary), recommend(summary)
    names = [labels.source_name(source, summary.settings) for source in summary.sources]
    several = len(names) > 1
    heads = [f"{name}, end, %" for name in names] if several else []
    heads += ["Worst start, %", "Worst end, %"] if several else ["Before training, %", "After, %"]
    columns = [Column("Start", kind="text"), *(Column(head, 1) for head in heads)]
    rows = []
    for rank in ranks:
        ends = [end for _, end in rank.excess.values()] if several else []
        rows.append([labels.arm(rank.arm).swatch, *ends, rank.worst_start, rank.worst_end])
    note = "Error on fresh data above the best start of the same source. Safest first: by the worst end."
    table = ResultTable("How far each start is above the best", columns, rows, note, best=0)
    code = Markup("<pre>{}</pre>").format(best.code) if best.code else Markup()
    text = " ".join((best.good, best.avoid)).strip()
    return Section("Which start to use", text, tables=[table], block=code)


def _source(run: StudyRun[Settings], summary: Summary, source: str) -> Section:
    name = title(summary, source)
    if source == "data":
        text = "Your vectors, in their own units; each seed splits them anew."
        if summary.data_dim != summary.settings.dim:
            text += f" PCA takes them from {summary.data_dim} to {summary.settings.dim} dimensions, where errors are."
    else:
        text = labels.SOURCES.get(source, ("", ""))[1]
    pictures = [
        Illustration(
            f"{source}-distance", partial(figures.distance, summary, source),
            f"Decibels from the limit for each start, before and after training: {name}",
        ),
        Illustration(
            f"{source}-training", partial(figures.training, run, summary, source),
            f"Error, perplexity, dead codes and reconstruction loss over training: {name}",
        ),
        Illustration(
            f"{source}-utilisation", partial(figures.utilisation, summary, source),
            f"Codewords in effective use, before and after training: {name}",
        ),
    ]  # fmt: skip
    return Section(name, text, pictures, [source_table(summary, source)])


def source_table(summary: Summary, source: str) -> ResultTable:
    """Error, distance from the limit, change against k-means, dead codes; a row for each arm."""
    estimated, rows = summary.estimated(source), summary.select(source)
    columns = [
        Column("Start", kind="text"),
        Column("Error, start"),
        Column("Error, end"),
        Column("dB above bound", 2, kind="gap" if estimated else "number"),
        *([Column("dB to reference", 2, kind="gap")] if estimated else []),
        Column("Against k-means, %", 1, kind="change", better="less"),
        Column("Dead, end", 0),
    ]
    values = []
    for row in rows:
        gaps = ["final_gap_db", "final_gaussian_reference_db"] if estimated else ["final_gap_db"]
        values.append(
            [
                labels.arm(row.arm).swatch,
                row.metrics["initial_fresh_distortion"].mean,
                row.metrics["final_fresh_distortion"].mean,
                *(row.metrics.get(name) for name in gaps),
                row.versus_baseline.get("final_fresh_distortion"),
                row.metrics["final_fresh_dead"].mean,
            ]
        )
    ends = [row.metrics["final_fresh_distortion"].mean for row in rows]
    few = few_vectors_text(summary.held_out[source], summary.settings.codebook_size)
    heading = f"{title(summary, source)}: {summary.seeds[source]} seed(s)"
    return ResultTable(heading, columns, values, few, best=ends.index(min(ends)) if ends else None)


def _optimizers(summary: Summary) -> Section:
    """How far the ends of the proposal's three starts lie apart: whether an optimizer repairs a bad start."""
    spreads = optimizer_spreads(summary)
    columns = [Column("Source", kind="text"), *(Column(labels.OPTIMIZERS[name][0], 1) for name in spreads)]
    rows = [
        [labels.source_name(source, summary.settings), *(each.get(source) for each in spreads.values())]
        for source in summary.sources
    ]
    figure = Illustration(
        "optimizers", partial(figures.optimizers, summary), "Spread of the ends of three starts by optimizer"
    )
    table = ResultTable("Ends of the proposal's three starts, % apart", columns, rows)
    text = "Where bars are low, the start no longer matters."
    return Section("Start or optimizer", text, [figure], [table])


def _limits(summary: Summary) -> Section:
    names = [name for name in labels.LIMITS if any(name in limits for limits in summary.limits.values())]
    rows = [
        [title(summary, source), *(_limit(summary, source, name) for name in names)]
        for source in summary.sources
    ]
    note = (
        "No code of this rate comes under the Shannon bound; of real data it is estimated, in brackets its range. No "
        "codebook of this size comes under the converse. The Gaussian reference is the bound of a Gaussian of equal "
        "covariance, which other data may beat. k·σ²·2^(−2R), the proposal's formula, is a bound only where all "
        "variances are equal."
    )
    columns = [Column("Source", kind="text"), *(Column(labels.LIMITS[name], 4) for name in names)]
    return Section("Limits", tables=[ResultTable("Squared error per vector", columns, rows, note)])


def _limit(summary: Summary, source: str, name: str) -> Interval | float | None:
    limits = summary.limits[source]
    if name not in limits:
        return None
    if name == "shannon" and summary.estimated(source):
        low, high = (limits[f"shannon_{side}"].mean for side in ("low", "high"))
        return replace(limits[name], low=low, high=high)
    return limits[name].mean
