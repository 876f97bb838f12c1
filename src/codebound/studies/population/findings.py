"""What the study says in words that the numbers choose. No result is written here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from codebound.reporting.finding import typeset_all
from codebound.reporting.formatting import percent_text
from codebound.studies.framework.declare import Finding, count_text, number, typeset
from codebound.studies.population import figures
from codebound.studies.population.summary import TOLERANCE, ScenarioResult, of_role

Results = Sequence[ScenarioResult]


def answer(results: Results) -> str:
    """How many die and return, and whether theory says so."""
    free = [each for each in results if not each.scenario.revival]
    dying = [each for each in free if each.most_dead >= 1]
    new = [each for each in of_role(results, "held_out", "own") if each.judged]
    text = "Only settings with revival are finished so far."
    if free:
        dead = _span([each.share().mean for each in free])
        text = f"In {count_text(len(free), 'way')} of training {dead} of the codewords are dead at the end"
    if dying:
        text += f"; of those dead at the worst moment {_span([each.back for each in dying])} have come back unaided"
    if new:
        right = (
            f"{sum(bool(each.theory.within_10_percent) for each in new)} of {count_text(len(new), 'setting')}"
        )
        text += f". Theory predicts how many, within {TOLERANCE:.0f} %, in {right} that it was not made on"
    return typeset(text.removesuffix(".") + ".")


def sentences(results: Results, lifetimes: Mapping[str, Any] | None) -> list[str]:
    """What else a reader should know at once."""
    dying = [each for each in results if each.most_dead >= 1 and not each.scenario.revival]
    judged = [each for each in results if each.judged and not each.scenario.revival]
    revived = [each.share().mean for each in results if each.scenario.revival]
    rows = lifetimes["rows"] if lifetimes else []
    chains = [row for row in rows if row["simulation"] and row["theory"] is not None]
    said = []
    if dying:
        early = sum(each.dead_first_window.mean >= 0.9 * each.most_dead for each in dying)
        said.append(
            f"In {early} of {count_text(len(dying), 'setting')} nine tenths of the largest number of dead codewords "
            "are there in the first window."
        )
    if len(judged) > 1:
        counts = [
            f"{look.name} {sum(bool(each.levels[level].within_10_percent) for each in judged)}"
            for level, look in figures.LEVELS.items()
        ]
        said.append(
            f"Of {len(judged)} settings with dead codewords at the end theory predicts within {TOLERANCE:.0f} %: "
            f"{', '.join(counts)}."
        )
    if widest := _widest(results):
        said.append(widest)
    if revived:
        most = f"at most {max(revived):.1f} % are dead at the end"
        said.append(f"With revival, which moves dead codewords to tokens, {most}.")
    if chains:
        inside = [r for r in chains if r["simulation"]["low"] <= r["theory"] <= r["simulation"]["high"]]
        said.append(
            "How long one codeword in a cell that stands still lives is known in closed form: inside the simulation's "
            f"95 % interval in {len(inside)} of {len(chains)} cases."
        )
    return [typeset(sentence) for sentence in said]


def findings(results: Results) -> list[Finding]:
    """What the theories get wrong, and why."""
    judged = [each for each in results if each.judged and not each.scenario.revival]
    misses = tuple(_miss(each) for each in judged if not each.theory.within_10_percent)
    ema, sgd = (
        [each.levels["mean_field"].error_percent.mean for each in judged if each.scenario.update == update]
        for update in ("ema", "sgd")
    )
    said = []
    if judged:
        count = f"{len(misses)} of {count_text(len(judged), 'setting')}"
        said.append(Finding("What shot noise misses", f"{count} with dead codewords at the end.", misses))
    if ema and sgd and fmean(ema) < min(-TOLERANCE, fmean(sgd)):
        text = (
            f"It errs by {fmean(ema):+.1f} % on average with EMA and by {fmean(sgd):+.1f} % with SGD: an EMA codeword "
            "without hits loses its mass, so that a fraction of a hit carries it into the data. Whole hits do not."
        )
        said.append(Finding("Why the mean field fails for EMA", text))
    return typeset_all(said)


def _miss(each: ScenarioResult) -> str:
    """By how much, and which of the theory's assumptions is the strained one."""
    error, reasons = each.theory.error_percent, []
    if abs(error.mean) - (error.high - error.low) / 2 <= TOLERANCE:
        reasons.append("the interval reaches inside the tolerance, so the miss may be chance")
    if each.memory_hits < 5:
        hits = f"a mean codeword remembers only {each.memory_hits:.1f} hits"
        reasons.append(f"{hits}, so that it moves far within the updates for which the theory holds its cell")
    if each.dead.mean < 0.3 * each.most_dead:
        reasons.append(f"the number falls steeply, from {number(each.most_dead)} at its highest")
    why = "; ".join(reasons) or "no assumption is strained in a way that this study measures"
    return f"{each.scenario.name}, {figures.ROLES[each.scenario.role].name}: {percent_text(error)}; {why}."


def _widest(results: Results) -> str:
    """The factor that changes the share of dead codewords most, for each update that was swept."""
    texts = []
    for update in ("ema", "sgd"):
        own = [each for each in of_role(results, "sweep") if each.scenario.update == update]
        spans = {key: [r.share().mean for r in own if r.scenario.varied in (key, "")] for key in figures.KEYS}
        widest = max(spans, key=lambda key: max(spans[key], default=0) - min(spans[key], default=0))
        if len(spans[widest]) > 1:
            low, high = min(spans[widest]), max(spans[widest])
            texts.append(f"with {update.upper()} {figures.KEYS[widest]} ({low:.0f} to {high:.0f} % dead)")
    return f"Of settings changed one at a time {' and '.join(texts)} changes most." if texts else ""


def _span(values: Sequence[float]) -> str:
    """0 to 95 % (median 12 %)"""
    if len(values) < 2:
        return "".join(f"{value:.0f} %" for value in values)
    return f"{min(values):.0f} to {max(values):.0f} % (median {median(values):.0f} %)"
