"""Figures with one look: Agg through the object API, so that nothing global is touched."""

from __future__ import annotations

import io
from colorsys import hls_to_rgb, rgb_to_hls
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from codebound.files import replacing
from codebound.reporting.statistics import student_half_width

INK, MUTED, GRID, PAPER = "#1b1f24", "#5b6470", "#e3e6ea", "#ffffff"
DPI = 144

# A limit or reference looks the same in every plot. Shannon and the converse are bounds; the other two are not:
# the best code known may be improved on, and real data may come under the Gaussian reference.
Dashes = tuple[float | int, tuple[float | int, ...]] | Literal["-"]
LIMIT_STYLES: dict[str, tuple[str, Dashes]] = {
    "shannon": ("#1b1f24", "-"),
    "converse": ("#1b1f24", (0, (6, 2))),
    "best_known": ("#5b6470", (0, (1, 1.5))),
    "gaussian_reference": ("#5b6470", (0, (6, 2, 1, 2))),
}


def new_figure(width: float | int, height: float | int) -> Figure:
    """An empty figure in inches, laid out by the constrained solver."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes, title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """Title on the left, light grid behind, no box."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel(xlabel, fontsize=9.5, color=INK)
    axes.set_ylabel(ylabel, fontsize=9.5, color=INK)
    axes.tick_params(labelsize=8.5, colors=MUTED, length=3)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)


def band(
    axes: Axes,
    x: np.ndarray,
    runs: np.ndarray,
    line: dict[str, Any],
    overlap: float | int = 0,
    floor: float | int = -np.inf,
) -> None:
    """Mean over the first axis of `runs` [seeds, steps], with its Student-t 95 % band, which ends at `floor`.

    `overlap` as in `statistics`: 0 for independent seeds. `floor`: what no mean can be below, 0 for counts and errors.
    """
    # Where a seed has no value the others' mean goes on, without a band.
    mean = np.nanmean(runs, 0)
    axes.plot(x, mean, **line)
    if len(runs) > 1:
        half = student_half_width(runs, overlap)
        axes.fill_between(
            x, np.maximum(mean - half, floor), mean + half, color=str(line["color"]), alpha=0.15, linewidth=0
        )


class Limit(NamedTuple):
    """A line of a plot: a key of `LIMIT_STYLES`, its label, its value, and the value's interval where it has one."""

    kind: str
    label: str
    value: float
    interval: tuple[float, float] | None = None


def limit_line(
    axes: Axes, limit: Limit, direction: Literal["horizontal", "vertical"], unit: str = ""
) -> Line2D:
    """Draw a limit across the axes, its interval as a shaded band; returns a handle for a legend, with the value."""
    colour, dashes = LIMIT_STYLES[limit.kind]
    line, span = (axes.axhline, axes.axhspan) if direction == "horizontal" else (axes.axvline, axes.axvspan)
    line(limit.value, color=colour, linestyle=dashes, linewidth=1.4, zorder=1)
    digits = 2 if unit else 3
    label = f"{limit.label}: {limit.value:.{digits}f}{unit}"
    if limit.interval is not None:
        low, high = limit.interval
        span(low, high, color=colour, alpha=0.1, linewidth=0, zorder=0)
        label += f" [{low:.{digits}f}, {high:.{digits}f}]"
    return Line2D([], [], color=colour, linestyle=dashes, linewidth=1.4, label=label.replace("-", "−"))


def step_axis(axes: Axes, last: int, first: int) -> None:
    """Steps on a scale linear up to the first evaluation and logarithmic beyond: the start matters."""
    axes.set_xscale("symlog", linthresh=max(first, 1), linscale=0.6)
    axes.set_xlim(-0.12 * first, last * 1.03)
    ticks = [0, *(t for t in _ladder(first, last) if t < last * 0.75), last]
    axes.set_xticks(ticks, [f"{t:,}" for t in ticks])
    axes.minorticks_off()


def _ladder(first: int, last: int) -> list[int]:
    steps, value = [], first
    while value <= last:
        steps.append(value)
        value = value * 2 if str(value)[0] in "15" else int(value * 2.5)
    return steps


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG, whole or not at all; without a time stamp, so that equal data give equal bytes."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None}, facecolor=figure.get_facecolor())
    return path


class Picture(NamedTuple):
    """A PNG that a notebook shows when it is a cell's last value."""

    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png


def picture(figure: Figure) -> Picture:
    """The figure as a picture for a notebook (which shows pyplot's figures only)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=figure.get_facecolor())
    return Picture(buffer.getvalue())


# In the dark the four greys change places, and a colour becomes as light as it has to be.
_DARK = {INK: "#e7eaee", MUTED: "#9aa4b0", GRID: "#343a42", PAPER: "#14171b"}
_LIGHT_ENOUGH = 0.62


def darken(figure: Figure) -> None:
    """Redraw a figure that was made for white paper in the colours of a dark page, in place."""
    FigureCanvasAgg(
        figure
    ).draw()  # what is made only when a figure is drawn, such as its ticks, is there now
    figure.set_facecolor(_dark(PAPER))
    for axes in figure.axes:
        axes.set_facecolor(_dark(PAPER))
    for artist in figure.findobj(include_self=False):
        if isinstance(artist, Text):
            artist.set_color(_dark(artist.get_color()))
        elif isinstance(artist, Line2D):
            # All are read before any is set: a marker may take its colour from the line's.
            line, face, edge = (
                _dark(colour)
                for colour in (artist.get_color(), artist.get_markerfacecolor(), artist.get_markeredgecolor())
            )
            artist.set(color=line, markerfacecolor=face, markeredgecolor=edge)
        elif isinstance(artist, Collection):
            if artist.get_array() is None:  # mapped values keep their colour map
                artist.set_facecolor([_dark(colour) for colour in artist.get_facecolor()])
            artist.set_edgecolor([_dark(colour) for colour in artist.get_edgecolor()])
        elif isinstance(artist, Patch) and artist not in (figure.patch, *(a.patch for a in figure.axes)):
            face, edge = artist.get_facecolor(), artist.get_edgecolor()
            artist.set(facecolor=_dark(face), edgecolor=_dark(edge))


def _dark(colour: Any) -> Any:
    if isinstance(colour, str) and colour.lower() in ("none", "auto"):
        return colour
    red, green, blue, alpha = to_rgba(colour)
    name = to_hex((red, green, blue))
    if name in _DARK:
        return (*to_rgb(_DARK[name]), alpha)
    hue, lightness, saturation = rgb_to_hls(red, green, blue)
    if saturation < 0.2:  # greys: what stood out on white stands out on black
        lightness = 1 - 0.85 * lightness
    return (*hls_to_rgb(hue, max(lightness, _LIGHT_ENOUGH if saturation >= 0.2 else 0), saturation), alpha)
