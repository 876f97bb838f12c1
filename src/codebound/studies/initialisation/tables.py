"""The summary on a terminal."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.table import Table

from codebound.reporting.formatting import few_vectors_text, number, percent_text
from codebound.studies.initialisation.labels import look, source_name
from codebound.studies.initialisation.summary import Row, Summary

_LIMITS = ("shannon", "converse", "best_known", "gaussian_reference")


def source_tables(summary: Summary, optimizer: str = "adam") -> list[Table]:
    """One table per source."""
    return [source_table(summary, source, optimizer) for source in summary.sources]


def source_table(summary: Summary, source: str, optimizer: str = "adam") -> Table:
    """Error, distance from the limit, dead codes and perplexity of each arm, in 80 columns; the best in bold.

    The distance is to the Shannon bound, or to the Gaussian reference where the bound is only estimated.
    """
    estimated = summary.estimated(source)
    table = Table(
        title=f"{source_name(source)}: error on fresh data, {summary.seeds[source]} seed(s)",
        caption=_caption(summary, source),
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
        gap = "final_gaussian_reference_db" if estimated else "final_gap_db"
        table.add_row(*_cells(row, gap), style="bold" if leading else "")
    return table


def _caption(summary: Summary, source: str) -> str:
    limits = summary.limits[source]
    shown = []
    for name in _LIMITS:
        if name in limits:
            text = f"{name.replace('_', ' ')} {number(limits[name].mean)}"
            if name == "shannon" and summary.estimated(source):
                low, high = (number(limits[f"shannon_{side}"].mean) for side in ("low", "high"))
                text = f"estimated {text} [{low}, {high}]"
            shown.append(text)
    what = "the Gaussian reference" if summary.estimated(source) else "Shannon"
    few = few_vectors_text(summary.held_out[source], summary.codebook_size)
    return f"{'; '.join(shown)}. dB: end above {what}. {few}".rstrip()


def _cells(row: Row, gap_name: str) -> list[str]:
    gap = row.metrics.get(gap_name)
    return [
        look(row.arm).name,
        number(row.metrics["initial_fresh_distortion"].mean),
        number(row.metrics["final_fresh_distortion"].mean),
        "–" if gap is None else f"{gap.mean:.2f}",
        percent_text(row.versus_baseline.get("final_fresh_distortion")),
        _change_text(row, "fresh_dead"),
        _change_text(row, "fresh_perplexity"),
    ]


def _change_text(row: Row, name: str) -> str:
    """start → end of a measure."""
    start, end = (row.metrics[f"{when}_{name}"].mean for when in ("initial", "final"))
    return f"{start:.0f} → {end:.0f}"
