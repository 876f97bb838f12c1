"""The figures of one source: the ranking, and the estimators under an MLP."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from codebound.reporting import plots
from codebound.studies.estimators.drawing import (
    PAIRED,
    REFERENCES,
    gap_interval,
    headline,
    limit_lines,
    seeds_words,
)
from codebound.studies.estimators.labels import (
    COLOURS,
    ESTIMATORS,
    source_name,
)
from codebound.studies.estimators.rundata import StudyData
from codebound.studies.estimators.summary import SourceSummary, bound_name
from codebound.theory.gaussian import gap_db


def ranking(data: StudyData, summary: SourceSummary) -> Figure:
    """Decibels above the bound of every line of the ranking, with the references as lines."""
    rows = summary.rows
    groups = list(dict.fromkeys(r.shown.group for r in rows))
    figure = plots.new_figure(12, 2.2 + 0.3 * (len(rows) + len(groups)))
    estimated = "shannon_low" in summary.limits
    headline(
        figure,
        f"{source_name(summary.source)}, K = {summary.codebook_size}: distance from the bound after "
        f"{data.settings.steps} steps ({seeds_words(summary)}, {PAIRED};\nof that one itself, over seeds)",
    )
    ax = figure.subplots()
    labels, at, y = [], [], 0.0
    for group in groups:
        labels.append(f"{group.upper()}  ")
        at.append(y)
        y += 0.85
        for row in (r for r in rows if r.shown.group == group):
            shown = row.shown
            gap = gap_interval(data, summary.source, shown.estimator, shown.protocol, shown.beta)
            bar = [[gap.mean - gap.low], [gap.high - gap.mean]] if gap.known else None
            ax.errorbar(gap.mean, y, xerr=bar, fmt="o", ms=6, capsize=3, color=shown.colour)
            labels.append(shown.name)
            at.append(y)
            y += 1
    ax.set_yticks(at, labels)
    ax.set_ylim(y - 0.4, -0.7)
    handles = _ranking_lines(ax, summary, data.settings.latent_dim)
    ax.set_xlim(left=min(0.0, ax.get_xlim()[0]) if estimated else 0.0)
    plots.style(ax, "", f"decibels above the {bound_name(summary)}, fresh data (0 = at the bound)")
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def _ranking_lines(ax: Axes, summary: SourceSummary, m: int) -> list[Line2D]:
    found = summary.limits
    zero = found["shannon"].mean
    handles = []
    for line in limit_lines(found, m):
        ends = line.interval and tuple(gap_db(max(v, 1e-12), zero) for v in line.interval)
        value = gap_db(line.value, zero)
        for name, (kind, _) in REFERENCES.items():
            if line.kind == kind and f"reference_{name}_db" in found:
                value = found[f"reference_{name}_db"].mean
        handles.append(
            plots.limit_line(ax, line._replace(value=value, interval=ends), "vertical", " dB")  # pyright: ignore
        )
    return handles


def networks(data: StudyData, summary: SourceSummary) -> Figure | None:
    """The estimators under an MLP: the error of each and its curve."""
    if not summary.networks:
        return None
    s = data.settings
    figure = plots.new_figure(12, 5.2)
    headline(
        figure,
        f"{source_name(summary.source)}, K = {summary.codebook_size}: an MLP encoder and decoder, "
        f"{s.mlp_steps:,} steps ({seeds_words(summary)}, 95 % intervals)",
    )
    left, right = figure.subplots(1, 2, sharey=True)
    betas = list(dict.fromkeys(row.beta for row in summary.networks))
    styles: dict[float, Any] = dict(zip(betas, ("-", (0, (5, 1.6))), strict=False))
    for row in summary.networks:
        line = {"color": COLOURS[row.estimator], "linestyle": styles[row.beta], "linewidth": 1.5}
        steps, curves = _network_curves(data, summary.source, row.estimator, row.beta)
        plots.band(left, steps, curves, line)
    names = list(dict.fromkeys(row.estimator for row in summary.networks))
    for i, beta in enumerate(betas):
        rows = [r for r in summary.networks if r.beta == beta]
        for row in rows:
            value = row.metrics["mse"]
            bar = [[value.mean - value.low], [value.high - value.mean]] if value.known else None
            face = COLOURS[row.estimator] if i == 0 else plots.PAPER
            right.errorbar(
                names.index(row.estimator) + 0.18 * (i - 0.5), value.mean, yerr=bar, fmt="o", ms=7, capsize=3,
                color=COLOURS[row.estimator], mfc=face,
            )  # fmt: skip
    right.set_xticks(range(len(names)), [ESTIMATORS[n].replace(" (", "\n(") for n in names])
    right.set_xlim(-0.5, len(names) - 0.5)
    lines = limit_lines(summary.limits, s.latent_dim)
    handles = [plots.limit_line(ax, line, "horizontal") for ax in (left, right) for line in lines][
        : len(lines)
    ]
    values = [r.metrics["mse"].mean for r in summary.networks]
    bottom = min(line.value for line in lines)
    plots.log_axis(left, max(bottom / 1.15, 1e-3), 1.3 * max(values))
    plots.style(left, "Test error", "training step", "squared error per vector (log)")
    hollow = f", hollow: β = {betas[1]:g}" if len(betas) > 1 else ""
    plots.style(right, f"Fresh data at the end (filled: β = {betas[0]:g}{hollow})")
    handles = [Line2D([], [], color=COLOURS[n], label=ESTIMATORS[n]) for n in names] + handles
    handles += [
        Line2D([], [], color=plots.MUTED, linestyle=styles[b], label=f"β = {b:g} (left)") for b in betas
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, fontsize=8.5, frameon=False, handlelength=3.2
    )
    return figure


def _network_curves(
    data: StudyData, source: str, estimator: str, beta: float
) -> tuple[np.ndarray, np.ndarray]:
    curves = [
        run["curve"]
        for cell in data.of("mlp", source).values()
        for run in cell["runs"]
        if (run["estimator"], run["beta"]) == (estimator, beta)
    ]
    return np.array(curves[0]["step"], dtype=float), np.array([c["mse"] for c in curves])
