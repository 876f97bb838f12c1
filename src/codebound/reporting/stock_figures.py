"""Figures that every study may use: curves, dots with intervals, rate and distortion, bars, images side by side.

Each takes a long table. A level of a factor looks the same in all of them: give `looks`, or take colours in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from codebound.reporting import plots
from codebound.reporting.long_table import LongTable, wide
from codebound.reporting.plots import Limit
from codebound.reporting.statistics import Interval, mean_interval

# Apart for colour-blind readers (Paul Tol), then darker ones of the same hues.
PALETTE = (
    "#0b63a5", "#c2410c", "#117733", "#7a3fa0", "#8a6100", "#b3261e", "#00798c", "#5b9bd5", "#e39a6b", "#57b36f",
    "#aa4499", "#123a5c", "#777777",
)  # fmt: skip
PANEL = (5.5, 3.8)  # inches
MOST_PANELS = 12  # of one figure; it says how many there are beside those
FEW_STEPS = 12  # so many points of a line without a band get a mark each


class Look(NamedTuple):
    """How a level is drawn, and its name in legends."""

    name: str
    colour: str
    emphasis: bool = False  # a thicker line with larger marks: what the study is about
    dashes: plots.Dashes = "-"


def looks_of(levels: Sequence[Any], looks: Mapping[Any, Look] | None = None) -> dict[Any, Look]:
    """A look for each level: the one given, or the next colour under the level's own name."""
    given = looks or {}
    return {
        level: given.get(level) or Look(str(level), PALETTE[number % len(PALETTE)])
        for number, level in enumerate(levels)
    }


def rate_distortion(
    table: LongTable,
    rate: str,
    quality: str,
    *,
    series: str,
    panel: str = "",
    titles: Mapping[Any, str] | None = None,
    looks: Mapping[Any, Look] | None = None,
    bound: Callable[[np.ndarray], np.ndarray] | None = None,
    rates: tuple[float, float] | None = None,
) -> Figure:
    """Quality against rate, a line for each level of `series`, a panel for each of `panel`.

    There are twelve panels at most; a title says so where there are more levels.
    `titles` are of the panels. Without panels, values are means over the table's repeats, with 95 % intervals. `bound`
    is the best quality that any code has at a rate, drawn as the limit; `rates` is the range shown, on a logarithmic
    axis.
    """
    points = wide(table, rate, quality)
    shown = looks_of(table.levels(series), looks)
    figure, panels = _panels(points, panel)
    for axes, level, rows in panels:
        title = (titles or {}).get(level, "" if level is None else str(level))
        plots.style(axes, title, _label(table, rate), _label(table, quality))
        for level, look in shown.items():
            own = pd.DataFrame(rows.loc[rows[series] == level])
            if len(own):
                _rate_line(axes, own, (rate, quality), look, None if panel else table.repeats)
        if rates is not None:
            _log_rates(axes, rates)
        if bound is not None:
            x = np.geomspace(*(rates or (points[rate].min(), points[rate].max())), 200)
            axes.plot(x, bound(x), color=plots.INK, linewidth=1.4, zorder=1, label="limit")
    _legend(figure)
    return figure


def dots(
    rows: Sequence[tuple[str, Sequence[Interval | None]]],
    names: Sequence[str],
    *,
    title: str = "",
    unit: str = "",
    limits: Sequence[Limit] = (),
    colours: Sequence[str] = (),
    most: float = math.inf,
) -> Figure:
    """A line of dots with 95 % intervals for each named row: one dot for each of `names`, the last one filled.

    `limits` are drawn across all rows. Two names are, for example, before and after training. A value above `most` is
    written at the edge.
    """
    figure = plots.new_figure(9, 1.4 + 0.34 * len(rows))
    axes = figure.subplots()
    plots.style(axes, title, unit)
    for y, (_, intervals) in enumerate(rows):
        colour = colours[y] if colours else PALETTE[0]
        for place, interval in enumerate(intervals):
            if interval is None or not math.isfinite(interval.mean):
                continue
            if interval.mean > most:
                axes.annotate(
                    f"{interval.mean:.1f} ▸", (most, y), (-4, 5), textcoords="offset points", ha="right",
                    fontsize=8.5, color=colour,
                )  # fmt: skip
                continue
            bars = [[interval.mean - interval.low], [interval.high - interval.mean]]
            axes.errorbar(
                interval.mean,
                y,
                xerr=bars if interval.known else None,
                fmt="o",
                color=colour,
                markerfacecolor=colour if place == len(intervals) - 1 else plots.PAPER,
                markersize=6,
                capsize=2.5,
            )
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    handles = [plots.limit_line(axes, limit, "vertical") for limit in limits]
    if math.isfinite(most):
        axes.set_xlim(right=most)
    for place, name in enumerate(names if len(names) > 1 else ()):
        face = plots.INK if place == len(names) - 1 else plots.PAPER
        handles += axes.plot([], [], "o", color=plots.INK, markerfacecolor=face, label=name)
    if handles:
        columns = _columns(figure, [str(handle.get_label()) for handle in handles])
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8.5, frameon=False)
    return figure


