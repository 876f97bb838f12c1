"""The study's figures. Every plot of an error shows the Shannon bound and the optimal-quantizer reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from codebound.studies import plots
from codebound.studies.estimators.arms import BASELINE, EXACT_BETA
from codebound.studies.estimators.labels import (
    COLOURS,
    DASHES,
    ESTIMATORS,
    PROTOCOLS,
    WAYS,
    source_name,
)
from codebound.studies.estimators.rundata import StudyData, Values, restart_values
from codebound.studies.estimators.study import VERIFIED_ON
from codebound.studies.estimators.summary import SourceSummary, bound_name
from codebound.studies.estimators.summary import limits as source_limits
from codebound.studies.statistics import Interval, mean_interval, paired_percent
from codebound.theory.gaussian import gap_db

REFERENCES = {
    "pca": ("best_known", "Optimal quantizer behind PCA"),
    "free": ("converse", "… without the limit of m dimensions"),
}


def write_figures(
    out: Path, data: StudyData, summaries: Sequence[SourceSummary]
) -> dict[str, dict[str, Path]]:
    """All figures as PNG under `out`: {source, or "all": {name: path}}."""
    paths: dict[str, dict[str, Path]] = {}

    def save(group: str, name: str, figure: Figure | None) -> None:
        if figure is not None:
            paths.setdefault(group, {})[name] = plots.save(figure, out / f"{group}-{name}.png")

    save("all", "verification", verification(data))
    save("all", "convergence", convergence(data, summaries))
    save("all", "commitment", commitment(data, summaries))
    save("all", "scaling", scaling(data, summaries))
    save("all", "restarts", restarts(data, summaries))
    save("all", "cost", cost(data))
    for summary in summaries:
        save(summary.source, "ranking", ranking(data, summary))
        save(summary.source, "mlp", networks(data, summary))
    return paths


def _protocol(name: str) -> str:
    return "from Lloyd's best" if name == "lloyd" else PROTOCOLS[name][0].lower()


def _level(values: Values, base: Values) -> Values:
    """Values of seeds whose sources differ, brought to one source by a baseline that all of them share.

    v·mean(base)/base: the interval is then of the difference from the baseline, as in the tables.
    """
    if not set(values) <= set(base):
        return values
    middle = float(np.mean([base[s] for s in values]))
    return {s: v * middle / base[s] for s, v in values.items()}


_PAIRED = "95 % intervals beside PCA + Lloyd, best restart"


def _base(data: StudyData, source: str, size: int | None = None) -> Values:
    return data.values(source, BASELINE, "lloyd", size=size)


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(text, fontsize=12.5, x=0.01, ha="left")


def _lines(found: dict[str, Interval], m: int) -> list[plots.Limit]:
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


def _seeds(summary: SourceSummary) -> str:
    return f"{summary.seeds} seeds" if summary.seeds > 1 else "1 seed"


def verification(data: StudyData) -> Figure | None:
    """Manual against automatic: the gradients' differences by step, and the two runs' errors over one another."""
    cells = list(data.of("verify", VERIFIED_ON).values())
    if not cells:
        return None
    figure = plots.new_figure(12, 4.8)
    _title(
        figure,
        f"Verification: gradients by hand against autograd, same batches and start, float64 ({len(cells)} seeds)",
    )
    left, right = figure.subplots(1, 2)
    colours: dict[str, str] = dict(
        zip(cells[0]["ways"], ("#AA4499", "#CC3311", "#009988", "#EE7733"), strict=True)
    )
    for way, colour in colours.items():
        worst = np.max(
            [
                np.maximum(c["ways"][way]["encoder_gradient"], c["ways"][way]["codebook_gradient"])
                for c in cells
            ],
            axis=0,
        )
        apart = np.max([c["ways"][way]["trajectory"] for c in cells], axis=0)
        left.plot(
            np.arange(len(worst)), np.maximum(worst, 1e-17), color=colour, label=f"gradient: {WAYS[way]}"
        )
        left.plot(np.arange(len(apart)), np.maximum(apart, 1e-17), color=colour, linestyle=(0, (1.2, 1.4)))
    left.axhline(1e-10, color=plots.INK, linewidth=1.2)
    left.text(0, 1.3e-10, "required of gradients: 1e-10", fontsize=8.5, color=plots.INK)
    left.axhline(1e-8, color=plots.MUTED, linewidth=1.2, linestyle=(0, (1.2, 1.4)))
    left.text(0, 1.3e-8, "required of trajectories: 1e-8", fontsize=8.5, color=plots.MUTED)
    left.set_yscale("log")
    left.set_ylim(1e-17, 1e-6)
    plots.style(
        left,
        "Largest relative difference over seeds",
        "training step",
        "relative difference (solid: gradient, dotted: trajectory)",
    )
    left.legend(fontsize=8, frameon=False, loc="upper right")
    _verified_curves(right, data, cells, colours)
    return figure


def _verified_curves(ax: Axes, data: StudyData, cells: list[dict[str, Any]], colours: dict[str, str]) -> None:
    for way, colour in colours.items():
        curves = np.array([c["ways"][way]["curve"] for c in cells])
        steps = np.minimum(np.arange(curves.shape[1]) * 10, data.settings.verify_steps)
        plots.band(ax, steps, curves, {"color": colour, "linewidth": 1.4})
    lines = []
    if VERIFIED_ON in data.sources:
        found = source_limits(data, VERIFIED_ON)
        lines = [plots.limit_line(ax, line, "horizontal") for line in _lines(found, data.settings.latent_dim)]
    plots.style(
        ax,
        "Test error while being verified (lines lie over one another)",
        "training step",
        "squared error per vector",
    )
    _boxed(ax, lines)


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
    _title(
        figure,
        f"Convergence: error on {data.settings.test_samples:,} test vectors over {data.settings.long_steps} steps "
        f"({_seeds(summaries[0])}, {_PAIRED})",
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
            base = _base(data, summary.source)
            scale = np.array([np.mean([base[s] for s in table.index]) / base[s] for s in table.index])
            table = table.mul(scale, axis=0)
            plots.band(ax, table.columns.to_numpy(dtype=float), table.to_numpy(), line)
            tops.append(float(table.to_numpy()[:, min(3, table.shape[1] - 1)].mean()))
        handles = [
            plots.limit_line(ax, line, "horizontal")
            for line in _lines(summary.limits, data.settings.latent_dim)
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
        _boxed(ax, handles)
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[e],
            linestyle=DASHES[p],
            label=f"{ESTIMATORS[e]}, {_protocol(p)}{'' if b is None else f', β = {b:g}'}",
        )
        for e, p, b in _CURVES
    ]
    handles.append(Line2D([], [], color=COLOURS[BASELINE], label="PCA + Lloyd, best restart (fresh data)"))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, fontsize=8.5, frameon=False, handlelength=3.2
    )
    return figure


def _boxed(ax: Axes, handles: list[Line2D]) -> None:
    legend = ax.legend(handles=handles, fontsize=7.5, loc="upper right", framealpha=0.9, edgecolor=plots.GRID)
    legend.set_in_layout(False)
    legend.set_zorder(20)


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
    _title(
        figure,
        f"Commitment β: what it changes ({_seeds(summaries[0])}, {_PAIRED}; below, beside the same at β = "
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
            level = _base(data, summary.source)
            means = [mean_interval(_level(t, level).values()) for t in tables]
            _points(top, np.array(betas) + shift, means, look)
            _points(bottom, np.array(betas) + shift, [paired_percent(t, base) for t in tables], look)
        handles = [
            plots.limit_line(top, line, "horizontal")
            for line in _lines(summary.limits, data.settings.latent_dim)
        ]
        low, high = top.get_ylim()
        top.set_ylim(low, high + 0.45 * (high - low))
        _boxed(top, handles)
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
                label=f"{ESTIMATORS[e]}, {_protocol(p)}",
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
    _title(
        figure,
        f"Codebook size: error and distance from the bound, fresh data ({_seeds(chosen[0])},\n{_PAIRED})",
    )
    axes = figure.subplots(2, len(chosen), squeeze=False)
    for column, summary in enumerate(chosen):
        _scale(data, summary, axes[0][column], axes[1][column])
    handles = [
        Line2D(
            [], [], color=COLOURS[e], linestyle="-" if e == BASELINE else DASHES[p], marker="o", ms=4,
            label="PCA + Lloyd, best restart"
            if e == BASELINE
            else f"{ESTIMATORS[e]}, {_protocol(p)}{'' if b is None else f', β = {b:g}'}",
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
        bases = [_base(data, source, k) for k in sizes]
        _points(
            top, at, [mean_interval(_level(t, b).values()) for t, b in zip(tables, bases, strict=True)], look
        )
        gaps = [_gap(data, source, estimator, protocol, beta, k) for k in sizes]
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


def _gap(
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


def restarts(data: StudyData, summaries: Sequence[SourceSummary]) -> Figure:
    """What selecting among Lloyd restarts gains, beside what straight-through adds to the selected one."""
    figure, axes = _panels(len(summaries), 4.2)
    _title(
        figure,
        f"Restarts of PCA + Lloyd: fresh error of the best on training data ({_seeds(summaries[0])}, {_PAIRED})",
    )
    for ax, summary in zip(axes, summaries, strict=False):
        most = max(summary.restarts)
        counts = list(range(1, most + 1))
        level = _base(data, summary.source)
        values = [
            mean_interval(_level(restart_values(data, summary.source, n), level).values()) for n in counts
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
                    label=f"straight-through, {_protocol(protocol)}, β = {beta:g}",
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


def ranking(data: StudyData, summary: SourceSummary) -> Figure:
    """Decibels above the bound of every line of the ranking, with the references as lines."""
    rows = summary.rows
    groups = list(dict.fromkeys(r.shown.group for r in rows))
    figure = plots.new_figure(12, 2.2 + 0.3 * (len(rows) + len(groups)))
    estimated = "shannon_low" in summary.limits
    _title(
        figure,
        f"{source_name(summary.source)}, K = {summary.codebook_size}: distance from the bound after "
        f"{data.settings.steps} steps ({_seeds(summary)}, {_PAIRED};\nof that one itself, over seeds)",
    )
    ax = figure.subplots()
    labels, at, y = [], [], 0.0
    for group in groups:
        labels.append(f"{group.upper()}  ")
        at.append(y)
        y += 0.85
        for row in (r for r in rows if r.shown.group == group):
            shown = row.shown
            gap = _gap(data, summary.source, shown.estimator, shown.protocol, shown.beta)
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
    for line in _lines(found, m):
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
    _title(
        figure,
        f"{source_name(summary.source)}, K = {summary.codebook_size}: an MLP encoder and decoder, "
        f"{s.mlp_steps:,} steps ({_seeds(summary)}, 95 % intervals)",
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
    lines = _lines(summary.limits, s.latent_dim)
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


def cost(data: StudyData) -> Figure | None:
    """Time and working memory of a step."""
    timing = data.timing
    if timing is None:
        return None
    ways = list(timing["seconds"])
    figure = plots.new_figure(12, 1.9 + 0.42 * len(ways))
    _title(
        figure,
        f"Cost of one training step, batch {data.settings.batch_size}, float64, one thread "
        f"({data.settings.timing_rounds} interleaved rounds)",
    )
    left, right = figure.subplots(1, 2, sharey=True)
    for y, way in enumerate(ways):
        ms = 1e3 * np.array(timing["seconds"][way])
        low, middle, high = np.percentile(ms, [10, 50, 90])
        left.barh(y, middle, color="#6699CC", height=0.6)
        left.plot([low, high], [y, y], color=plots.INK, linewidth=1.4)
        left.text(high, y, f"  {middle:.2f} ms", va="center", fontsize=8.5)
        memory = timing["peak_bytes"][way] / 1e6
        right.barh(y, memory, color="#999933", height=0.6)
        right.text(memory, y, f"  {memory:.2f} MB", va="center", fontsize=8.5)
    left.set_yticks(range(len(ways)), [WAYS[w] for w in ways])
    left.invert_yaxis()
    plots.style(left, "Time (median; line: 10th to 90th percentile)", "milliseconds per step of one run")
    many = f" ({WAYS['manual_batched_many']}: all {timing['many']} together)"
    plots.style(right, "Working memory at the peak", f"megabytes{many}")
    for ax in (left, right):
        ax.set_xlim(right=1.18 * ax.get_xlim()[1])
    return figure
