"""The study's figures, from stock parts; those of an error show the Shannon bound, and the converse if known."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from codebound.reporting import plots, stock_figures
from codebound.studies.framework.results import StudyRun
from codebound.studies.initialisation import curves, labels
from codebound.studies.initialisation.findings import optimizer_spreads
from codebound.studies.initialisation.settings import Settings
from codebound.studies.initialisation.summary import WHEN, Summary, overlap
from codebound.theory.gaussian import gap_db


def distance(summary: Summary, source: str) -> Figure:
    """Decibels at the start and at the end, with the other limits as lines.

    Above the Shannon bound; where that is only estimated, to the Gaussian reference, with the bound and its interval
    as a band.
    """
    name = summary.reference(source)
    rows = [row for row in summary.select(source) if f"final_{name}" in row.metrics]
    pairs = [(row.metrics[f"initial_{name}"], row.metrics[f"final_{name}"]) for row in rows]

    # Starts far above the ends would leave no room to tell those apart: they are written at the edge.
    means = sorted(interval.mean for pair in pairs for interval in pair)
    usual = means[int(0.8 * (len(means) - 1))] if means else 0.1
    most = 1.25 * max([usual, *(end.mean for _, end in pairs), 0.1])
    origin = "gaussian_reference" if summary.estimated(source) else "shannon"
    unit = "to the Gaussian of equal covariance" if summary.estimated(source) else "above the Shannon bound"
    return stock_figures.dots(
        [(labels.arm(row.arm).name, pair) for row, pair in zip(rows, pairs, strict=True)],
        ("before training", "after training"),
        title=f"{labels.source_name(source, summary.settings)}: distance from the limit",
        unit=f"dB {unit}, fresh data",
        limits=_in_decibels(limits(summary, source), origin),
        colours=[labels.arm(row.arm).colour for row in rows],
        most=most,
    )


def training(run: StudyRun[Settings], summary: Summary, source: str) -> Figure:
    """Error with its limits, perplexity, dead codes and reconstruction loss over training, on fresh data."""
    lines, rows = limits(summary, source), summary.select(source)

    # The axis of the error goes from the limits to where most starts can be told apart.
    first, last = (sorted(row.metrics[f"{when}_fresh_distortion"].mean for row in rows) for when in WHEN)
    shown = [end for end in last if end <= 1.8 * last[(len(last) - 1) // 2]]
    shown += [start for start in first if start <= 1.3 * first[(len(first) - 1) // 2]]
    shown += [value for line in lines for value in (line.value, *(line.interval or ()))]
    room = 0.06 * (max(shown) - min(shown))
    least, most = min(shown) - room, max(shown) + room

    # A reconstruction's loss is the error and that of the dimensions that the encoder drops: its bound and its axis lie
    # so much further up.
    dropped = curves.dropped_dimensions(run, source)
    lifted = [
        line._replace(
            label="the same, dimensions that are dropped included",
            value=line.value + dropped,
            interval=line.interval and (line.interval[0] + dropped, line.interval[1] + dropped),
        )
        for line in lines
        if line.kind == "shannon"
    ]
    error, perplexity, dead, reconstruction = (metric.name for metric in curves.METRICS)
    codewords = summary.settings.codebook_size
    return stock_figures.curves(
        curves.table(run, source, overlap(source)),
        [error, perplexity, dead, reconstruction],
        over="step",
        series="arm",
        looks=labels.LOOKS,
        limits={error: lines, reconstruction: lifted},
        log_after=summary.settings.evaluate_every,
        ranges={
            error: (least, most),
            perplexity: (0, codewords * 1.04),
            reconstruction: (least + dropped, most + dropped),
        },
    )


def utilisation(summary: Summary, source: str) -> Figure:
    """Codewords in effective use on fresh data, at the start and at the end."""
    rows = summary.select(source)
    codewords = summary.settings.codebook_size
    return stock_figures.dots(
        [
            (labels.arm(row.arm).name, [row.metrics[f"{when}_fresh_perplexity"] for when in WHEN])
            for row in rows
        ],
        ("before training", "after training"),
        title=f"{labels.source_name(source, summary.settings)}: use of the codebook",
        unit=f"codewords in effective use, of {codewords} (perplexity on fresh data)",
        colours=[labels.arm(row.arm).colour for row in rows],
    )


def optimizers(summary: Summary) -> Figure:
    """How far the ends of the proposal's three starts lie apart, by optimizer."""
    spreads = optimizer_spreads(summary)
    names = [labels.source_name(source, summary.settings) for source in summary.sources]
    heights = {
        labels.OPTIMIZERS[optimizer][0]: [each.get(source, 0.0) for source in summary.sources]
        for optimizer, each in spreads.items()
    }
    return stock_figures.bars(
        names,
        heights,
        title="How far the ends of the proposal's three starts lie apart",
        axis="",
        unit="% of the least error",
        colours=dict(labels.OPTIMIZERS.values()),
    )


def limits(summary: Summary, source: str) -> list[plots.Limit]:
    """The lines that a figure of a distortion must show: its bounds, and what else to compare with."""
    known = summary.limits[source]
    names = ["shannon", "converse", "best_known"] + ["gaussian_reference"] * summary.estimated(source)
    lines = [plots.Limit(kind, labels.LIMITS[kind], known[kind].mean) for kind in names if kind in known]
    if not summary.estimated(source):
        return lines
    ends = (known["shannon_low"].mean, known["shannon_high"].mean)
    return [
        line._replace(label=f"{line.label}, estimated", interval=ends) if line.kind == "shannon" else line
        for line in lines
    ]


def _in_decibels(lines: list[plots.Limit], origin: str) -> list[plots.Limit]:
    """The limits relative to one of them; an end of an interval at zero error has no decibels and is left out."""
    zero = next((line.value for line in lines if line.kind == origin), 0.0)
    shown = []
    for line in lines if zero > 0 and math.isfinite(zero) else []:
        if line.value > 0:
            ends = line.interval if line.interval and min(line.interval) > 0 else None
            decibels = ends and (gap_db(ends[0], zero), gap_db(ends[1], zero))
            shown.append(line._replace(value=gap_db(line.value, zero), interval=decibels))
    return shown
