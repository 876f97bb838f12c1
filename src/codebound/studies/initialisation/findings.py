"""What the study found, as sentences that the numbers choose. No result is written here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from codebound.reporting.claims import Status, Verdict
from codebound.reporting.finding import Finding, typeset_all
from codebound.reporting.formatting import count_text, db_text, number
from codebound.reporting.statistics import Interval
from codebound.studies.initialisation.labels import look, source_name
from codebound.studies.initialisation.rundata import SPLITS, WHEN
from codebound.studies.initialisation.settings import DOCUMENTED
from codebound.studies.initialisation.summary import BASELINE, Row, Summary

NEGLIGIBLE = 0.5  # per cent: smaller differences are called level, whatever their interval
# Judged in the headline, and named before any run: the documents' rule, and that rule with the right spectrum.
RULE, CORRECTED = "rd_gaussian", "water_filling"


def findings(summary: Summary, verdicts: Sequence[Verdict]) -> list[Finding]:
    """The executive summary, in the order a reader asks."""
    found = [
        _question(summary),
        _distance(summary),
        _ledger(verdicts),
        _collapse(summary),
        _undone(summary),
        _optimizer(summary),
        _finite_data(summary),
        _formula(summary),
    ]
    return typeset_all(found)


def _question(summary: Summary) -> Finding | None:
    """The documents' rule and its correction against k-means on the batch: the count, then each source."""
    words: dict[str, list[str]] = {RULE: [], CORRECTED: []}
    items = []
    for source in summary.sources:
        pair = [summary.row(source, arm) for arm in (RULE, CORRECTED)]
        judged = [row for row in pair if row is not None and row.versus_baseline]
        for row in judged:
            words[row.arm].append(_word(row.versus_baseline["final_fresh_distortion"]))
        if judged:
            text = "; ".join(f"{look(row.arm).name} {_start_end(row)}" for row in judged)
            items.append(f"{source_name(source)}: {text}.{_leader(summary, source)}")
    if not items:
        return None
    counts = [
        f"{text} is {_count(words[arm])}"
        for arm, text in (
            (RULE, "the documents' rule (one variance for all dimensions)"),
            (CORRECTED, "the same rule with the water-filled spectrum"),
        )
        if words[arm]
    ]
    text = f"After training, and against k-means on the batch, {'; '.join(counts)}."
    return Finding("Can rate-distortion theory choose a better start than k-means?", text, tuple(items))


def _leader(summary: Summary, source: str) -> str:
    """The best end among theory's starts; its interval allows for its having been chosen by the result."""
    theory = [r for r in summary.select(source) if look(r.arm).family == "theory" and r.versus_baseline]
    if len(theory) < 2:
        return ""
    best = min(theory, key=lambda r: r.metrics["final_fresh_distortion"].mean)
    percent = best.versus_baseline["final_fresh_distortion"].widened(len(theory))
    return (
        f" Of theory's {len(theory)} starts “{look(best.arm).name}” ends best, {_against(percent)}"
        f"{', interval widened for the choice' if percent.known else ''}."
    )


def _word(percent: Interval) -> str:
    if _level(percent):
        return "level"
    return "worse" if percent.above(0) else "better" if percent.below(0) else "not distinguishable"


def _count(words: list[str]) -> str:
    counts = Counter(words)
    order = ("better", "level", "worse", "not distinguishable")
    return (
        ", ".join(f"{w} on {counts[w]}" for w in order if counts[w])
        + f" of {count_text(len(words), 'source')}"
    )


def _level(percent: Interval) -> bool:
    extremes = (percent.low, percent.high) if percent.known else (percent.mean,)
    return abs(percent.mean) < NEGLIGIBLE and all(abs(x) < 2 * NEGLIGIBLE for x in extremes)


def _start_end(row: Row) -> str:
    start, end = (row.versus_baseline[f"{when}_fresh_distortion"] for when in ("initial", "final"))
    dead = row.metrics["final_fresh_dead"].mean
    tail = f", with {dead:.0f} dead codes" if dead >= 1 else ""
    return f"starts {_against(start)} and ends {_against(end)}{tail}"


