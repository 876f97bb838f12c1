"""The figures: theory beside simulation in each, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from codebound.reporting import plots
from codebound.studies.population import labels
from codebound.studies.population.summary import TOLERANCE, Data, Row

SIMULATED = "#1b1f24"
LEVEL_STYLE: dict[str, dict[str, Any]] = {
    "frozen": {"color": "#999933", "linestyle": (0, (1, 1.5)), "linewidth": 1.6},
    "mean_field": {"color": "#cc6677", "linestyle": (0, (5, 2)), "linewidth": 1.6},
    "shot_noise": {"color": "#0b63a5", "linestyle": "-", "linewidth": 1.8},
}
UPDATE_COLOUR = {"ema": "#0b63a5", "sgd": "#cc6677"}


def write_figures(folder: Path, data: Data) -> dict[str, Path]:
    """Every figure that the run has cells for, by name."""
    made = {
        "agreement": agreement(data) if data.rows else None,
        "held_out": curves(data, data.role("held_out"), "Held-out settings"),
        "development": curves(data, data.role("development"), "Development settings"),
        "own": curves(data, data.role("own"), "Your settings"),
        "turnover": turnover(data, data.role("held_out") or data.role("own")),
        "sweep": sweep(data) if data.role("sweep") else None,
        "revival": revival(data),
        "lifetimes": lifetimes(data.lifetimes) if data.lifetimes else None,
    }
    found = {
        name: plots.save(figure, folder / f"{name}.png")
        for name, figure in made.items()
        if figure is not None
    }
    if data.film is not None:
        found |= {"film": folder / "film.gif", "strip": folder / "film.png"}
    return found


def agreement(data: Data) -> Figure:
    """Predicted against simulated share of dead codewords at the end, a panel per level."""
    figure = plots.new_figure(11, 4.3)
    grid = figure.subplots(1, 3, sharex=True, sharey=True)
    low = 0.3
    for axes, (name, title) in zip(grid, labels.LEVELS.items(), strict=True):
        plots.style(axes, title, "simulated, % of K", "predicted, % of K")
        line = np.array([low, 100])
        axes.fill_between(
            line, line * (1 - TOLERANCE / 100), line * (1 + TOLERANCE / 100), color=plots.GRID, linewidth=0
        )
        axes.plot(line, line, color=plots.MUTED, linewidth=1)
        for row in data.rows:
            size = row.scenario.codebook_size
            x, y = (100 * v.mean / size for v in (row.dead, row.levels[name].dead))
            look = labels.ROLE_STYLE[row.scenario.role]
            bars = {
                f"{axis}err": [[100 * (v.mean - v.low) / size], [100 * (v.high - v.mean) / size]]
                for axis, v in (("x", row.dead), ("y", row.levels[name].dead))
            }
            axes.errorbar(max(x, low), max(y, low), **bars, **look, elinewidth=0.8, capsize=0)
        axes.set(xscale="log", yscale="log", xlim=(low * 0.85, 110), ylim=(low * 0.85, 110))
        ticks = [low, 1, 3, 10, 30, 100]
        names = ["≤ 0.3", "1", "3", "10", "30", "100"]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(ticks, names)
            axis.set_minor_formatter(NullFormatter())
    roles = dict.fromkeys(row.scenario.role for row in data.rows)
    handles = [Line2D([], [], label=labels.ROLES[r], ls="", **_marker(labels.ROLE_STYLE[r])) for r in roles]
    handles.append(Line2D([], [], color=plots.GRID, linewidth=8, label=f"within {TOLERANCE:.0f} %"))
    figure.legend(handles=handles, loc="outside lower center", ncol=6, fontsize=9, frameon=False)
    figure.suptitle("Codewords without a hit in the last window (bars: 95 %)", fontsize=12, x=0.01, ha="left")
    return figure


def curves(data: Data, rows: list[Row], title: str) -> Figure | None:
    """Dead codewords over training, a panel per scenario."""
    if not rows:
        return None
    figure, grid = _panels(len(rows))
    for axes, row in zip(grid, rows, strict=False):
        plots.style(
            axes, labels.title(row.scenario), f"window of {data.settings.window} K tokens", "dead codewords"
        )
        axes.title.set_fontsize(9)
        _curve(axes, data, row, "dead")
        axes.set_ylim(0, max(row.scenario.codebook_size * 0.02, axes.get_ylim()[1]))
    _level_legend(figure, list(LEVEL_STYLE))
    figure.suptitle(
        f"{title}: codewords without a hit in each window (band: 95 % of the simulated mean)", fontsize=12, x=0.01,
        ha="left",
    )  # fmt: skip
    return figure


def turnover(data: Data, rows: list[Row]) -> Figure | None:
    """Deaths (up) and returns (down) from window to window."""
    if not rows:
        return None
    figure, grid = _panels(len(rows))
    for axes, row in zip(grid, rows, strict=False):
        plots.style(
            axes, labels.title(row.scenario), f"window of {data.settings.window} K tokens", "codewords"
        )
        axes.title.set_fontsize(9)
        for what, sign in (("died", 1), ("returned", -1)):
            runs = data.curve(row.scenario.name, "simulation", what)
            x = np.arange(2, runs.shape[1] + 2)
            mean = runs.mean(0)
            half = plots.student_half_width(runs)
            colour = {"died": "#b3261e", "returned": "#117733"}[what]
            axes.bar(x, sign * mean, color=colour, alpha=0.35, width=0.85)
            axes.errorbar(x, sign * mean, yerr=half, fmt="none", color=colour, elinewidth=0.9)
            for level in ("mean_field", "shot_noise"):
                predicted = data.curve(row.scenario.name, level, what).mean(0)
                axes.plot(x, sign * predicted, **LEVEL_STYLE[level])
        axes.axhline(0, color=plots.MUTED, linewidth=0.8)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{abs(y):g}"))
        _window_ticks(axes, data)
    patches = [
        Line2D([], [], marker="s", ls="", ms=9, color=colour, alpha=0.4, label=text)
        for colour, text in (("#b3261e", "died, simulated (up)"), ("#117733", "returned, simulated (down)"))
    ]
    _level_legend(figure, ["mean_field", "shot_noise"], patches)
    figure.suptitle(
        "Deaths and returns between a window and the one before (bars: 95 %)", fontsize=12, x=0.01, ha="left"
    )
    return figure


def sweep(data: Data) -> Figure:
    """Share of dead codewords at the end as one setting changes; the others stay at the base's."""
    rows = data.role("sweep")
    keys = list(dict.fromkeys(r.scenario.varied for r in rows if r.scenario.varied))
    figure, grid = _panels(len(keys))
    for axes, key in zip(grid, keys, strict=False):
        plots.style(axes, labels.KEYS.get(key, key), "", "dead at the end, % of K")
        categories: list[str] = []
        for update in ("ema", "sgd"):
            chosen = [
                r
                for r in rows
                if r.scenario.update == update
                and (r.scenario.varied in (key, ""))
                and (key in ("decay", "lr")) <= ((key == "decay") == (update == "ema"))
            ]
            if not chosen or not any(r.scenario.varied for r in chosen):
                continue
            values = [getattr(r.scenario, key) for r in chosen]
            if isinstance(values[0], str):
                categories = sorted({*categories, *values})
            _sweep_line(axes, chosen, values, categories, UPDATE_COLOUR[update])
        if categories:
            axes.set_xticks(range(len(categories)), categories)
        elif key in ("codebook_size", "batch_size", "lr"):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        else:
            axes.set_xscale(
                "function", functions=(lambda g: -np.log10(np.maximum(1 - g, 1e-9)), lambda u: 1 - 10**-u)
            )
            ticks = sorted({getattr(r.scenario, key) for r in rows if r.scenario.update == "ema"})
            axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.set_ylim(bottom=0)
    handles = [
        Line2D([], [], color=UPDATE_COLOUR[u], marker="o", ls="", label=f"{u.upper()}, simulated")
        for u in ("ema", "sgd")
    ]
    handles += [
        Line2D([], [], color=UPDATE_COLOUR[u], label=f"{u.upper()}, shot noise") for u in ("ema", "sgd")
    ]
    figure.legend(handles=handles, loc="outside lower center", ncol=4, fontsize=9, frameon=False)
    figure.suptitle("One setting at a time (bars: 95 %)", fontsize=12, x=0.01, ha="left")
    return figure


