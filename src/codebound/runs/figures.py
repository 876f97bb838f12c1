"""Pictures of runs: reconstructions, curves, use of the codes, and where they stand in rate and distortion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from codebound.data.image_sets import ImageSet
from codebound.evaluate import tokenizers as evaluation
from codebound.reporting import plots
from codebound.tokenizers import ImageTokenizer

COLOURS = ("#0b63a5", "#c2410c", "#117733", "#7a3fa0", "#8a6100", "#b3261e", "#00798c", "#5b6470")
SHOWN, CROPS = 4, 8  # whole photographs, and crops where there are none


def samples(tokenizer: ImageTokenizer, images: ImageSet, path: Path) -> Path:
    """Held-out pictures above, what comes back from their codes below."""
    # Whole photographs where there are any, else crops; each as wide as its picture is at equal heights.
    pictures = [p.unsqueeze(0) for p in images.whole[:SHOWN]] or list(images.held_out[:CROPS].split(1))
    widths = [picture.shape[3] / picture.shape[2] for picture in pictures]  # at equal heights
    figure = plots.new_figure(11, 2 * (11 / sum(widths) + 0.3))
    axes = figure.subplots(2, len(pictures), squeeze=False, gridspec_kw={"width_ratios": widths})

    # Above the picture, below it what its indices decode to, with the error.
    for column, picture in enumerate(pictures):
        with torch.no_grad():
            again = evaluation.reproduced(tokenizer, tokenizer.encode(picture), picture)
        error = (again - picture / 255).square().mean().clamp_min(1e-12)
        _show(axes[0, column], picture / 255, "held out" if column == 0 else "")
        _show(axes[1, column], again, f"{-10 * float(error.log10()):.2f} dB")
    return plots.save(figure, path)


def curves(runs: Sequence[Any]) -> Figure:
    """PSNR, usage, perplexity and gap over the steps, one line a run."""
    # What is drawn, from the log: column, title, unit.
    panels = [
        ("psnr", "Held-out PSNR", "dB"),
        ("usage", "Held-out usage", "fraction of the codewords"),
        ("perplexity", "Held-out perplexity", "codewords"),
        ("gap_db", "Gap of the latents' code to Shannon's bound", "dB"),
    ]

    # A panel for each, a line for each run; rows of the log without the figure are left out.
    figure = plots.new_figure(11, 6.4)
    for axes, (column, title, unit) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        plots.style(axes, title, "step", unit)
        for i, run in enumerate(runs):
            points = [(r["step"], r[column]) for r in run.rows if r.get(column) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), color=_colour(i), label=run.name, linewidth=1.6)

        # Fixed ends where a figure has them.
        if column == "usage":
            axes.set_ylim(0, 1.03)
        if column == "gap_db":
            axes.set_ylim(bottom=0)
    if len(runs) > 1:
        figure.axes[0].legend(fontsize=8, frameon=False)
    return figure


def code_shares(runs: Sequence[Any]) -> Figure:
    """How often each codeword is used, the busiest first, beside an even use."""
    # One panel, on the scale of an even use.
    figure = plots.new_figure(11, 3.6)
    axes = figure.subplots()
    plots.style(
        axes,
        "Use of the codewords, held out",
        "codewords, the busiest first (share of K)",
        "times its even share",
    )

    # A line for each codebook of each run; later stages of a residual quantizer are paler.
    for i, run in enumerate(runs):
        for stage, counts in enumerate(run.counts):
            shares = np.sort(np.asarray(counts, dtype=float))[::-1]
            even = shares.sum() / len(shares)
            axes.plot(
                (np.arange(len(shares)) + 0.5) / len(shares),
                shares / max(even, 1e-12),
                color=_colour(i),
                alpha=1 / (1 + 0.5 * stage),
                linewidth=1.4,
                label=run.name if stage == 0 else None,
            )

    # Where all codewords would lie if used evenly; near zero the axis is straight, as counts of 0 occur.
    axes.axhline(1, color=plots.MUTED, linestyle=(0, (1, 1.5)), linewidth=1.2)
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_ylim(bottom=0)
    if len(runs) > 1:
        axes.legend(fontsize=8, frameon=False)
    return figure


def rate_distortion(runs: Sequence[Any]) -> Figure:
    """PSNR against bits per pixel: hollow at log₂ K, filled at the index entropy."""
    figure = plots.new_figure(11, 4.2)
    axes = figure.subplots()
    plots.style(axes, "Rate and distortion on the held-out pictures", "bits per pixel", "PSNR, dB")

    # Two points for each run, joined: the entropy coder's rate and that without one.
    for i, run in enumerate(runs):
        held_out = run.final["held_out"]
        entropy, nominal, psnr = (held_out[name] for name in ("bpp_entropy", "bpp_nominal", "psnr"))
        axes.plot(entropy, psnr, "o", color=_colour(i), label=f"{run.name}")
        if nominal is not None:  # a trellis code has no other rate than that of its entropy
            axes.plot((entropy, nominal), (psnr, psnr), color=_colour(i), linewidth=1)
            axes.plot(nominal, psnr, "o", color=_colour(i), markerfacecolor=plots.PAPER)
    axes.legend(fontsize=8, frameon=False, title="filled: index entropy; hollow: log₂ K", title_fontsize=8)
    return figure


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _show(axes: Axes, picture: Tensor, title: str) -> None:
    """One picture without axes, values from 0 to 1."""
    axes.imshow(
        picture[0].permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest"
    )
    axes.set_title(title, loc="left", fontsize=9, color=plots.INK)
    axes.set_axis_off()
