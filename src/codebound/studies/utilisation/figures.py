"""The study's pictures."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from codebound.reporting import plots
from codebound.studies.utilisation.arms import ARMS
from codebound.studies.utilisation.summary import Row, StudyData, even_usage, held_out_tokens

PALETTE = (
    "#0b63a5", "#5b9bd5", "#123a5c", "#c2410c", "#e39a6b", "#117733", "#57b36f", "#98cfa5", "#7a3fa0", "#8a6100",
    "#b3261e", "#00798c", "#777777",
)  # fmt: skip
COLOURS = dict(zip(ARMS, PALETTE, strict=True))


def rate_distortion(rows: Sequence[Row]) -> Figure:
    """Each arm at each size: PSNR against bits per pixel at the index entropy, with 95 % intervals."""
    figure = plots.new_figure(11, 5.4)
    axes = figure.subplots()
    plots.style(axes, "Rate and distortion, held out", "bits per pixel, index entropy", "PSNR, dB")
    seen: set[str] = set()
    for row in rows:
        if row.start == "kmeans":
            rate, psnr = row.figures["bpp_entropy"], row.figures["psnr"]
            label = row.label if row.arm not in seen else None
            seen.add(row.arm)
            half = (psnr.high - psnr.low) / 2 if psnr.known else 0.0
            axes.errorbar(
                rate.mean,
                psnr.mean,
                yerr=half,
                fmt="o",
                color=COLOURS[row.arm],
                label=label,
                markersize=5,
                capsize=2,
            )
    _legend(figure)
    return figure


def by_size(data: StudyData, rows: Sequence[Row]) -> Figure:
    """PSNR and usage against K, a line for each arm."""
    figure = plots.new_figure(11, 5.4)
    left, right = figure.subplots(1, 2)
    plots.style(left, "PSNR", "K", "dB")
    plots.style(right, "Usage", "K", "fraction of the codewords")
    for arm in ARMS:
        own = [row for row in rows if row.arm == arm and row.start == "kmeans"]
        for axes, name in ((left, "psnr"), (right, "usage")):
            axes.plot(
                [row.codebook_size for row in own],
                [row.figures[name].mean for row in own],
                "o-",
                color=COLOURS[arm],
                label=ARMS[arm].label if own else None,
                markersize=4,
                linewidth=1.4,
            )
    sizes = sorted({row.codebook_size for row in rows})
    tokens = held_out_tokens(data)
    right.plot(
        sizes, [even_usage(size, tokens) for size in sizes], color=plots.INK, linewidth=1.2, linestyle=(0, (6, 2)),
        label="an even code, on these tokens",
    )  # fmt: skip
    for axes in (left, right):
        _sizes(axes, sizes)
    right.set_ylim(0, 1.03)
    _legend(figure)
    return figure


def curves(data: StudyData, size: int) -> Figure:
    """Mean PSNR and usage over the steps at one size."""
    figure = plots.new_figure(11, 5.0)
    for axes, (name, title) in zip(
        figure.subplots(1, 2), (("psnr", "PSNR, dB"), ("usage", "Usage")), strict=True
    ):
        plots.style(axes, f"{title}, K = {size:,}", "step", "")
        for (arm, k, start), by_seed in data.cells.items():
            if k == size and start == "kmeans":
                points = [cell["curve"] for cell in by_seed.values()]
                steps = [point["step"] for point in points[0]]
                means = [sum(curve[i][name] for curve in points) / len(points) for i in range(len(steps))]
                axes.plot(steps, means, color=COLOURS[arm], label=ARMS[arm].label, linewidth=1.4)
    _legend(figure)
    return figure


def _legend(figure: Figure) -> None:
    """What the last panel names, below all of them: arms are too many for a corner that no curve enters."""
    handles, names = figure.axes[-1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8.5, frameon=False)


def _sizes(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(sizes), [f"{size:,}" for size in sizes])
    axes.minorticks_off()