def _sweep_line(axes: Axes, rows: list[Row], values: list[Any], names: list[str], colour: str) -> None:
    at = [names.index(v) if names else v for v in values]
    order = np.argsort(at)
    x = np.array(at, dtype=float)[order]
    sizes = np.array([rows[i].scenario.codebook_size for i in order])
    dead = [rows[i].dead for i in order]
    mean = 100 * np.array([d.mean for d in dead]) / sizes
    bars = 100 * np.array([[d.mean - d.low for d in dead], [d.high - d.mean for d in dead]]) / sizes
    theory = 100 * np.array([rows[i].levels["shot_noise"].dead.mean for i in order]) / sizes
    axes.errorbar(x, mean, yerr=bars, fmt="o", color=colour, ms=5, capsize=2, zorder=4)
    axes.plot(x, theory, color=colour, linewidth=1.6, marker="_", ms=11, ls=":" if names else "-")


def revival(data: Data) -> Figure | None:
    """Dead codewords with revival and without, simulated and predicted."""
    pairs = [(row, labels.without_revival(data.rows, row)) for row in data.rows if row.scenario.revival]
    if not pairs:
        return None
    figure, grid = _panels(len(pairs))
    for axes, (row, other) in zip(grid, pairs, strict=False):
        plots.style(
            axes, labels.title(row.scenario), f"window of {data.settings.window} K tokens", "dead codewords"
        )
        axes.title.set_fontsize(9)
        for each, colour in ((other, plots.MUTED), (row, "#117733")):
            if each is None:
                continue
            runs = data.curve(each.scenario.name, "simulation")
            x = np.arange(1, runs.shape[1] + 1)
            plots.band(axes, x, runs, {"color": colour, "linewidth": 0, "marker": "o", "ms": 3.5})
            axes.plot(x, data.curve(each.scenario.name, "shot_noise").mean(0), color=colour, linewidth=1.5)
        axes.set_ylim(bottom=0)
        _window_ticks(axes, data)
    handles = [
        Line2D([], [], color=colour, marker=mark, ls=line, ms=4, label=text)
        for colour, mark, line, text in (
            (plots.MUTED, "o", "", "no revival, simulated"),
            (plots.MUTED, "", "-", "no revival, shot noise"),
            ("#117733", "o", "", "revival, simulated"),
            ("#117733", "", "-", "revival, shot noise"),
        )
    ]
    figure.legend(handles=handles, loc="outside lower center", ncol=4, fontsize=9, frameon=False)
    figure.suptitle("Codewords without a hit in each window (band: 95 %)", fontsize=12, x=0.01, ha="left")
    return figure


