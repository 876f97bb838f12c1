"""What the study says in words that the numbers choose. No result is written here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from codebound.reporting.finding import typeset_all
from codebound.reporting.formatting import percent_text
from codebound.studies.framework.declare import Finding, count_text, number, typeset
from codebound.studies.population import labels
from codebound.studies.population.settings import Role
from codebound.studies.population.summary import TOLERANCE, ScenarioResult, of_role

Results = Sequence[ScenarioResult]


def answer(results: Results) -> str:
    """How many die and return, and whether theory says so."""
    free, dying, _ = _groups(results)
    parts = []
    if free:
        dead = f"Without revival {_span([each.dead_share for each in free])} of the codewords are dead at the end"
        back = (
            f"; of the dead of the worst moment {_span([each.back for each in dying])} have returned by then"
        )
        parts.append(dead + (back if dying else "") + f" ({count_text(len(free), 'setting')}).")
    if new := [each for each in of_role(results, "held_out", "own") if each.judged]:
        right = sum(bool(each.theory.within_10_percent) for each in new)
        parts.append(
            f"Theory predicts how many, within {TOLERANCE:.0f} %, in {right} of {count_text(len(new), 'setting')} that "
            "it was not made on."
        )
    return typeset(" ".join(parts) or "Only settings with revival are finished so far.")


def sentences(results: Results, lifetimes: Mapping[str, Any] | None) -> list[str]:
    """What else a reader should know at once."""
    _, dying, revived = _groups(results)
    judged = [each for each in results if each.judged and not each.scenario.revival]
    chains = (
        [r for r in lifetimes["rows"] if r["simulation"] and r["theory"] is not None] if lifetimes else []
    )
    said = []
    if dying:
        early = [each for each in dying if each.dead_first_window.mean >= 0.9 * each.most_dead]
        said.append(
            f"In {len(early)} of {count_text(len(dying), 'setting')} nine tenths of the largest number of dead "
            "codewords are there in the first window: where codewords begin decides first."
        )
    if len(judged) > 1:
        counts = [
            f"{look.name} {sum(bool(each.levels[level].within_10_percent) for each in judged)}"
            for level, look in labels.LEVELS.items()
        ]
        said.append(
            f"Of {len(judged)} settings with dead codewords at the end theory predicts within {TOLERANCE:.0f} %: "
            f"{', '.join(counts)}."
        )
    if revived:
        most = max(each.dead_share for each in revived)
        said.append(f"With revival at most {most:.1f} % are dead at the end.")
    if chains:
        inside = [r for r in chains if r["simulation"]["low"] <= r["theory"] <= r["simulation"]["high"]]
        said.append(
            "How long one codeword in a cell that stands still lives is known in closed form: inside the simulation's "
            f"95 % interval in {len(inside)} of {len(chains)} cases."
        )
    return [typeset(sentence) for sentence in said]


def findings(results: Results, codewords: int) -> list[Finding]:
    """The numbers behind the answer."""
    verdicts = [
        _verdict(role, of_role(results, role), codewords) for role in labels.ROLES if role != "revival"
    ]
    return typeset_all([*verdicts, _mean_field(results), _factors(of_role(results, "sweep"))])


def _verdict(role: Role, results: Results, codewords: int) -> Finding | None:
    """How many of a role's settings are predicted, and what is to be said of the others."""
    if not results:
        return None
    judged = [each for each in results if each.judged]
    misses = [each for each in judged if not each.theory.within_10_percent]
    none = [each.scenario.name for each in results if each.none_left]
    unsure = [each.scenario.name for each in results if each.theory.within_10_percent is None]
    parts = []
    if judged:
        parts.append(
            f"Shot noise is within {TOLERANCE:.0f} % in {len(judged) - len(misses)} of {len(judged)}."
        )
    if none:
        parts.append(f"Hardly a codeword is dead at the end, simulated and predicted, in {', '.join(none)}.")
    if unsure:
        parts.append(
            f"More runs are needed (codewords={codewords}) where two standard errors of the simulated mean are above "
            f"{TOLERANCE:.0f} %: {', '.join(unsure)}."
        )
    return Finding(f"Settings: {labels.ROLES[role].name}", " ".join(parts), tuple(map(_miss, misses)))


def _miss(each: ScenarioResult) -> str:
    """What is off, by how much, and which of the theory's assumptions is the strained one."""
    error, reasons = each.theory.error_percent, []
    if abs(error.mean) - (error.high - error.low) / 2 <= TOLERANCE:
        reasons.append("the interval reaches inside the tolerance, so the miss may be chance")
    if each.memory_hits < 5:
        reasons.append(
            f"a mean codeword remembers only {each.memory_hits:.1f} hits, so that it moves far within the updates for "
            "which the theory holds its cell"
        )
    if each.dead.mean < 0.3 * each.most_dead:
        reasons.append(f"the number falls steeply, from {number(each.most_dead)} at its highest")
    why = "; ".join(reasons) or "no assumption is strained in a way that this study measures"
    return f"{each.scenario.name} misses by {percent_text(error)}: {why}."


def _mean_field(results: Results) -> Finding | None:
    """Why the mean field isn't enough for EMA, where it isn't."""
    judged = [each for each in results if each.judged and not each.scenario.revival]
    errors = {
        update: [r.levels["mean_field"].error_percent.mean for r in judged if r.scenario.update == update]
        for update in ("ema", "sgd")
    }
    if not all(errors.values()):
        return None
    ema, sgd = fmean(errors["ema"]), fmean(errors["sgd"])
    text = f"Its mean error is {ema:+.1f} % over the settings with EMA and {sgd:+.1f} % over those with SGD."
    if ema < min(-TOLERANCE, sgd):
        text += (
            " An EMA codeword without hits loses its mass, so that the mean field lets a small fraction of a hit carry "
            "it into the data. Whole hits do not."
        )
    return Finding("The mean field", text)


def _factors(results: Results) -> Finding | None:
    """The span of the simulated share of dead codewords as each setting changes, widest first."""
    items = []
    for update in ("ema", "sgd"):
        spans = []
        for key in labels.KEYS:
            own = [r for r in results if r.scenario.update == update and r.scenario.varied in (key, "")]
            if any(each.scenario.varied for each in own):
                ends = [pick(own, key=lambda each: each.dead_share) for pick in (min, max)]
                texts = [f"{getattr(each.scenario, key)}: {each.dead_share:.1f} %" for each in ends]
                name = key.replace("_", " ")
                spans.append((ends[1].dead_share - ends[0].dead_share, f"{name} {' to '.join(texts)}"))
        if spans:
            items.append(f"{update.upper()}: {'; '.join(text for _, text in sorted(spans, reverse=True))}.")
    if not items:
        return None
    return Finding(
        "What decides how many die", "Dead at the end as one setting changes, widest first:", tuple(items)
    )


def _groups(results: Results) -> tuple[Results, Results, Results]:
    """Settings without revival, those of them in which a codeword dies, and settings with revival."""
    free = [each for each in results if not each.scenario.revival]
    dying = [each for each in free if each.most_dead >= 1]
    return free, dying, [each for each in results if each.scenario.revival]


def _span(values: Sequence[float]) -> str:
    """0 to 95 % (median 12 %)"""
    if len(values) == 1:
        return f"{values[0]:.0f} %"
    return f"{min(values):.0f} to {max(values):.0f} % (median {median(values):.0f} %)"
