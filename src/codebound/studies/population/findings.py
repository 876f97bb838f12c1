"""What the study found, as sentences that the numbers choose. No result is written here."""

from __future__ import annotations

import math
from collections.abc import Sequence

from codebound.reporting.finding import Finding, typeset_all
from codebound.reporting.formatting import count_text, interval_text, number
from codebound.reporting.statistics import Interval, mean_interval
from codebound.studies.population import labels
from codebound.studies.population.summary import TOLERANCE, Data, Row


def findings(data: Data) -> list[Finding]:
    """The executive summary, in the order a reader asks."""
    found = [
        _verdict(data, "held_out", "Does the theory predict settings it has not seen?"),
        _verdict(data, "sweep", "And in the sweep?"),
        _verdict(data, "development", "The settings it was developed on"),
        _verdict(data, "own", "Your settings"),
        _needed(data),
        _fate(data),
        _factors(data),
        _revival(data),
        _single(data),
    ]
    return typeset_all(found)


def _verdict(data: Data, role: str, title: str) -> Finding | None:
    rows = data.role(role)  # pyright: ignore[reportArgumentType]
    if not rows:
        return None
    judged = [r for r in rows if r.met("shot_noise") is not None]
    open_ = [r for r in rows if r.met("shot_noise") is None]
    none = [r for r in judged if r.none_left]
    numbers = [r for r in judged if not r.none_left]
    right = [r for r in numbers if r.met("shot_noise")]
    parts = []
    if numbers:
        parts.append(
            f"Shot noise is within {TOLERANCE:.0f} % of the simulated number of dead codewords in {len(right)} of "
            f"{count_text(len(numbers), 'setting')} that {'ends' if len(numbers) == 1 else 'end'} with dead codewords "
            "and where the simulation is that precise."
        )
    if none:
        parts.append(
            f"In {len(none)} ({_names(none)}) hardly a codeword is dead at the end, in the simulation as in the "
            f"theory (at most {max(r.dead.mean for r in none):.2f} and "
            f"{max(r.levels['shot_noise'].dead.mean for r in none):.2f} per codebook), so a relative error says "
            "nothing there; the time course does, below."
        )
    if open_:
        parts.append(
            f"In {len(open_)} ({_names(open_)}) two standard errors of the simulated mean are above "
            f"{TOLERANCE:.0f} %: more runs are needed (codewords={data.settings.codewords})."
        )
    items = [_miss(r) for r in numbers if not r.met("shot_noise")]
    items += [f"{r.scenario.name}: {_error(r)}" for r in right] if role in ("held_out", "own") else []
    return Finding(title, " ".join(parts), tuple(items))


def _miss(row: Row) -> str:
    """What is off, by how much, and which of the theory's assumptions is the strained one."""
    error = row.levels["shot_noise"].error
    side = "too many" if error.mean > 0 else "too few"
    reasons = []
    if abs(error.mean) - (error.high - error.low) / 2 <= TOLERANCE:
        reasons.append("the interval reaches inside the tolerance, so the miss may be chance")
    if row.scenario.memory_hits < 5:
        reasons.append(
            f"a mean codeword remembers only {row.scenario.memory_hits:.1f} hits, so that it moves far within the "
            "updates for which the theory holds its cell"
        )
    if row.dead.mean < 0.3 * row.most:
        reasons.append(
            f"the number falls steeply, from {number(row.most)} at its highest, and a lag of a window shows as a large "
            "error"
        )
    why = "; ".join(reasons) if reasons else "no assumption is strained in a way that this study measures"
    return f"{row.scenario.name} misses: {_error(row)}, {side}. {why[0].upper()}{why[1:]}."


def _error(row: Row) -> str:
    level = row.levels["shot_noise"]
    return f"{number(level.dead.mean)} predicted, {interval_text(row.dead)} simulated, error {_percent(level.error)}"


def _needed(data: Data) -> Finding | None:
    """How far each level gets, and what decides between them."""
    rows = [
        r for r in data.rows if not r.none_left and r.met("shot_noise") is not None and not r.scenario.revival
    ]
    if len(rows) < 2:
        return None
    counts = {name: sum(bool(r.met(name)) for r in rows) for name in labels.LEVELS}
    text = (
        f"Of {len(rows)} settings with dead codewords at the end, frozen cells are within {TOLERANCE:.0f} % in "
        f"{counts['frozen']}, the mean field in {counts['mean_field']}, shot noise in {counts['shot_noise']}."
    )
    items = []
    for update, unit in (("ema", "B/(K(1−γ))"), ("sgd", "B/(2·lr)")):
        own = [r for r in rows if r.scenario.update == update]
        bad = [r for r in own if not r.met("mean_field")]
        if not own:
            continue
        error = mean_interval([r.levels["mean_field"].error.mean for r in own])
        worst = min(own, key=lambda r: r.levels["mean_field"].error.mean)
        lowest = _percent(worst.levels["mean_field"].error)
        items.append(
            f"{update.upper()}: the mean field errs by {_percent(error)} on average over "
            f"{count_text(len(own), 'setting')} and misses {len(bad)}; lowest in {worst.scenario.name} ({lowest}, "
            f"{worst.scenario.memory_hits:.3g} hits remembered, {unit})."
        )
    both = {u: _mean_error([r for r in rows if r.scenario.update == u], "mean_field") for u in ("ema", "sgd")}
    if both["ema"] < min(-TOLERANCE, both["sgd"]):
        items.append(
            "Why EMA more than SGD: an EMA codeword without hits loses its mass, so that the mean field lets a small "
            "fraction of a hit carry it into the data. Whole hits do not."
        )
    return Finding("How much theory is needed?", text, tuple(items))