def curves(
    table: LongTable,
    metrics: Sequence[str],
    *,
    over: str,
    series: str,
    panel: str = "",
    titles: Mapping[Any, str] | None = None,
    looks: Mapping[Any, Look] | None = None,
    limits: Mapping[str, Sequence[Limit]] | None = None,
    bands: Sequence[Any] | None = None,
    log_after: int = 0,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Metrics against the factor `over` (the step): means over the repeats with their 95 % band.

    A panel for each metric, or for each level of the factor `panel` under its title. `bands` are the levels of `series`
    that get a band, all of them unless given; those without one, of many whose bands would hide one another, are lines
    of the means, with marks where they are few. `log_after`: a logarithmic axis from this step on, where the start
    matters. `ranges` are those shown, by metric.
    """
    shown = looks_of(table.levels(series), looks)
    parts = [(metric, level) for metric in metrics for level in (table.levels(panel) if panel else [None])]
    columns = min(len(parts), 3) if panel else len(parts) if len(parts) <= 3 else 2
    rows = math.ceil(len(parts) / columns)
    size = (3.9 * columns, 2.6 * rows + 0.7) if panel else (PANEL[0] * columns, 3.8 * rows + 0.8)
    figure, lines = plots.new_figure(*size), []
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes in list(grid)[len(parts) :]:
        axes.set_axis_off()
    for axes, (metric, level) in zip(figure.axes, parts, strict=False):
        title = (titles or {}).get(level, str(level)) if panel else table.metric[metric].label
        plots.style(axes, title, over.replace("_", " "), table.metric[metric].unit)
        if all(isinstance(place, int) for place in table.levels(over)):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        points = wide(table, metric)
        if panel:
            points = pd.DataFrame(points.loc[points[panel] == level])
        for arm, look in shown.items():
            own = pd.DataFrame(points.loc[points[series] == arm])
            by_step = own.pivot_table(index=table.repeats, columns=over, values=metric, dropna=False)
            if by_step.size:
                line = {"color": look.colour, "label": look.name, "linestyle": look.dashes, "linewidth": 1.5}
                steps, values = by_step.columns.to_numpy(dtype=float), by_step.to_numpy(dtype=float)
                if bands is None or arm in bands:
                    plots.band(axes, steps, values, line, table.overlap, table.metric[metric].floor)
                else:
                    marks = {"marker": "o", "markersize": 4} if len(steps) <= FEW_STEPS else {}
                    axes.plot(steps, np.nanmean(values, 0), **marks, **line)
        lines += [plots.limit_line(axes, limit, "horizontal") for limit in (limits or {}).get(metric, ())]
        if log_after:
            plots.step_axis(axes, max(table.levels(over)), log_after)
        if metric in (ranges or {}):
            axes.set_ylim(*(ranges or {})[metric])
    _legend(figure, lines)
    return figure


def bars(
    groups: Sequence[str],
    heights: Mapping[str, Sequence[float]],
    *,
    title: str,
    axis: str,
    unit: str,
    colours: Mapping[str, str],
    limits: tuple[str, Sequence[float]] | None = None,
) -> Figure:
    """Bars side by side in each group, a colour for each name; `limits` has one value for each group."""
    figure = plots.new_figure(11, 3.8)
    axes = figure.subplots()
    plots.style(axes, title, axis, unit)
    width = 0.84 / len(heights)
    for number, (name, values) in enumerate(heights.items()):
        at = [place + (number - (len(heights) - 1) / 2) * width for place in range(len(groups))]
        axes.bar(at, values, width, label=name, color=colours[name])
    if limits is not None:
        for place, value in enumerate(limits[1]):
            axes.hlines(value, place - 0.45, place + 0.45, color=plots.INK, linewidth=1.4)
        axes.plot([], [], color=plots.INK, linewidth=1.4, label=limits[0])
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_ylim(0, max(max(values) for values in heights.values()) * 1.02)
    _legend(figure)
    return figure


def images(pictures: Sequence[tuple[str, np.ndarray]], *, columns: int = 4, height: float = 2.6) -> Figure:
    """Pictures side by side under their titles, pixel for pixel; each an array [h, w] or [h, w, 3]."""
    rows = math.ceil(len(pictures) / columns)
    figure = plots.new_figure(11, height * rows)
    grid = figure.subplots(rows, min(columns, len(pictures)), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (title, pixels) in zip(grid.flat, pictures, strict=False):
        axes.imshow(pixels, cmap="gray" if pixels.ndim == 2 else None, interpolation="nearest")
        axes.set_title(title, loc="left", fontsize=9, color=plots.INK)
    return figure


def _panels(points: pd.DataFrame, panel: str) -> tuple[Figure, Iterator[tuple[Axes, Any, pd.DataFrame]]]:
    """A figure, and its axes with their level and rows: one for each level of the factor, or one for all."""
    if not panel:
        figure = plots.new_figure(11, 5.4)
        return figure, iter([(figure.subplots(), None, points)])
    every = list(dict.fromkeys(points[panel]))
    levels = every[:MOST_PANELS]
    columns = min(len(levels), 2)
    count = math.ceil(len(levels) / columns)
    figure = plots.new_figure(PANEL[0] * columns, PANEL[1] * count)
    if len(every) > len(levels):
        figure.suptitle(f"The first {len(levels)} of {len(every)}", x=0.01, ha="left", fontsize=11)
    grid = figure.subplots(count, columns, squeeze=False).flat
    for axes in list(grid)[len(levels) :]:
        axes.set_axis_off()
    parts = (
        (axes, level, pd.DataFrame(points.loc[points[panel] == level]))
        for axes, level in zip(figure.axes, levels, strict=False)
    )
    return figure, parts


def _rate_line(
    axes: Axes, rows: pd.DataFrame, names: tuple[str, str], look: Look, repeats: str | None
) -> None:
    """The points of one series joined by a line, or, over repeats, their means with intervals."""
    rate, quality = names
    marks: dict[str, Any] = {
        "color": look.colour,
        "label": look.name,
        "linewidth": 2.2 if look.emphasis else 1.4,
        "linestyle": look.dashes,
        "marker": "o" if look.emphasis or repeats else ".",
        "markersize": 5,
    }
    if repeats is None:
        ordered = rows.sort_values(rate)
        axes.plot(ordered[rate], ordered[quality], **marks)
        return
    other = [name for name in rows.columns if name not in (rate, quality, repeats)]
    groups = [group for _, group in rows.groupby(other, dropna=False, sort=False)] if other else [rows]
    points = sorted((float(np.mean(g[rate])), mean_interval(g[quality])) for g in groups)
    half = [(interval.high - interval.low) / 2 if interval.known else 0.0 for _, interval in points]
    axes.errorbar([x for x, _ in points], [y.mean for _, y in points], yerr=half, capsize=2, **marks)


def _log_rates(axes: Axes, rates: tuple[float, float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(*rates)
    powers = range(math.floor(math.log10(rates[0])), math.ceil(math.log10(rates[1])) + 1)
    ticks = [m * 10.0**p for p in powers for m in (1, 3) if rates[0] <= m * 10.0**p <= rates[1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _legend(figure: Figure, more: Sequence[Line2D] = ()) -> None:
    """What the panels name, once, and further lines, below all of them."""
    named: dict[str, Any] = {str(line.get_label()): line for line in more}
    for axes in figure.axes:
        named |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    columns = _columns(figure, list(named))
    figure.legend(
        list(named.values()),
        list(named),
        loc="outside lower center",
        ncols=columns,
        fontsize=8.5,
        frameon=False,
    )


def _columns(figure: Figure, labels: Sequence[str]) -> int:
    """How many columns of a legend fit beside one another: a letter takes about 0.066 inches, a line and gaps 0.65."""
    widest = 0.65 + 0.066 * max(map(len, labels), default=0)
    return max(1, min(4, int(figure.get_figwidth() / widest)))


def _label(table: LongTable, name: str) -> str:
    metric = table.metric[name]
    return f"{metric.label}, {metric.unit}" if metric.unit else metric.label
