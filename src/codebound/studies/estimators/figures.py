"""The study's figures. Every plot of an error shows the Shannon bound and the optimal-quantizer reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from codebound.reporting import plots
from codebound.reporting.statistics import Interval, mean_interval, paired_percent
from codebound.studies.estimators import check_figures, source_figures
from codebound.studies.estimators.arms import BASELINE, EXACT_BETA
from codebound.studies.estimators.drawing import (
    PAIRED,
    REFERENCES,
    base_values,
    boxed,
    gap_interval,
    headline,
    levelled,
    limit_lines,
    protocol_words,
    seeds_words,
)
from codebound.studies.estimators.labels import (
    COLOURS,
    DASHES,
    ESTIMATORS,
    source_name,
)
from codebound.studies.estimators.rundata import StudyData, restart_values
from codebound.studies.estimators.summary import SourceSummary, bound_name
from codebound.studies.estimators.summary import limits as source_limits
from codebound.theory.gaussian import gap_db


def write_figures(
    out: Path, data: StudyData, summaries: Sequence[SourceSummary]
) -> dict[str, dict[str, Path]]:
    """All figures as PNG under `out`: {source, or "all": {name: path}}."""
    paths: dict[str, dict[str, Path]] = {}

    def save(group: str, name: str, figure: Figure | None) -> None:
        if figure is not None:
            paths.setdefault(group, {})[name] = plots.save(figure, out / f"{group}-{name}.png")

    save("all", "verification", check_figures.verification(data))
    save("all", "convergence", convergence(data, summaries))
    save("all", "commitment", commitment(data, summaries))
    save("all", "scaling", scaling(data, summaries))
    save("all", "restarts", restarts(data, summaries))
    save("all", "cost", check_figures.cost(data))
    for summary in summaries:
        save(summary.source, "ranking", source_figures.ranking(data, summary))
        save(summary.source, "mlp", source_figures.networks(data, summary))
    return paths


_CURVES = (
    ("straight_through", "documents", None),
    ("rotation", "documents", None),
    ("projection", "documents", None),
    ("straight_through", "tuned", None),
    ("rotation", "tuned", None),
    ("straight_through", "lloyd", EXACT_BETA),
    ("straight_through", "random", None),
    ("rotation", "random", None),
)


def convergence(data: StudyData, summaries: Sequence[SourceSummary]) -> Figure:
    """Test error over the steps, a panel per source."""
    figure, axes = _panels(len(summaries), 4.4)
    headline(
        figure,
        f"Convergence: error on {data.settings.test_samples:,} test vectors over {data.settings.long_steps} steps "
        f"({seeds_words(summaries[0])}, {PAIRED})",
    )
    for ax, summary in zip(axes, summaries, strict=False):
        tops = []
        for estimator, protocol, beta in _CURVES:
            table = data.curves(
                summary.source, estimator, protocol, data.settings.commitment if beta is None else beta
            )
            if table.empty:
                continue
            line = {"color": COLOURS[estimator], "linestyle": DASHES[protocol], "linewidth": 1.5}
            base = base_values(data, summary.source)
            scale = np.array([np.mean([base[s] for s in table.index]) / base[s] for s in table.index])
            table = table.mul(scale, axis=0)
            plots.band(ax, table.columns.to_numpy(dtype=float), table.to_numpy(), line)
            tops.append(float(table.to_numpy()[:, min(3, table.shape[1] - 1)].mean()))
        handles = [
            plots.limit_line(ax, line, "horizontal")
            for line in limit_lines(summary.limits, data.settings.latent_dim)
        ]
        base = summary.row(BASELINE, "lloyd")
        lowest = min(float(np.min(line.get_ydata())) for line in ax.get_lines())  # pyright: ignore
        if base is not None:
            ax.axhline(base.metrics["mse"].mean, color=COLOURS[BASELINE], linewidth=1.2)
        top = max([*tops, lowest * 1.1])
        ax.set_ylim(lowest - 0.06 * (top - lowest), top + 0.1 * (top - lowest))
        ax.axvline(data.settings.steps, color=plots.GRID, linewidth=1.2)
        plots.style(
            ax,
            f"{source_name(summary.source)}, K = {summary.codebook_size}",
            f"training step (results are taken at {data.settings.steps})",
            "squared error per vector",
        )
        boxed(ax, handles)
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[e],
            linestyle=DASHES[p],
            label=f"{ESTIMATORS[e]}, {protocol_words(p)}{'' if b is None else f', β = {b:g}'}",
        )
        for e, p, b in _CURVES
    ]
    handles.append(Line2D([], [], color=COLOURS[BASELINE], label="PCA + Lloyd, best restart (fresh data)"))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, fontsize=8.5, frameon=False, handlelength=3.2
    )
    return figure


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """Three panels a row; the spare ones of the last row are left blank."""
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = plots.new_figure(max(4.4 * columns, 7.5), height * rows + 0.9)
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).flat)
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes


_ABLATED = (
    ("straight_through", "documents"),
    ("rotation", "documents"),
    ("straight_through", "tuned"),
    ("rotation", "tuned"),
)


def commitment(data: StudyData, summaries: Sequence[SourceSummary]) -> Figure:
    """The ablation of β: above with the limits, below in per cent of β as documented."""
    betas = sorted(data.settings.commitments)
    figure = plots.new_figure(max(4.4 * len(summaries), 7.5), 8.2)
    headline(
        figure,
        f"Commitment β: what it changes ({seeds_words(summaries[0])}, {PAIRED}; below, beside the same at β = "
        f"{data.settings.commitment:g})",
    )
    axes = figure.subplots(2, len(summaries), squeeze=False)
    for column, summary in enumerate(summaries):
        top, bottom = axes[0][column], axes[1][column]
        for i, (estimator, protocol) in enumerate(_ABLATED):
            tables = [data.values(summary.source, estimator, protocol, beta=b) for b in betas]
            if not all(tables):
                continue
            base = data.values(summary.source, estimator, protocol)
            shift = 0.012 * (i - 1.5)
            look = {"color": COLOURS[estimator], "linestyle": DASHES[protocol]}
            level = base_values(data, summary.source)
            means = [mean_interval(levelled(t, level).values()) for t in tables]
            _points(top, np.array(betas) + shift, means, look)
            _points(bottom, np.array(betas) + shift, [paired_percent(t, base) for t in tables], look)
        handles = [
            plots.limit_line(top, line, "horizontal")
            for line in limit_lines(summary.limits, data.settings.latent_dim)
        ]
        low, high = top.get_ylim()
        top.set_ylim(low, high + 0.45 * (high - low))
        boxed(top, handles)
        plots.style(
            top,
            f"{source_name(summary.source)}, K = {summary.codebook_size}",
            "β",
            "squared error per vector",
        )
        bottom.axhline(0, color=plots.MUTED, linewidth=1)
        plots.style(
            bottom,
            f"Beside β = {data.settings.commitment:g}",
            "β",
            "difference in error, per cent",
        )
    figure.legend(
        handles=[
            Line2D(
                [], [], color=COLOURS[e], linestyle=DASHES[p], marker="o", ms=4,
                label=f"{ESTIMATORS[e]}, {protocol_words(p)}",
            )
            for e, p in _ABLATED
        ],
        loc="outside lower center",
        ncols=4,
        fontsize=8.5,
        frameon=False,
        handlelength=3.2,
    )  # fmt: skip
    return figure


def _points(ax: Axes, x: np.ndarray, intervals: list[Interval], look: dict[str, Any]) -> None:
    y = np.array([i.mean for i in intervals])
    bars = np.array([[i.mean - i.low, i.high - i.mean] if i.known else [0, 0] for i in intervals]).T
    ax.errorbar(x, y, yerr=bars, marker="o", ms=4, capsize=2, linewidth=1.3, **look)


_SCALED = (
    (BASELINE, "lloyd", None),
    ("straight_through", "documents", None),
    ("straight_through", "tuned", None),
    ("straight_through", "lloyd", EXACT_BETA),
    ("rotation", "tuned", None),
)


def scaling(data: StudyData, summaries: Sequence[SourceSummary]) -> Figure | None:
    """Error over K with the limits at each K, and the distance from the bound below."""
    chosen = [s for s in summaries if len(data.settings.sizes(s.source)) > 1]  # pyright: ignore
    if not chosen:
        return None
    figure = plots.new_figure(max(4.4 * len(chosen), 7.5), 8.2)
    headline(
        figure,
        f"Codebook size: error and distance from the bound, fresh data ({seeds_words(chosen[0])},\n{PAIRED})",
    )
    axes = figure.subplots(2, len(chosen), squeeze=False)
    for column, summary in enumerate(chosen):
        _scale(data, summary, axes[0][column], axes[1][column])
    handles = [
        Line2D(
            [], [], color=COLOURS[e], linestyle="-" if e == BASELINE else DASHES[p], marker="o", ms=4,
            label="PCA + Lloyd, best restart"
            if e == BASELINE
            else f"{ESTIMATORS[e]}, {protocol_words(p)}{'' if b is None else f', β = {b:g}'}",
        )
        for e, p, b in _SCALED
    ]  # fmt: skip
    for kind, label in (
        ("shannon", "Shannon (lower) bound"),
        ("gaussian_reference", f"Shannon, {data.settings.latent_dim} dims + tail (Gaussian)"),
        ("best_known", REFERENCES["pca"][1]),
    ):
        colour, dashes = plots.LIMIT_STYLES[kind]
        handles.append(Line2D([], [], color=colour, linestyle=dashes, label=label))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, fontsize=8.5, frameon=False, handlelength=3.2
    )
    return figure


def _scale(data: StudyData, summary: SourceSummary, top: Axes, bottom: Axes) -> None:
    source = summary.source
    sizes = sorted(data.settings.sizes(source))  # pyright: ignore[reportArgumentType]
    x = np.array(sizes, dtype=float)
    limits = {k: source_limits(data, source, k) for k in sizes}
    for name, kind in (
        ("shannon", "shannon"),
        ("restricted", "gaussian_reference"),
        ("reference_pca", "best_known"),
    ):
        if all(name in found for found in limits.values()):
            colour, dashes = plots.LIMIT_STYLES[kind]
            y = [limits[k][name].mean for k in sizes]
            top.plot(x, y, color=colour, linestyle=dashes, linewidth=1.4)
            gaps = [gap_db(v, limits[k]["shannon"].mean) for v, k in zip(y, sizes, strict=True)]
            if name == "reference_pca":
                gaps = [limits[k]["reference_pca_db"].mean for k in sizes]
            bottom.plot(x, gaps, color=colour, linestyle=dashes, linewidth=1.4)
    for i, (estimator, protocol, beta) in enumerate(_SCALED):
        look = {
            "color": COLOURS[estimator],
            "linestyle": "-" if estimator == BASELINE else DASHES[protocol],
        }
        at = x * 1.02 ** (i - 2)
        tables = [data.values(source, estimator, protocol, beta=beta, size=k) for k in sizes]
        if not all(tables):
            continue
        bases = [base_values(data, source, k) for k in sizes]
        _points(
            top,
            at,
            [mean_interval(levelled(t, b).values()) for t, b in zip(tables, bases, strict=True)],
            look,
        )
        gaps = [gap_interval(data, source, estimator, protocol, beta, k) for k in sizes]
        _points(bottom, at, gaps, look)
    for ax in (top, bottom):
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(k) for k in sizes])
        ax.minorticks_off()
    low, high = top.get_ylim()
    _fine_log_axis(top, max(low, min(limits[k]["shannon"].mean for k in sizes) / 1.1), high)
    bottom.set_ylim(bottom=0)
    plots.style(top, source_name(source), "codewords K (log)", "squared error per vector (log)")
    plots.style(bottom, "", "codewords K (log)", "dB above the Shannon bound")


def _fine_log_axis(ax: Axes, low: float, high: float) -> None:
    """As `plots.log_axis`, with more ticks: the range is less than a power of ten."""
    plots.log_axis(ax, low, high)
    ticks = [m * 10.0**p for p in range(-3, 4) for m in (1, 1.5, 2, 2.5, 3, 4, 5, 7)]
    ax.set_yticks([t for t in ticks if low <= t <= high])


def restarts(data: StudyData, summaries: Sequence[SourceSummary]) -> Figure:
    """What selecting among Lloyd restarts gains, beside what straight-through adds to the selected one."""
    figure, axes = _panels(len(summaries), 4.2)
    headline(
        figure,
        f"Restarts of PCA + Lloyd: fresh error of the best on training data ({seeds_words(summaries[0])}, {PAIRED})",
    )
    for ax, summary in zip(axes, summaries, strict=False):
        most = max(summary.restarts)
        counts = list(range(1, most + 1))
        level = base_values(data, summary.source)
        values = [
            mean_interval(levelled(restart_values(data, summary.source, n), level).values()) for n in counts
        ]
        _points(ax, np.array(counts, dtype=float), values, {"color": COLOURS[BASELINE], "linestyle": "-"})
        for protocol, beta in (("tuned", data.settings.commitment), ("lloyd", EXACT_BETA)):
            found = data.values(summary.source, "straight_through", protocol, beta=beta)
            if found:
                interval = mean_interval(found.values())
                ax.axhline(
                    interval.mean,
                    color=COLOURS["straight_through"],
                    linestyle=DASHES[protocol],
                    label=f"straight-through, {protocol_words(protocol)}, β = {beta:g}",
                )
        ax.set_xticks(sorted({1, *(n for n in counts if n % 5 == 0), most}))
        base = data.reference(summary.source)
        if base:
            line = plots.Limit("best_known", REFERENCES["pca"][1], mean_interval(base.values()).mean)
            plots.limit_line(ax, line, "horizontal")
        _off_plot(ax, summary)
        plots.style(
            ax,
            f"{source_name(summary.source)}, K = {summary.codebook_size}",
            "restarts to select from",
            "squared error per vector, fresh data",
        )
    colour, dashes = plots.LIMIT_STYLES["best_known"]
    handles = [
        Line2D([], [], color=COLOURS[BASELINE], marker="o", ms=4, label="best of so many restarts, expected"),
        *(
            Line2D(
                [], [], color=COLOURS["straight_through"], linestyle=DASHES[p], label=f"straight-through, {t}"
            )
            for p, t in (("tuned", "tuned rates"), ("lloyd", f"from Lloyd's best, β = {EXACT_BETA:g}"))
        ),
        Line2D([], [], color=colour, linestyle=dashes, label=REFERENCES["pca"][1]),
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=2, fontsize=8.5, frameon=False, handlelength=3.2
    )
    return figure


def _off_plot(ax: Axes, summary: SourceSummary) -> None:
    """The bound as a remark: it lies so far below that the restarts would be one line."""
    bound = summary.limits["shannon"].mean
    plots.note(ax, 0.98, 0.97, f"{bound_name(summary)}\n{bound:.3f}, below the plot", ha="right", va="top")
