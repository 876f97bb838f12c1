"""What this study's figures share: limits as lines, intervals beside a baseline, headlines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from codebound.reporting import plots
from codebound.reporting.statistics import Interval, mean_interval
from codebound.studies.estimators.arms import BASELINE
from codebound.studies.estimators.labels import PROTOCOLS
from codebound.studies.estimators.rundata import StudyData, Values
from codebound.studies.estimators.summary import SourceSummary

REFERENCES = {
    "pca": ("best_known", "Optimal quantizer behind PCA"),
    "free": ("converse", "… without the limit of m dimensions"),
}
PAIRED = "95 % intervals beside PCA + Lloyd, best restart"


def protocol_words(name: str) -> str:
    """In a legend."""
    return "from Lloyd's best" if name == "lloyd" else PROTOCOLS[name][0].lower()


def levelled(values: Values, base: Values) -> Values:
    """Values of seeds whose sources differ, brought to one source by a baseline that all of them share.

    v·mean(base)/base: the interval is then of the difference from the baseline, as in the tables.
    """
    if not set(values) <= set(base):
        return values
    middle = float(np.mean([base[s] for s in values]))
    return {s: v * middle / base[s] for s, v in values.items()}


def base_values(data: StudyData, source: str, size: int | None = None) -> Values:
    """Errors of the best Lloyd restart, by seed."""
    return data.values(source, BASELINE, "lloyd", size=size)


def headline(figure: Figure, text: str) -> None:
    """The title over all panels."""
    figure.suptitle(text, fontsize=12.5, x=0.01, ha="left")


def limit_lines(found: dict[str, Interval], m: int) -> list[plots.Limit]:
    """Bounds and references as lines of a plot of errors."""
    lines = []
    if "shannon" in found:
        known = "restricted" in found
        ends = (found["shannon_low"].mean, found["shannon_high"].mean) if "shannon_low" in found else None
        label = (
            "Shannon bound" if known else "Shannon lower bound (estimated)" if ends else "Shannon lower bound"
        )
        lines.append(plots.Limit("shannon", label, found["shannon"].mean, ends))
    if "restricted" in found:
        lines.append(plots.Limit("gaussian_reference", f"Shannon, {m} dims + tail", found["restricted"].mean))
    for name, (kind, label) in REFERENCES.items():
        if f"reference_{name}" in found:
            lines.append(plots.Limit(kind, label, found[f"reference_{name}"].mean))
    return lines


def seeds_words(summary: SourceSummary) -> str:
    """5 seeds"""
    return f"{summary.seeds} seeds" if summary.seeds > 1 else "1 seed"


def gap_interval(
    data: StudyData, source: str, estimator: str, protocol: str, beta: float | None, size: int | None = None
) -> Interval:
    """Decibels above the bound; the interval is of the difference from the best Lloyd restart's, by seed."""
    own = data.values(source, estimator, protocol, "gap_db", beta=beta, size=size)
    base = data.values(source, BASELINE, "lloyd", "gap_db", size=size)
    if estimator == BASELINE or not set(own) <= set(base):
        return mean_interval(own.values())
    difference = mean_interval(own[s] - base[s] for s in own)
    middle = float(np.mean([base[s] for s in own]))
    return replace(
        difference, mean=difference.mean + middle, low=difference.low + middle, high=difference.high + middle
    )


def boxed(ax: Axes, handles: list[Line2D]) -> None:
    """A legend on a ground of its own, above the curves, that the layout does not make room for."""
    legend = ax.legend(handles=handles, fontsize=7.5, loc="upper right", framealpha=0.9, edgecolor=plots.GRID)
    legend.set_in_layout(False)
    legend.set_zorder(20)