def _against(percent: Interval) -> str:
    shown = f"{abs(percent.mean):.1f} %"
    if not percent.known:
        return f"{shown} {'above' if percent.mean > 0 else 'below'} it (one seed: no interval)"
    digits = 1 if abs(percent.mean) < 100 else 0
    shown = f"{abs(percent.mean):.{digits}f} %"
    bounds = f"95 %: {percent.low:+.{digits}f} to {percent.high:+.{digits}f} %"
    if _level(percent):
        return f"level with k-means ({bounds})"
    if percent.low > 0:
        return f"{shown} above k-means in error ({bounds})"
    if percent.high < 0:
        return f"{shown} below k-means in error ({bounds})"
    return f"not distinguishable from k-means ({bounds})"


def _distance(summary: Summary) -> Finding | None:
    items = []
    for source in summary.sources:
        gap_name = "gaussian_reference_db" if summary.estimated(source) else "gap_db"
        reached = [
            (row, when, row.metrics[f"{when}_{gap_name}"])
            for row in summary.select(source)
            for when in WHEN
            if f"{when}_{gap_name}" in row.metrics
        ]
        if not reached:
            continue
        row, when, gap = min(reached, key=lambda found: found[2].mean)
        name = f"{look(row.arm).name}, {'before' if when == 'initial' else 'after'} training"
        write = _estimated_distance if summary.estimated(source) else _known_distance
        items.append(f"{source_name(source)}: the closest ({name}) is {write(summary, row, when, gap)}.")
    title = "How far from the limit everything stays"
    text = "The least error on fresh data over all starts, before training or after it, beside the limit."
    return Finding(title, text, tuple(items)) if items else None


def _known_distance(summary: Summary, row: Row, when: str, gap: Interval) -> str:
    text = f"{db_text(gap)} above the Shannon bound"
    converse = summary.limits[row.source].get("converse")
    if converse is None:
        return text
    value = row.metrics[f"{when}_fresh_distortion"].mean
    return (
        f"{text}; but no codebook of n = {summary.codebook_size}, k = {summary.dim} can have less than "
        f"{number(converse.mean)} there, and {number(value)} is {100 * (value / converse.mean - 1):.1f} % above that"
    )


def _estimated_distance(summary: Summary, row: Row, when: str, reference: Interval) -> str:
    limits = summary.limits[row.source]
    low, high = (number(limits[f"shannon_{side}"].mean) for side in ("low", "high"))
    text = (
        f"{db_text(reference)} from what a Gaussian of equal covariance needs (negative: less error than that). The "
        f"Shannon lower bound is only an estimate, {number(limits['shannon'].mean)} [{low}, {high}]"
    )
    gap = row.metrics.get(f"{when}_gap_db")
    text += f", and {db_text(gap)} away" if gap is not None else ""
    if row.source == "photos":
        text += "; it speaks for patches of these few photographs only, too few scenes for a density of photographs"
    return text


def _ledger(verdicts: Sequence[Verdict]) -> Finding | None:
    counts = Counter(v.status for v in verdicts if v.main)
    if not counts:
        return None
    order = (Status.CONFIRMED, Status.REFUTED, Status.INCONCLUSIVE, Status.NOT_TESTABLE)
    listed = ", ".join(f"{counts[s]} {s.value.lower()}" for s in order if counts[s])
    text = f"Of the {sum(counts.values())} numbers the documents give: {listed}."
    apart = [v for v in verdicts if not v.main and v.status is Status.REFUTED]
    held = {v.claim.id for v in verdicts if v.main and v.status is Status.CONFIRMED}
    only = sorted({v.claim.statement for v in apart if v.claim.id in held})
    if only:
        text += (
            f" {count_text(len(only), 'confirmed one')} fail elsewhere (on fresh data or on the raw source)."
        )
    return Finding("The documents' numbers", text)


