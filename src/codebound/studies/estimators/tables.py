"""The ranking on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from codebound.reporting.formatting import interval_text, number, percent_text
from codebound.reporting.statistics import Interval
from codebound.studies.estimators.labels import ESTIMATORS, source_name
from codebound.studies.estimators.summary import SourceSummary


def ranking_tables(summaries: Sequence[SourceSummary]) -> list[Table]:
    """One table per source, and one more where a non-linear encoder was trained."""
    return [table for s in summaries for table in (_linear(s), *([_networks(s)] if s.networks else []))]


def _linear(summary: SourceSummary) -> Table:
    """Error, distance from the bound, difference from the best Lloyd restart; ordered by error within a group."""
    table = Table(
        title=f"{source_name(summary.source)}, K = {summary.codebook_size}: error on fresh data, {summary.seeds} seeds",
        caption=_caption(summary),
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.add_column("method", no_wrap=True)
    for name in ("MSE, 95 %", "dB to D(R)", "vs best Lloyd", "entropy %", "dead"):
        table.add_column(name, justify="right", no_wrap=True)
    best = min(row.metrics["mse"].mean for row in summary.rows)
    for group in dict.fromkeys(row.shown.group for row in summary.rows):
        table.add_row(f"[dim]{group}[/dim]")
        rows = sorted(
            (r for r in summary.rows if r.shown.group == group), key=lambda r: r.metrics["mse"].mean
        )
        for row in rows:
            m = row.metrics
            table.add_row(
                f"  {row.shown.name}",
                interval_text(m["mse"]),
                _decibels(m["gap_db"]),
                percent_text(row.versus),
                f"{m['entropy_percent'].mean:.1f}",
                f"{m['dead'].mean:.1f}",
                style="bold" if m["mse"].mean == best else "",
            )
    return table


def _networks(summary: SourceSummary) -> Table:
    table = Table(
        title=f"{source_name(summary.source)}: MLP encoder and decoder, fresh data, {summary.seeds} seed(s)",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.add_column("estimator", no_wrap=True)
    for name in ("β", "MSE, 95 %", "dB to D(R)", "vs straight-through", "dead"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in summary.networks:
        gap = row.metrics.get("gap_db")
        table.add_row(
            ESTIMATORS[row.estimator],
            f"{row.beta:g}",
            interval_text(row.metrics["mse"]),
            "–" if gap is None else _decibels(gap),
            percent_text(row.versus),
            f"{row.metrics['dead'].mean:.1f}",
        )
    return table


def _decibels(gap: Interval) -> str:
    bounds = f" [{gap.low:.2f}, {gap.high:.2f}]" if gap.known else ""
    return f"{gap.mean:.2f}{bounds}"


def _caption(summary: SourceSummary) -> str:
    found = summary.limits
    known = "restricted" in found
    parts = [f"Shannon {'' if known else 'lower '}bound D(R) {number(found['shannon'].mean)}"]
    if "shannon_low" in found:
        parts[0] += f" [{number(found['shannon_low'].mean)}, {number(found['shannon_high'].mean)}], estimated"
    if known:
        parts.append(f"for m dimensions and the tail {number(found['restricted'].mean)}")
    for name, text in (
        ("pca", "optimal-quantizer reference"),
        ("free", "the same without the limit of m dimensions"),
    ):
        if f"reference_{name}" in found:
            parts.append(
                f"{text} {number(found[f'reference_{name}'].mean)} ({found[f'reference_{name}_db'].mean:.2f} dB)"
            )
    return "; ".join(parts)
