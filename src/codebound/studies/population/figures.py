"""How things look and what they are called: every prediction against its simulation, stock figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from codebound.reporting import plots, stock_figures
from codebound.studies.framework.declare import Interval, LongTable, Look, Metric, Record
from codebound.studies.population.settings import Role, Scenario
from codebound.studies.population.summary import TOLERANCE, ScenarioResult, of_role

LEAST = 0.3  # per cent of K: what is less is drawn at the edge
TICKS = {LEAST: "≤ 0.3", 1: "1", 3: "3", 10: "10", 30: "30", 100: "100"}
LEVELS = {  # of the theory
    "frozen": Look("frozen cells", "#999933", dashes=(0, (1, 1.5))),
    "mean_field": Look("mean field", "#cc6677", dashes=(0, (5, 2))),
    "shot_noise": Look("shot noise", "#0b63a5", dashes=(0, (3, 1.5))),
}
DECAYS = (
    Look("", "#cc6677"),
    Look("", "#999933", dashes=(0, (4, 3))),
    Look("", "#0b63a5"),
)  # two may coincide
SIMULATED = Look("simulated", plots.INK)
ROLES: dict[Role, Look] = {
    "held_out": Look("held out", "#b3261e"),
    "own": Look("yours", "#7a3fa0"),
    "development": Look("development", "#0b63a5"),
    "revival": Look("with revival", "#117733"),
    "sweep": Look("one setting at a time", "#8f99a5"),
}
KEYS = {
    "codebook_size": "K",
    "batch_size": "B",
    "decay": "γ",
    "lr": "lr",
    "init": "start",
    "source": "source",
}


def title(s: Scenario) -> str:
    """H4: EMA, K = 192"""
    return f"{s.name}: {s.update.upper()}, K = {s.codebook_size}"


def definition(s: Scenario) -> str:
    """EMA γ = 0.95, K = 192, B = 96; normal × 2.5 start, cube in 3-D"""
    rule = f"EMA γ = {s.decay:g}" if s.update == "ema" else f"SGD lr = {s.lr:g}"
    start = f"normal × {s.std:g}" if s.init == "normal" else s.init
    return f"{rule}, K = {s.codebook_size}, B = {s.batch_size}; {start} start, {s.source} in {s.dim}-D"


def time_course(table: LongTable, results: Sequence[ScenarioResult], metric: str) -> Figure:
    """A count of codewords window by window, simulated and predicted, a panel per setting."""
    titles = {each.scenario.name: title(each.scenario) for each in results}
    records = tuple(record for record in table.records if record.levels["setting"] in titles)
    figure = stock_figures.curves(
        LongTable(records, table.metrics, table.repeats), [metric], over="window", series="level", panel="setting",
        titles=titles, bands=["simulation"], looks={"simulation": SIMULATED, **LEVELS},
    )  # fmt: skip
    # From none to the highest mean: the bands of a few runs would reach far above it.
    for axes in figure.axes[: len(results)]:
        axes.set_ylim(0, 1.1 * max(1.0, *(np.max(line.get_ydata()) for line in axes.lines)))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


def agreement(results: Sequence[ScenarioResult]) -> Figure:
    """Predicted against simulated share of dead codewords at the end, a panel per level."""
    figure = plots.new_figure(11, 4.3)
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    for axes, (level, theory) in zip(panels, LEVELS.items(), strict=True):
        side = "predicted, % of K" if axes is panels[0] else ""
        plots.style(axes, theory.name.capitalize(), "simulated, % of K", side)
        line = np.array([LEAST, 100])
        low, high = line * (1 - TOLERANCE / 100), line * (1 + TOLERANCE / 100)
        band = f"within {TOLERANCE:.0f} %"
        axes.fill_between(line, low, high, color=plots.MUTED, alpha=0.25, linewidth=0, label=band)

        # A colour for each role; bars are 95 % intervals.
        for role, look in ROLES.items():
            if own := of_role(results, role):
                x, across = _centres([each.share() for each in own])
                y, along = _centres([each.share(level) for each in own])
                marks: dict[str, Any] = {"fmt": "o", "ms": 5, "color": look.colour, "label": look.name}
                axes.errorbar(x, y, xerr=across, yerr=along, elinewidth=0.8, **marks)
        axes.set(xscale="log", yscale="log", xlim=(LEAST * 0.85, 110), ylim=(LEAST * 0.85, 110))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(list(TICKS), list(TICKS.values()))
            axis.set_minor_formatter(NullFormatter())
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=6, fontsize=9, frameon=False)
    return figure


def lifetimes(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Mean steps to extinction and to recovery of one codeword in a frozen cell, against its probability."""
    titles = {"extinction": "From a mean codeword's mass to dead", "recovery": "From no mass to alive"}
    records, looks = [], {}
    styles = dict(zip(sorted({row["decay"] for row in rows}), DECAYS, strict=False))
    for row in rows:
        equation = f"γ = {row['decay']:g}"
        chains = f"{equation}, simulated"
        looks[equation] = styles[row["decay"]]._replace(name=f"{equation}, equation")
        looks[chains] = Look("simulated", plots.INK, dashes=(0, (1, 2)))
        for series, steps in ((equation, row["theory"]), (chains, (row["simulation"] or {}).get("mean"))):
            levels = {"cell's probability × K": row["share"], "series": series, "run": 0}
            records.append(Record(levels, {row["what"]: steps}))
    table = LongTable(tuple(records), tuple(Metric(*each, "mean steps") for each in titles.items()), "run")
    over = "cell's probability × K"
    figure = stock_figures.curves(table, list(titles), over=over, series="series", looks=looks)
    longest = max((row["simulation"] or {"mean": 1})["mean"] for row in rows)
    for axes in figure.axes:
        axes.set(xscale="log", yscale="log", ylim=(None, 8 * longest))
    return figure


def _centres(intervals: Sequence[Interval]) -> tuple[np.ndarray, np.ndarray]:
    """Means, those under the least at the edge, and the lengths of their bars `[2, n]`."""
    mean, low, high = np.array([[each.mean, each.low, each.high] for each in intervals]).T
    return np.maximum(mean, LEAST), np.array([mean - low, high - mean])