def _mean_error(rows: Sequence[Row], level: str) -> float:
    return sum(r.levels[level].error.mean for r in rows) / len(rows) if rows else math.nan


def _fate(data: Data) -> Finding | None:
    """When codewords die and whether they return."""
    rows = [r for r in data.rows if not r.scenario.revival and r.scenario.role != "sweep"]
    if not rows:
        return None
    dying = [r for r in rows if r.most >= 1]
    born = [min(r.levels["frozen"].dead.mean / r.most, 1.0) for r in dying]
    early = [r for r in dying if r.first.mean >= 0.9 * r.most]
    text = (
        ("Mostly at the start: " if 2 * len(early) > len(dying) else "At different times: ")
        + f"in {len(early)} of {count_text(len(dying), 'setting')} without revival nine tenths of the largest number "
        "of dead codewords are there in the first window. "
    )
    if dying:
        text += (
            "Where codewords begin decides first: with frozen cells there would be "
            f"{100 * min(born):.0f} % ({dying[born.index(min(born))].scenario.name}) to {100 * max(born):.0f} % "
            f"({dying[born.index(max(born))].scenario.name}) of that number; the others lose their cells to "
            "neighbours that move into the data."
        )
    items = []
    for update in ("ema", "sgd"):
        own = [r for r in rows if r.scenario.update == update and r.most >= 1]
        if not own:
            continue
        back = [1 - r.dead.mean / r.most for r in own]
        low, high = own[back.index(min(back))], own[back.index(max(back))]
        items.append(
            f"{update.upper()}: between the worst window and the end, {100 * min(back):.0f} % ({low.scenario.name}) to "
            f"{100 * max(back):.0f} % ({high.scenario.name}) of the dead return by themselves."
        )
    return Finding("When do codewords die, and do they return?", text, tuple(items))


def _factors(data: Data) -> Finding | None:
    """The span of the simulated share of dead codewords as each setting changes."""
    rows = data.role("sweep")
    items = []
    for update in ("ema", "sgd"):
        base = next((r for r in rows if r.scenario.update == update and not r.scenario.varied), None)
        if base is None:
            continue
        spans = []
        for key in labels.KEYS:
            own = [r for r in rows if r.scenario.update == update and r.scenario.varied == key]
            if own:
                ordered = sorted([*own, base], key=_share)
                spans.append((_share(ordered[-1]) - _share(ordered[0]), key, ordered[0], ordered[-1]))
        spans.sort(key=lambda span: span[0], reverse=True)
        texts = [
            f"{key.replace('_', ' ')} {_value(low, key)}: {_share(low):.1f} % to {_value(high, key)}: "
            f"{_share(high):.1f} %"
            for _, key, low, high in spans
        ]
        items.append(f"{update.upper()} (base {_share(base):.1f} % of K): {'; '.join(texts)}.")
    if not items:
        return None
    text = "Share of the codebook that is dead at the end, smallest and largest as one setting changes; widest first."
    return Finding("What decides how many die?", text, tuple(items))


def _share(row: Row) -> float:
    return 100 * row.dead.mean / row.scenario.codebook_size


def _value(row: Row, key: str) -> str:
    value = getattr(row.scenario, key)
    return value if isinstance(value, str) else f"{value:g}"


def _revival(data: Data) -> Finding | None:
    rows = [r for r in data.rows if r.scenario.revival]
    if not rows:
        return None
    items = []
    for row in rows:
        other = labels.without_revival(data.rows, row)
        error = _percent_of(row.revived_predicted.mean, row.revived.mean)
        items.append(
            f"{row.scenario.name}: {number(row.dead.mean)} dead at the end"
            + (f" against {number(other.dead.mean)} without revival ({other.scenario.name})" if other else "")
            + f"; {interval_text(row.revived)} codewords replaced over the run, {number(row.revived_predicted.mean)} "
            f"predicted ({error})."
        )
    return Finding(
        "What does revival do?",
        "Codewords with less than 3 % of the mean number of hits are moved to tokens at the end of each window.",
        tuple(items),
    )


def _percent_of(predicted: float, simulated: float) -> str:
    return f"{100 * (predicted / simulated - 1):+.0f} %" if simulated else "none in the simulation"


def _single(data: Data) -> Finding | None:
    if data.lifetimes is None:
        return None
    rows = [r for r in data.lifetimes["rows"] if r["simulation"] is not None and r["theory"] is not None]
    inside = [r for r in rows if r["simulation"]["low"] <= r["theory"] <= r["simulation"]["high"]]
    worst = max(abs(r["theory"] / r["simulation"]["mean"] - 1) for r in rows)
    return Finding(
        "How long does one codeword live?",
        f"For a single codeword in a frozen cell the first-step equation gives the mean time to extinction and to "
        f"recovery of its EMA mass: inside the simulation's 95 % interval in {len(inside)} of {len(rows)} cases, at "
        f"most {100 * worst:.1f} % off.",
    )


def _names(rows: Sequence[Row]) -> str:
    return ", ".join(r.scenario.name for r in rows)


def _percent(interval: Interval) -> str:
    half = f" ± {(interval.high - interval.low) / 2:.1f}" if interval.known else ""
    return f"{interval.mean:+.1f}{half} %"
