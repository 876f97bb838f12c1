"""The study's figures. Every plot of a distortion shows the Shannon bound, and the converse where defined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from codebound.studies import plots
from codebound.studies.initialisation.labels import (
    FAMILIES,
    OPTIMIZERS,
    in_order,
    look,
    source_name,
)
from codebound.studies.initialisation.rundata import StudyData, only
from codebound.studies.initialisation.settings import DOCUMENTED
from codebound.studies.initialisation.summary import Row, Summary
from codebound.studies.statistics import Interval
from codebound.theory.gaussian import gap_db

REAL = ("photos", "data")


def write_figures(out: Path, data: StudyData, summary: Summary) -> dict[str, dict[str, Path]]:
    """All figures as PNG under `out`; {source: {name: path}}."""
    paths: dict[str, dict[str, Path]] = {}
    for source in summary.sources:
        figures = {
            "training": training(data, summary, source),
            "utilisation": utilisation(summary, source),
            "distance": distance(summary, source),
        }
        if len(summary.optimizers(source)) > 1:
            figures["optimizers"] = optimizers(data, summary, source)
        paths[source] = {
            name: plots.save(figure, out / f"{source}-{name}.png") for name, figure in figures.items()
        }
    return paths


def training(data: StudyData, summary: Summary, source: str, optimizer: str = "adam") -> Figure:
    """Four panels: fresh error with its limits, perplexity, dead codes, reconstruction loss."""
    arms = [row.arm for row in summary.select(source, optimizer)]
    figure = plots.new_figure(12, 9.6)
    figure.suptitle(
        f"{source_name(source)}: training from {len(arms)} initialisations "
        f"({OPTIMIZERS.get(optimizer, optimizer)}; {_seeds(summary, source)}, band: 95 % interval)",
        fontsize=12.5,
        x=0.01,
        ha="left",
    )
    axes = figure.subplots(2, 2)
    panels = (
        ("Error on fresh data", "squared error per vector", "fresh_distortion"),
        (
            f"Perplexity of the codes (line: n = {summary.codebook_size})",
            "codewords in effective use",
            "fresh_perplexity",
        ),
        ("Dead codes", "codewords with usage < 1e-4", "fresh_dead"),
        (
            "Reconstruction loss (limits + dropped dimensions)",
            "squared error per vector, ambient space",
            "fresh_reconstruction",
        ),
    )
    for ax, (title, unit, column) in zip(axes.flat, panels, strict=True):
        _curves(ax, data, source, optimizer, column, arms)
        plots.style(ax, title, "training step (log scale after the first evaluation)", unit)
        plots.step_axis(ax, summary.steps, data.settings.evaluate_every)
    error, perplexity, dead, reconstruction = axes.flat
    floor = float(np.mean(list(data.floor(source).values())))
    for ax, column, lift in (
        (error, "fresh_distortion", 0.0),
        (reconstruction, "fresh_reconstruction", floor),
    ):
        lines = [(kind, label, value + lift) for kind, label, value in bounds(summary, source)]
        handles = plots.horizontal_bounds(ax, lines)
        _zoom(ax, summary.select(source, optimizer), column, lines)
        ax.legend(
            handles=handles, fontsize=8.5, loc="lower left", frameon=False, labelspacing=0.25
        ).set_in_layout(False)
    perplexity.axhline(summary.codebook_size, color=plots.MUTED, linewidth=1)
    perplexity.set_ylim(0, summary.codebook_size * 1.04)
    dead.set_ylim(bottom=-0.02 * summary.codebook_size)
    _arm_legend(figure, arms)
    return figure


def optimizers(data: StudyData, summary: Summary, source: str) -> Figure:
    """The tuned arms under each optimizer: whether a better optimizer repairs a bad start."""
    names = summary.optimizers(source)
    figure = plots.new_figure(12, 4.6)
    figure.suptitle(
        f"{source_name(source)}: the same starts under other optimizers ({_seeds(summary, source)}, "
        "band: 95 % interval)",
        fontsize=12.5,
        x=0.01,
        ha="left",
    )
    axes = figure.subplots(1, len(names), sharey=True)
    arms = in_order({r.arm for r in summary.select(source, names[-1])})
    rows = [r for name in names for r in summary.select(source, name) if r.arm in arms]
    lines: list[Line2D] = []
    for ax, name in zip(axes, names, strict=True):
        _curves(ax, data, source, name, "fresh_distortion", arms)
        plots.style(ax, OPTIMIZERS.get(name, name), "training step (log scale)", "")
        plots.step_axis(ax, summary.steps, data.settings.evaluate_every)
        lines = plots.horizontal_bounds(ax, bounds(summary, source))
    axes[0].set_ylabel("squared error per vector, fresh data (log)", fontsize=9.5)
    values = [r.metrics[f"{when}_fresh_distortion"].mean for r in rows for when in ("initial", "final")]
    values += [v for _, _, v in bounds(summary, source)]
    plots.log_axis(axes[0], min(values) / 1.1, max(values) * 1.1)
    handles = [_handle(arm) for arm in arms] + lines
    figure.legend(handles=handles, loc="outside lower center", ncol=4, fontsize=9, frameon=False)
    return figure


def utilisation(summary: Summary, source: str, optimizer: str = "adam") -> Figure:
    """Start against end: perplexity and dead codes of each arm, on fresh data."""
    rows = summary.select(source, optimizer)
    figure = plots.new_figure(12, 1.9 + 0.4 * len(rows))
    figure.suptitle(
        f"{source_name(source)}: how the codebook is used, before and after training "
        f"({_seeds(summary, source)}, bars: 95 % interval)",
        fontsize=12.5,
        x=0.01,
        ha="left",
    )
    axes = figure.subplots(1, 2, sharey=True)
    for ax, name, title, unit in (
        (axes[0], "fresh_perplexity", "Perplexity (higher is better)", "codewords in effective use"),
        (axes[1], "fresh_dead", "Dead codes (lower is better)", "codewords with usage < 1e-4"),
    ):
        _dumbbells(ax, [(r.arm, r.metrics[f"initial_{name}"], r.metrics[f"final_{name}"]) for r in rows])
        plots.style(ax, title, unit)
        ax.set_xlim(-0.02 * summary.codebook_size, 1.02 * summary.codebook_size)
        ax.axvline(summary.codebook_size, color=plots.MUTED, linewidth=1)
        ax.text(
            summary.codebook_size,
            -0.7,
            f"n = {summary.codebook_size}",
            fontsize=8.5,
            color=plots.MUTED,
            ha="right",
        )
    _start_end_legend(figure, [])
    return figure


def distance(summary: Summary, source: str, optimizer: str = "adam") -> Figure:
    """Decibels above the Shannon bound at the start and at the end, with the other limits as lines."""
    rows = [r for r in summary.select(source, optimizer) if "final_gap_db" in r.metrics]
    figure = plots.new_figure(12, 2.3 + 0.4 * len(rows))
    ax = figure.subplots()
    word = "estimated Shannon lower bound" if source in REAL else "Shannon bound"
    plots.style(ax, "", f"decibels above the {word}, fresh data (0 = at the bound)")
    figure.suptitle(
        f"{source_name(source)}: distance from the limit, before and after training "
        f"({_seeds(summary, source)}, bars: 95 % interval)",
        fontsize=12.5,
        x=0.01,
        ha="left",
    )
    points = [(r.arm, r.metrics["initial_gap_db"], r.metrics["final_gap_db"]) for r in rows]
    lines = _vertical_bounds(ax, summary, source)
    means = sorted(m.mean for _, *pair in points for m in pair)
    limit = 1.25 * max([means[int(0.8 * (len(means) - 1))], *(end.mean for _, _, end in points), 0.1])
    _dumbbells(ax, points, clip=limit)
    ax.set_xlim(min(-0.03 * limit, *(m - 0.05 * limit for m in means)), limit)
    _start_end_legend(figure, lines)
    return figure


def bounds(summary: Summary, source: str) -> list[tuple[str, str, float]]:
    """(kind, label, value) of the lines a distortion plot of this source must show."""
    limits = summary.limits[source]
    real = source in REAL
    names = {
        "shannon": "Shannon lower bound (estimated)" if real else "Shannon bound R(D)",
        "converse": "Certified converse, this n and k",
        "best_known": "Best code known",
    }
    if real:
        names["gaussian_reference"] = "Gaussian reference (may be beaten)"
    return [(kind, label, limits[kind].mean) for kind, label in names.items() if kind in limits]


def _curves(ax: Axes, data: StudyData, source: str, optimizer: str, column: str, arms: list[str]) -> None:
    """One line per arm. Seeds redraw the source; what that alone changes is taken out before the band."""
    curves = only(data.curves, source=source, optimizer=optimizer)
    table = {arm: only(curves, arm=arm).pivot(index="seed", columns="step", values=column) for arm in arms}
    limit, floor = (
        data.limit(source, "gaussian_reference" if source in REAL else "shannon"),
        data.floor(source),
    )
    for i, arm in enumerate(reversed(arms)):
        runs = table[arm].to_numpy(dtype=float)
        seeds = [int(str(seed)) for seed in table[arm].index]
        rescale = len(limit) == len(seeds)
        if rescale and column in ("fresh_distortion", "fresh_reconstruction"):
            of_seed = np.array([limit[seed] for seed in seeds])[:, None]
            below = np.array([floor[seed] if column == "fresh_reconstruction" else 0.0 for seed in seeds])[
                :, None
            ]
            runs = (runs - below) * (of_seed.mean() / of_seed) + below.mean()
        seen = look(arm)
        line = {
            "color": seen.colour,
            "linewidth": 2.1 if arm in (*DOCUMENTED, "best") else 1.5,
            "zorder": 3 + i,
        }
        plots.band(ax, table[arm].columns.to_numpy(), runs, line | _dashes(arm))


def _zoom(ax: Axes, rows: list[Row], name: str, lines: list[tuple[str, str, float]]) -> None:
    """Limit the axis to where most arms can be told apart; say what is outside, with its numbers."""
    starts, ends = ({r.arm: r.metrics[f"{when}_{name}"].mean for r in rows} for when in ("initial", "final"))
    usual_start, usual_end = (sorted(values.values())[(len(values) - 1) // 2] for values in (starts, ends))
    shown = [e for e in ends.values() if e <= 1.8 * usual_end]
    shown += [s for s in starts.values() if s <= 1.3 * usual_start]
    values = [v for _, _, v in lines]
    low, high = min(*shown, *values), max(*shown, *values)
    room = 0.06 * (high - low)
    outside = [
        f"{look(a).name}: {starts[a]:.3g} → {ends[a]:.3g}" for a in starts if starts[a] > high + 1.5 * room
    ]
    # Below the lowest bound there is room for the legend that names the bounds, on top for the note.
    above = 1.5 + 0.9 * (len(outside) + 1) * bool(outside)
    ax.set_ylim(low - (1.2 + 0.9 * len(lines)) * room, high + above * room)
    if outside:
        plots.note(ax, 0.02, 0.97, "from above the plot:\n" + "\n".join(outside), va="top", zorder=20)


def _dumbbells(ax: Axes, points: list[tuple[str, Interval, Interval]], clip: float = np.inf) -> None:
    """A row per arm: hollow start, filled end, a line between, interval bars; beyond `clip` an arrow."""
    for y, (arm, start, end) in enumerate(points):
        colour = look(arm).colour
        ax.plot([min(start.mean, clip), end.mean], [y, y], color=colour, alpha=0.35, linewidth=2, zorder=2)
        for value, face, size in ((start, plots.PAPER, 10), (end, colour, 6)):
            if value.mean > clip:
                ax.annotate(
                    f"start {value.mean:.1f} ▸",
                    (clip, y),
                    xytext=(-4, 5),
                    textcoords="offset points",
                    ha="right",
                    fontsize=8.5,
                    color=colour,
                )
                continue
            bar = [[value.mean - value.low], [value.high - value.mean]] if value.known else None
            ax.errorbar(
                value.mean, y, xerr=bar, fmt="o", color=colour, mfc=face, ms=size, capsize=3, zorder=4
            )  # fmt: skip
    ax.set_yticks(range(len(points)), [look(arm).name for arm, *_ in points])
    ax.set_ylim(len(points) - 0.4, -0.6)


def _vertical_bounds(ax: Axes, summary: Summary, source: str) -> list[Line2D]:
    found = bounds(summary, source)
    shannon = {kind: value for kind, _, value in found}.get("shannon")
    handles = []
    for kind, label, value in found:
        if shannon is None:
            break
        colour, dashes = plots.BOUND_STYLES[kind]
        at = gap_db(value, shannon)
        ax.axvline(at, color=colour, linestyle=dashes, linewidth=1.4, zorder=1)
        handles.append(Line2D([], [], color=colour, linestyle=dashes, label=f"{label}: {at:.2f} dB"))
    return handles


def _start_end_legend(figure: Figure, lines: list[Line2D]) -> None:
    marks = [
        Line2D([], [], marker="o", ls="", mfc=plots.PAPER, color=plots.MUTED, ms=10, label="before step 0"),
        Line2D([], [], marker="o", ls="", color=plots.MUTED, ms=6, label="after training"),
    ]
    figure.legend(handles=marks + lines, loc="outside lower center", ncol=5, fontsize=9, frameon=False)


def _arm_legend(figure: Figure, arms: list[str]) -> None:
    """One column per family, its name on top."""
    groups = {t: [a for a in arms if look(a).family == f] for f, t in FAMILIES.items()}
    groups = {title: members for title, members in groups.items() if members}
    tallest = max(map(len, groups.values()))
    handles = []
    for title, members in groups.items():
        handles += [Line2D([], [], ls="", label=title), *map(_handle, members)]
        handles += [Line2D([], [], ls="", label=" ")] * (tallest - len(members))
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=len(groups), frameon=False)
    for text in legend.get_texts():
        if text.get_text() in groups:
            text.set_fontweight("bold")


def _handle(arm: str) -> Line2D:
    return Line2D([], [], color=look(arm).colour, linewidth=2, label=look(arm).name, **_dashes(arm))


def _dashes(arm: str) -> dict[str, Any]:
    dashes = look(arm).dashes
    return {"linestyle": (0, dashes) if dashes else "-"}


def _seeds(summary: Summary, source: str) -> str:
    count = summary.seeds[source]
    return f"mean of {count} seeds" if count > 1 else "one seed"