def lifetimes(found: dict[str, Any]) -> Figure:
    """Mean steps to extinction and to recovery of one codeword in a frozen cell."""
    figure = plots.new_figure(10, 4)
    texts = {
        "extinction": "From a mean codeword's mass to under the threshold",
        "recovery": "From no mass to over the threshold",
    }
    looks = [("#cc6677", "-"), ("#999933", (0, (4, 3))), ("#0b63a5", "-")]  # the first two may coincide
    for axes, (what, title) in zip(figure.subplots(1, 2), texts.items(), strict=True):
        plots.style(axes, title, "cell's probability × K", "mean steps")
        decays = sorted({r["decay"] for r in found["rows"]})
        top = 0.0
        for decay, (colour, dashes) in zip(decays, looks, strict=False):
            rows = [r for r in found["rows"] if r["what"] == what and r["decay"] == decay]
            known = [r for r in rows if r["theory"] is not None]
            axes.plot(
                [r["share"] for r in known],
                [r["theory"] for r in known],
                color=colour,
                linestyle=dashes,
                label=f"γ = {decay:g}",
            )
            seen = [r for r in rows if r["simulation"] is not None]
            mean = np.array([r["simulation"]["mean"] for r in seen])
            bars = [
                mean - [r["simulation"]["low"] for r in seen],
                [r["simulation"]["high"] for r in seen] - mean,
            ]
            axes.errorbar([r["share"] for r in seen], mean, yerr=bars, fmt="o", ms=4, color=colour, capsize=2)
            top = max(top, mean.max())
        axes.set(xscale="log", yscale="log", ylim=(None, 8 * top))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
        axes.legend(fontsize=8.5, frameon=False)
    figure.suptitle(
        "Lines: first-step equation. Points: simulated, bars 95 %.", fontsize=11, x=0.01, ha="left"
    )
    return figure


def _curve(axes: Axes, data: Data, row: Row, what: str) -> None:
    runs = data.curve(row.scenario.name, "simulation", what)
    x = np.arange(1, runs.shape[1] + 1)
    line = {"color": SIMULATED, "linewidth": 0, "marker": "o", "markersize": 3.5, "zorder": 5}
    plots.band(axes, x, runs, line)
    for level, look in LEVEL_STYLE.items():
        predicted = data.curve(row.scenario.name, level, what).mean(0)
        axes.plot(x, np.broadcast_to(predicted, x.shape), **look)
    _window_ticks(axes, data)


def _window_ticks(axes: Axes, data: Data) -> None:
    axes.set_xticks([1, *range(5, data.settings.windows + 1, 5)])


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(3, count)
    lines = -(-count // columns)
    figure = plots.new_figure(3.9 * columns + 0.4, 2.75 * lines + 1.0)
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, grid


def _level_legend(figure: Figure, levels: list[str], first: list[Line2D] | None = None) -> None:
    handles = first or [Line2D([], [], color=SIMULATED, marker="o", ls="", ms=4, label="simulated")]
    handles = handles + [Line2D([], [], label=labels.LEVELS[name], **LEVEL_STYLE[name]) for name in levels]
    figure.legend(handles=handles, loc="outside lower center", ncol=4, fontsize=9, frameon=False)


def _marker(look: dict[str, Any]) -> dict[str, Any]:
    return {
        "marker": look["fmt"],
        "color": look["color"],
        "ms": look["ms"],
        "mfc": look.get("mfc", look["color"]),
    }