def _collapse(summary: Summary) -> Finding | None:
    parts = []
    for source in summary.sources:
        row = summary.row(source, "uniform")
        if row is None:
            continue
        start, end = row.metrics["initial_fresh_dead"].mean, row.metrics["final_fresh_dead"].mean
        word = "rise" if end > start + 1 else "fall" if end < start - 1 else "stay"
        parts.append(f"{source_name(source)}: dead codes {word} from {start:.0f} to {end:.0f}")
    if not parts:
        return None
    return Finding(f"What becomes of the uniform start (n = {summary.codebook_size})", "; ".join(parts) + ".")


def _undone(summary: Summary) -> Finding | None:
    """Starts that the documents' training makes worse on fresh data."""
    items = []
    for source in summary.sources:
        for row in summary.select(source):
            change = row.metrics["fresh_change_percent"]
            if change.above(0):
                fresh, train = (
                    " → ".join(number(row.metrics[f"{when}_{split}_distortion"].mean) for when in WHEN)
                    for split in SPLITS
                )
                items.append(
                    f"{source_name(source)}, {look(row.arm).name}: {fresh} ({change.mean:+.1f} %, 95 %: "
                    f"{change.low:+.1f} to {change.high:+.1f} %); on the training set {train}."
                )
    if not items:
        return None
    text = "From these starts the error on fresh data is larger after the documents' training than before it:"
    return Finding("Where training undoes a good start", text, tuple(items))


def _optimizer(summary: Summary) -> Finding | None:
    """Whether the start still matters under the tuned optimizers."""
    parts = []
    for optimizer in ("adam", "adam_cosine", "ema"):
        spreads = []
        for source in summary.sources:
            rows = [r for r in summary.select(source, optimizer) if r.arm in DOCUMENTED]
            if len(rows) > 1:
                ends = [r.metrics["final_fresh_distortion"].mean for r in rows]
                spreads.append(100 * (max(ends) / min(ends) - 1))
        if spreads:
            parts.append((optimizer, max(spreads)))
    if len(parts) < 2:
        return None
    names = {"adam": "the documents' Adam", "adam_cosine": "Adam with a tuned schedule", "ema": "EMA"}
    listed = ", ".join(f"{spread:.0f} % with {names[name]}" for name, spread in parts)
    return Finding(
        "Start or optimizer",
        f"The ends of the documents' three starts lie apart, on the source where they differ most, by {listed}.",
    )


def _finite_data(summary: Summary) -> Finding | None:
    rows = [r for s in summary.sources if (r := summary.row(s, BASELINE)) is not None]
    if not rows:
        return None
    flattery = [
        100 * (1 - r.metrics["final_train_distortion"].mean / r.metrics["final_fresh_distortion"].mean)
        for r in rows
    ]
    low, high = min(flattery), max(flattery)
    span = f"{low:.0f} %" if round(low) == round(high) else f"{low:.0f} to {high:.0f} %"
    return Finding(
        "Training set and fresh data",
        f"After training from k-means the error on the training set is {span} lower than on fresh data, so an "
        "error measured there can seem to come under a limit that nothing comes under. The comparisons here "
        "are on fresh data unless they say otherwise.",
    )


def _formula(summary: Summary) -> Finding | None:
    """The isotropic formula shown to be no bound, where a codebook is below it on fresh data."""
    parts = []
    for source in summary.sources:
        formula = summary.limits[source].get("isotropic_formula")
        rows = summary.select(source)
        if formula is None or not rows:
            continue
        best = min(r.metrics["final_fresh_distortion"].mean for r in rows)
        if best < formula.mean:
            parts.append(
                f"{source_name(source)}: {number(best)} reached, {number(formula.mean)} by the formula"
            )
    if not parts:
        return None
    return Finding(
        "k·σ²·2^(−2R) is no bound where the variances differ",
        "Trained codebooks come under it ("
        + "; ".join(parts)
        + "). For a Gaussian source the bound there is the water-filled one.",
    )
