"""What the study says, as sentences that the numbers choose. No result is written here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from codebound.reporting.claims import Status, Verdict
from codebound.reporting.finding import Finding, typeset_all
from codebound.reporting.formatting import db_text, number, unknown
from codebound.reporting.statistics import Interval
from codebound.studies.initialisation import labels
from codebound.studies.initialisation.curves import SPLITS
from codebound.studies.initialisation.settings import PROPOSED
from codebound.studies.initialisation.summary import WHEN, Row, Summary

NEGLIGIBLE = 0.5  # per cent: smaller differences are called level, whatever their interval
# Judged in the headline, and named before any run: the proposal's rule, and that rule with the right spectrum.
RULES = {"rd_gaussian": "one variance for all dimensions", "water_filling": "the water-filled spectrum"}


def findings(summary: Summary) -> list[Finding]:
    """What the numbers say beside the answer, in the order a reader asks."""
    parts = (_theory, _distance, _undone, _collapse, _formula)
    return typeset_all(part(summary) for part in parts)


def headline(summary: Summary) -> str:
    """The rule from theory and its correction against k-means, counted over the sources; empty without these arms."""
    counts = []
    for arm, text in RULES.items():
        rows = [row for source in summary.sources if (row := summary.row(source, arm)) is not None]
        changes = [row.versus_baseline["final_fresh_distortion"] for row in rows if row.versus_baseline]
        words = Counter(map(_word, changes))
        order = ("better", "level", "worse", "not distinguishable")
        listed = [f"{word} on {words[word]}" if len(changes) > 1 else word for word in order if words[word]]
        if listed:
            sources = f" of {len(changes)} sources" if len(changes) > 1 else ""
            counts.append(f"with {text} it ends {', '.join(listed)}{sources}")
    return f"Theory's Gaussian start against k-means: {'; '.join(counts)}." if counts else ""


def optimizer_spreads(summary: Summary) -> dict[str, dict[str, float]]:
    """By optimizer and source: by how many per cent the ends of the proposal's three starts lie apart."""
    spreads: dict[str, dict[str, float]] = {}
    for optimizer in labels.OPTIMIZERS:
        for source in summary.sources:
            rows = [row for row in summary.select(source, optimizer) if row.arm in PROPOSED]
            ends = [row.metrics["final_fresh_distortion"].mean for row in rows]
            if len(ends) > 1:
                spreads.setdefault(optimizer, {})[source] = 100 * (max(ends) / min(ends) - 1)
    return spreads


def optimizers(summary: Summary) -> str:
    """Whether the start still matters under the tuned optimizers; empty where only one was run."""
    spreads = {name: max(each.values()) for name, each in optimizer_spreads(summary).items()}
    if len(spreads) < 2:
        return ""
    listed = ", ".join(
        f"{spread:.0f} % with {labels.OPTIMIZERS[name][0]}" for name, spread in spreads.items()
    )
    return f"The optimizer matters too: the ends of the proposal's three starts lie apart by up to {listed}."


def ledger(verdicts: Sequence[Verdict]) -> str:
    """The verdicts, counted; empty where the run is about none of the claims."""
    counts = Counter(v.status for v in verdicts if v.main)
    order = (Status.CONFIRMED, Status.REFUTED, Status.INCONCLUSIVE, Status.NOT_TESTABLE)
    listed = ", ".join(f"{counts[s]} {s.value.lower()}" for s in order if counts[s])
    return f"Of the {counts.total()} numbers that the proposal gives: {listed}." if counts else ""


def distance(summary: Summary, source: str) -> str:
    """How near the best codebook of a source came to its limit, before training or after it."""
    name = summary.reference(source)
    reached = [
        (row, when) for row in summary.select(source) for when in WHEN if f"{when}_{name}" in row.metrics
    ]
    if not reached:
        return ""
    row, when = min(reached, key=lambda pair: pair[0].metrics[f"{pair[1]}_{name}"].mean)
    who = f"{labels.arm(row.arm).name}, {'before' if when == 'initial' else 'after'} training"
    write = _to_an_estimate if summary.estimated(source) else _to_a_bound
    return f"the closest ({who}) is {write(summary, row, when)}"


def _theory(summary: Summary) -> Finding | None:
    """Theory's best end on each source; its interval allows for its having been chosen by the result."""
    items = []
    for source in summary.sources:
        rows = [
            r for r in summary.select(source) if labels.arm(r.arm).family == "theory" and r.versus_baseline
        ]
        if len(rows) > 1:
            best = min(rows, key=lambda r: r.metrics["final_fresh_distortion"].mean)
            change = best.versus_baseline["final_fresh_distortion"].widened(len(rows))
            name = labels.source_name(source, summary.settings)
            items.append(f"{name}: {labels.arm(best.arm).name}, {_change(change)}.")
    text = "Its best end against k-means; the interval allows for the choice."
    return Finding("What theory can do for a start", text, tuple(items)) if items else None


