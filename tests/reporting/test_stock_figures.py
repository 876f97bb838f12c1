"""The figures that every study may use draw the numbers of the table, and can be read on a dark page."""

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from codebound.reporting import plots, stock_figures
from codebound.reporting.long_table import LongTable, Metric, Record
from codebound.reporting.plots import Limit
from codebound.reporting.statistics import mean_interval

METRICS = (Metric("rate", "Rate", "bits"), Metric("psnr", "PSNR", "dB", better="more"))


@pytest.fixture(scope="module")
def table() -> LongTable:
    """Two arms at three steps, three seeds: PSNR is 10·step + seed, and one dB more for b."""
    return LongTable(
        tuple(
            Record(
                {"arm": arm, "step": step, "seed": seed},
                {"rate": float(step), "psnr": 10.0 * step + seed + lift},
            )
            for arm, lift in (("a", 0.0), ("b", 1.0))
            for step in (1, 2, 3)
            for seed in range(3)
        ),
        METRICS,
    )


def lines(figure: Figure) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in figure.axes[0].get_lines()}


def test_curves_are_means_over_seeds(table: LongTable) -> None:
    limits = {"psnr": [Limit("shannon", "bound", 40.0)]}
    figure = stock_figures.curves(table, ["psnr"], over="step", series="arm", limits=limits)
    drawn = lines(figure)
    assert drawn["a"].tolist() == [11, 21, 31]
    assert drawn["b"].tolist() == [12, 22, 32]
    assert any(set(values) == {40.0} for values in drawn.values())


def test_curves_have_a_panel_for_each_level_and_bands_where_asked(table: LongTable) -> None:
    figure = stock_figures.curves(
        table, ["psnr"], over="step", series="arm", panel="seed", titles={0: "zero"}, bands=["a"]
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["zero", "1", "2"]
    assert lines(figure)["a"].tolist() == [10, 20, 30]
    whole = stock_figures.curves(table, ["psnr"], over="step", series="arm", bands=["a"])
    assert len(whole.axes[0].collections) == 1
    assert lines(whole)["b"].tolist() == [12, 22, 32]


def test_rate_and_distortion_with_intervals_and_a_bound(table: LongTable) -> None:
    figure = stock_figures.rate_distortion(table, "rate", "psnr", series="arm", bound=lambda rate: 20 * rate)
    axes = figure.axes[0]
    first = axes.containers[0].lines[0]
    assert np.asarray(first.get_xdata()).tolist() == [1, 2, 3]
    assert np.asarray(first.get_ydata()).tolist() == [11, 21, 31]
    low, high = axes.containers[0].lines[2][0].get_segments()[0][:, 1]
    interval = mean_interval([10.0, 11.0, 12.0])
    assert (low, high) == pytest.approx((interval.low, interval.high))
    assert lines(figure)["limit"].max() == pytest.approx(60)


def test_a_panel_for_each_level(table: LongTable) -> None:
    figure = stock_figures.rate_distortion(
        table, "rate", "psnr", series="arm", panel="seed", titles={0: "zero"}, rates=(0.5, 4.0)
    )
    assert [axes.get_title("left") for axes in figure.axes[:3]] == ["zero", "1", "2"]
    assert np.asarray(figure.axes[2].get_lines()[0].get_ydata()).tolist() == [12, 22, 32]


def test_dots_stand_where_the_intervals_are() -> None:
    rows = [
        ("one", [mean_interval([1.0, 1.2]), mean_interval([0.5, 0.7])]),
        ("two", [None, mean_interval([3.0])]),
    ]
    figure = stock_figures.dots(rows, ["before", "after"], limits=[Limit("shannon", "bound", 0.2)])
    at = [container.lines[0] for container in figure.axes[0].containers]
    assert [float(np.asarray(dot.get_xdata())[0]) for dot in at] == pytest.approx([1.1, 0.6, 3.0])
    assert [float(np.asarray(dot.get_ydata())[0]) for dot in at] == [0, 0, 1]


def test_bars_and_images() -> None:
    heights = {"raw": [9.0, 8.0], "coded": [4.0, 3.0]}
    figure = stock_figures.bars(
        ["1", "2"], heights, title="t", axis="level", unit="bits", colours={"raw": "#c9ced6", "coded": "#0b63a5"},
        limits=("entropy", [6.0, 5.0]),
    )  # fmt: skip
    assert [bar.get_height() for bar in figure.axes[0].patches] == [9.0, 8.0, 4.0, 3.0]
    pixels = np.zeros((4, 6, 3), np.uint8)
    figure = stock_figures.images([("a", pixels), ("b", pixels[..., 0]), ("c", pixels)], columns=2)
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 0]


def luminance(colour: object) -> float:
    r, g, b = ((c / 12.92 if c <= 0.04 else ((c + 0.055) / 1.055) ** 2.4) for c in to_rgb(colour))  # pyright: ignore
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_every_colour_of_the_palette_can_be_read_in_the_dark() -> None:
    """Contrast of at least 3:1 with the page, as WCAG asks of graphics."""
    figure = plots.new_figure(4, 3)
    axes = figure.subplots()
    plots.style(axes, "title", "x", "y")
    drawn = [axes.plot([0, 1], [0, n], color=colour)[0] for n, colour in enumerate(stock_figures.PALETTE)]
    hollow = axes.plot([0], [0], "o", color=plots.INK, markerfacecolor=plots.PAPER)[0]
    plots.darken(figure)
    paper = luminance(figure.get_facecolor()[:3])
    assert (luminance(hollow.get_markeredgecolor()) + 0.05) / (paper + 0.05) >= 3
    for artist in (*drawn, axes.title, axes.xaxis.label, *axes.get_xticklabels()):
        contrast = (luminance(artist.get_color()) + 0.05) / (paper + 0.05)
        assert contrast >= 3, (to_hex(artist.get_color()), contrast)
