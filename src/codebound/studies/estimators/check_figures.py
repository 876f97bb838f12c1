"""The figures about the gradients themselves: do they agree, and what do they cost?"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from codebound.reporting import plots
from codebound.studies.estimators.drawing import boxed, headline, limit_lines
from codebound.studies.estimators.labels import WAYS
from codebound.studies.estimators.rundata import StudyData
from codebound.studies.estimators.study import VERIFIED_ON
from codebound.studies.estimators.summary import limits as source_limits


def verification(data: StudyData) -> Figure | None:
    """Manual against automatic: the gradients' differences by step, and the two runs' errors over one another."""
    cells = list(data.of("verify", VERIFIED_ON).values())
    if not cells:
        return None
    figure = plots.new_figure(12, 4.8)
    headline(
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
        lines = [
            plots.limit_line(ax, line, "horizontal") for line in limit_lines(found, data.settings.latent_dim)
        ]
    plots.style(
        ax,
        "Test error while being verified (lines lie over one another)",
        "training step",
        "squared error per vector",
    )
    boxed(ax, lines)


def cost(data: StudyData) -> Figure | None:
    """Time and working memory of a step."""
    timing = data.timing
    if timing is None:
        return None
    ways = list(timing["seconds"])
    figure = plots.new_figure(12, 1.9 + 0.42 * len(ways))
    headline(
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