def _change(percent: Interval) -> str:
    """+1.2 % [+0.9, +1.5]; level where it is negligible."""
    if _word(percent) == "level":
        return "level"
    digits = 1 if abs(percent.mean) < 100 else 0
    bounds = f" [{percent.low:+.{digits}f}, {percent.high:+.{digits}f}]" if percent.known else " (one seed)"
    return f"{percent.mean:+.{digits}f} %{bounds}"


def _word(percent: Interval) -> str:
    extremes = (percent.low, percent.high) if percent.known else (percent.mean,)
    if abs(percent.mean) < NEGLIGIBLE and all(abs(x) < 2 * NEGLIGIBLE for x in extremes):
        return "level"
    return "worse" if percent.above(0) else "better" if percent.below(0) else "not distinguishable"


def _distance(summary: Summary) -> Finding | None:
    """For the sources after the first, of which the sentences at the top tell."""
    told = {source: distance(summary, source) for source in summary.sources[1:]}
    items = [f"{labels.source_name(s, summary.settings)}: {text}." for s, text in told.items() if text]
    text = "The least error on fresh data over all starts."
    return Finding("How far from the limit everything stays", text, tuple(items)) if items else None


def _to_a_bound(summary: Summary, row: Row, when: str) -> str:
    text = f"{db_text(row.metrics[f'{when}_gap_db'])} above the Shannon bound"
    converse = summary.limits[row.source].get("converse")
    if converse is None:
        return text
    value = row.metrics[f"{when}_fresh_distortion"].mean
    above = 100 * (value / converse.mean - 1)
    return f"{text}, {above:.1f} % above {number(converse.mean)}, which no codebook of this size comes under"


def _to_an_estimate(_: Summary, row: Row, when: str) -> str:
    """Both distances of a source whose distribution is not known, or why one is not known."""
    names = {
        "gaussian_reference_db": "from the Gaussian of equal covariance",
        "gap_db": "above the estimated Shannon bound",
    }
    told = []
    for name, text in names.items():
        gap = row.metrics.get(f"{when}_{name}")
        reason = "there is no estimate" if gap is None else unknown(gap)
        unknown_text = f"at a distance {text} that is not known ({reason})"
        told.append(unknown_text if gap is None or reason else f"{db_text(gap)} {text}")
    return ", and ".join(told)


def _collapse(summary: Summary) -> Finding | None:
    parts = []
    for source in summary.sources:
        row = summary.row(source, "uniform")
        if row is not None:
            start, end = row.metrics["initial_fresh_dead"].mean, row.metrics["final_fresh_dead"].mean
            name = labels.source_name(source, summary.settings)
            parts.append(f"{name} {start:.0f} → {end:.0f}")
    title = f"Dead codes of the uniform start, of {summary.settings.codebook_size}"
    return Finding(title, "; ".join(parts) + ".") if parts else None


def _undone(summary: Summary) -> Finding | None:
    """Starts that the proposal's training makes worse on fresh data."""
    items = []
    for source in summary.sources:
        for row in summary.select(source):
            change = row.metrics["fresh_change_percent"]
            if change.above(0):
                fresh, train = (
                    " → ".join(number(row.metrics[f"{when}_{split}_distortion"].mean) for when in WHEN)
                    for split in SPLITS
                )
                name = labels.source_name(source, summary.settings)
                items.append(
                    f"{name}, {labels.arm(row.arm).name}: {fresh} ({_change(change)}), training set {train}."
                )
    text = "Error on fresh data, before and after the proposal's training."
    return Finding("Where training undoes a good start", text, tuple(items)) if items else None


def _formula(summary: Summary) -> Finding | None:
    """The isotropic formula shown to be no bound, where a codebook is below it on fresh data."""
    parts = []
    for source in summary.sources:
        formula, rows = summary.limits[source].get("isotropic_formula"), summary.select(source)
        if formula is None or not rows:
            continue
        best = min(r.metrics["final_fresh_distortion"].mean for r in rows)
        if best < formula.mean:
            name = labels.source_name(source, summary.settings)
            parts.append(f"{name}: {number(best)} reached, {number(formula.mean)} by the formula")
    text = f"Trained codebooks come under it ({'; '.join(parts)})."
    return Finding("k·σ²·2^(−2R) is no bound where the variances differ", text) if parts else None
