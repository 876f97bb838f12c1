"""The study's figures. Every plot of a distortion shows the Shannon bound, and the converse where defined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from codebound.reporting import plots
from codebound.reporting.statistics import Interval
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
from codebound.theory.gaussian import gap_db


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
        lines = [_lifted(limit, lift) for limit in limits(summary, source)]
        handles = [plots.limit_line(ax, limit, "horizontal") for limit in lines]
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
        lines = [plots.limit_line(ax, limit, "horizontal") for limit in limits(summary, source)]
    axes[0].set_ylabel("squared error per vector, fresh data (log)", fontsize=9.5)
    values = [r.metrics[f"{when}_fresh_distortion"].mean for r in rows for when in ("initial", "final")]
    values += [
        v for limit in limits(summary, source) for v in (limit.value, *(limit.interval or ())) if v > 0
    ]
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
    """Decibels at the start and at the end, with the other limits as lines.

    Above the Shannon bound; where that is only estimated, to the Gaussian reference, with the bound and its interval
    as a band.
    """
    estimated = summary.estimated(source)
    name = "gaussian_reference_db" if estimated else "gap_db"
    rows = [r for r in summary.select(source, optimizer) if f"final_{name}" in r.metrics]
    figure = plots.new_figure(12, 2.3 + 0.4 * len(rows))
    ax = figure.subplots()
    unit = (
        "decibels to the Gaussian reference, fresh data (0 = what a Gaussian of equal covariance needs; not a bound)"
        if estimated
        else "decibels above the Shannon bound, fresh data (0 = at the bound)"
    )
    plots.style(ax, "", unit)
    figure.suptitle(
        f"{source_name(source)}: distance from the limit, before and after training "
        f"({_seeds(summary, source)}, bars: 95 % interval)",
        fontsize=12.5,
        x=0.01,
        ha="left",
    )
    points = [(r.arm, r.metrics[f"initial_{name}"], r.metrics[f"final_{name}"]) for r in rows]
    lines = _in_decibels(limits(summary, source), "gaussian_reference" if estimated else "shannon")
    handles = [plots.limit_line(ax, limit, "vertical", " dB") for limit in lines]
    means = sorted(m.mean for _, *pair in points for m in pair)
    right = 1.25 * max([means[int(0.8 * (len(means) - 1))], *(end.mean for _, _, end in points), 0.1])
    _dumbbells(ax, points, clip=right)
    left = min([*means, *(v for limit in lines for v in (limit.value, *(limit.interval or ())))])
    ax.set_xlim(left - 0.03 * (right - left), right)
    _start_end_legend(figure, handles)
    return figure


def limits(summary: Summary, source: str) -> list[plots.Limit]:
    """The lines a distortion plot of this source must show: its bounds, and what else to compare with."""
    found, estimated = summary.limits[source], summary.estimated(source)
    names = {
        "shannon": "Shannon lower bound (estimated)" if estimated else "Shannon bound R(D)",
        "converse": "Certified converse, this n and k",
        "best_known": "Best code known",
    }
    if estimated:
        names["gaussian_reference"] = "Gaussian reference (may be beaten)"
    lines = [plots.Limit(kind, label, found[kind].mean) for kind, label in names.items() if kind in found]
    if not estimated:
        return lines
    interval = (found["shannon_low"].mean, found["shannon_high"].mean)
    return [line._replace(interval=interval) if line.kind == "shannon" else line for line in lines]


def _lifted(limit: plots.Limit, by: float) -> plots.Limit:
    ends = limit.interval
    return limit._replace(value=limit.value + by, interval=ends and (ends[0] + by, ends[1] + by))


def _in_decibels(lines: list[plots.Limit], origin: str) -> list[plots.Limit]:
    """The limits relative to one of them; an end of an interval at zero error has no decibels and is left out."""
    zero = next((line.value for line in lines if line.kind == origin), 0.0)
    found = []
    for line in lines if zero > 0 else []:
        if line.value > 0:
            ends = line.interval if line.interval and min(line.interval) > 0 else None
            decibels = ends and (gap_db(ends[0], zero), gap_db(ends[1], zero))
            found.append(line._replace(value=gap_db(line.value, zero), interval=decibels))
    return found


def _curves(ax: Axes, data: StudyData, source: str, optimizer: str, column: str, arms: list[str]) -> None:
    """One line per arm. Seeds redraw the source; what that alone changes is taken out before the band."""
    curves = only(data.curves, source=source, optimizer=optimizer)
    table = {arm: only(curves, arm=arm).pivot(index="seed", columns="step", values=column) for arm in arms}
    limit, floor = (
        data.limit(source, "gaussian_reference" if data.limit(source, "shannon_low") else "shannon"),
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
        plots.band(ax, table[arm].columns.to_numpy(), runs, line | _dashes(arm), data.overlap(source))


def _zoom(ax: Axes, rows: list[Row], name: str, lines: list[plots.Limit]) -> None:
    """Limit the axis to where most arms can be told apart; say what is outside, with its numbers."""
    starts, ends = ({r.arm: r.metrics[f"{when}_{name}"].mean for r in rows} for when in ("initial", "final"))
    usual_start, usual_end = (sorted(values.values())[(len(values) - 1) // 2] for values in (starts, ends))
    shown = [e for e in ends.values() if e <= 1.8 * usual_end]
    shown += [s for s in starts.values() if s <= 1.3 * usual_start]
    values = [v for limit in lines for v in (limit.value, *(limit.interval or ()))]
    low, high = min(*shown, *values), max(*shown, *values)
    room = 0.06 * (high - low)
    outside = [
        f"{look(a).name}: {starts[a]:.3g} → {ends[a]:.3g}" for a in starts if starts[a] > high + 1.5 * room
    ]
    # Below the lowest limit there is room for the legend that names them, on top for the note.
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
