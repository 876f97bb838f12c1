"""Rate and distortion of each picture, and what an index costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from codebound.reporting import plots
from codebound.studies.compression.codecs import OURS
from codebound.studies.compression.labels import COLOURS, MODES, NAMES
from codebound.studies.compression.summary import Data, Measure

SHOWN = 12  # pictures
WIDEST = 1.2  # bits per pixel


def curves(data: Data, measure: Measure) -> Figure:
    """A panel per picture: PSNR or SSIM against bits per pixel of whole files."""
    shown = data.pictures[:SHOWN]
    columns = min(len(shown), 2)
    rows = math.ceil(len(shown) / columns)
    figure = plots.new_figure(11, 3.8 * rows)
    for axes, picture in zip(figure.subplots(rows, columns, squeeze=False).flat, shown, strict=False):
        plots.style(axes, picture["name"], "bits per pixel", "PSNR, dB" if measure == "psnr" else "SSIM")
        for codec in data.codecs:
            points = [p for p in data.curve(picture, codec).points if p[measure] is not None]
            points = sorted((p["bits_per_pixel"], p[measure]) for p in points)
            axes.plot(
                *zip(*points, strict=True),
                color=COLOURS[codec],
                label=NAMES[codec],
                linewidth=2.2 if codec == OURS else 1.4,
                marker="o" if codec == OURS else ".",
                markersize=5,
            )
        axes.set_xlim(0.02, WIDEST)
        axes.set_xscale("log")
        axes.set_xticks([0.03, 0.1, 0.3, 1], ["0.03", "0.1", "0.3", "1"])
        axes.minorticks_off()
    figure.axes[0].legend(fontsize=8.5, frameon=False)
    return figure


def costs(rows: Sequence[dict[str, Any]]) -> Figure:
    """Bits per index of each level, in every way to write it."""
    figure = plots.new_figure(11, 3.8)
    axes = figure.subplots()
    plots.style(axes, "What an index costs, held-out pictures", "level", "bits per index")
    kinds = [kind for kind in MODES if kind in rows[0]]
    width = 0.84 / len(kinds)
    for number, kind in enumerate(kinds):
        at = [row["level"] + (number - (len(kinds) - 1) / 2) * width for row in rows]
        axes.bar(at, [row[kind] for row in rows], width, label=MODES[kind][0], color=MODES[kind][1])
    for row in rows:
        axes.hlines(row["entropy"], row["level"] - 0.45, row["level"] + 0.45, color=plots.INK, linewidth=1.4)
    axes.plot([], [], color=plots.INK, linewidth=1.4, label="index entropy, order 0")
    axes.set_xticks([row["level"] for row in rows], [str(row["level"] + 1) for row in rows])
    axes.set_ylim(0, max(row[kind] for row in rows for kind in kinds) * 1.25)
    axes.legend(fontsize=8, frameon=False, ncols=4, loc="upper left")
    return figure
