"""What the study found, as sentences that the numbers choose. No result is written here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from codebound.studies.claims import Status, Verdict, number
from codebound.studies.initialisation.labels import look, source_name
from codebound.studies.initialisation.settings import DOCUMENTED
from codebound.studies.initialisation.summary import BASELINE, Row, Summary
from codebound.studies.statistics import Interval

NEGLIGIBLE = 0.5  # per cent: smaller differences are called level, whatever their interval


@dataclass(frozen=True)
class Finding:
    """A sentence or two under a heading."""

    title: str
    text: str
    items: tuple[str, ...] = ()  # a list after the text


@dataclass(frozen=True)
class Rank:
    """How far an arm is above the best arm of each source, in per cent of distortion, (start, end)."""

    arm: str
    excess: dict[str, tuple[float, float]]

    @property
    def worst_start(self) -> float:
        return max(start for start, _ in self.excess.values())

    @property
    def worst_end(self) -> float:
        return max(end for _, end in self.excess.values())


def findings(summary: Summary, verdicts: Sequence[Verdict]) -> list[Finding]:
    """The executive summary, in the order a reader asks."""
    found = [
        _question(summary),
        _distance(summary),
        _ledger(verdicts),
        _collapse(summary),
        _optimizer(summary),
        _finite_data(summary),
        _formula(summary),
    ]
    return [Finding(f.title, _typeset(f.text), tuple(map(_typeset, f.items))) for f in found if f is not None]


def ranking(summary: Summary, optimizer: str = "adam") -> list[Rank]:
    """The arms that ran on every source, safest first: smallest worst case after training, then at the start.

    Worst cases that differ by less than 0.2 % count as equal.
    """
    tables = {source: {r.arm: r for r in summary.select(source, optimizer)} for source in summary.sources}
    common = [arm for arm in summary.arms if all(arm in table for table in tables.values())]
    ranks = []
    for arm in common:
        excess = {}
        for source, table in tables.items():
            start, end = (_excess(table[arm], list(table.values()), when) for when in ("initial", "final"))
            excess[source] = (start, end)
        ranks.append(Rank(arm, excess))
    return sorted(ranks, key=lambda r: (round(r.worst_end / 0.2), r.worst_start))


def recommendation(summary: Summary) -> list[str]:
    """Which initialisation to use, in sentences."""
    ranks = ranking(summary)
    if not ranks:
        return ["No arm ran on every source, so none can be recommended."]
    first, where = ranks[0], _plural(len(summary.sources), "source")
    sentences = [
        f"Use “{look(first.arm).name}” ({look(first.arm).text}). Over the {where} here it never ends more than "
        f"{_excess_text(first.worst_end)} above the best arm, nor starts more than "
        f"{_excess_text(first.worst_start)} above it."
    ]
    good = [r for r in ranks[1:] if r.worst_end < 1.0]
    if good:
        names = ", ".join(look(r.arm).name for r in good)
        sentences.append(f"Also within 1 % of the best end on every source: {names}.")
    # To be worth a warning an arm must be clearly worse than what everybody has already.
    usual = max((r.worst_end for r in ranks if r.arm == BASELINE), default=0.0)
    bad = [r for r in ranks if r.worst_end > usual + 5]
    if bad:
        names = ", ".join(f"{look(r.arm).name} ({r.worst_end:.0f} %)" for r in reversed(bad))
        sentences.append(
            f"Avoid, at least with this optimizer, for their worst case above the best end: {names}."
        )
    return [_typeset(sentence) for sentence in sentences]


def _question(summary: Summary) -> Finding | None:
    """Theory's initialisations against k-means on the batch: the count over sources, then each source."""
    documented, best, items = [], [], []
    for source in summary.sources:
        theory = {
            r.arm: r for r in summary.select(source) if look(r.arm).family == "theory" and r.versus_baseline
        }
        rule = summary.row(source, "rd_gaussian")
        if not theory or rule is None or not rule.versus_baseline:
            continue
        leader = min(theory.values(), key=lambda r: r.metrics["final_fresh_distortion"].mean)
        documented.append(_word(rule.versus_baseline["final_fresh_distortion"]))
        best.append(_word(leader.versus_baseline["final_fresh_distortion"]))
        items.append(
            f"{source_name(source)}: the documents' R(D) Gaussian {_start_end(rule)}. "
            f"The best start from theory, “{look(leader.arm).name}”, {_start_end(leader)}."
        )
    if not items:
        return None
    text = (
        f"After training, and against k-means on the batch, the documents' rule is {_count(documented)}; the best of "
        f"the other starts from theory (the water-filled spectrum, the finite-n correction, synthetic Lloyd, a "
        f"lattice) is {_count(best)}."
    )
    return Finding("Can rate-distortion theory choose a better start than k-means?", text, tuple(items))


def _word(percent: Interval) -> str:
    if _level(percent):
        return "level"
    return "worse" if percent.above(0) else "better" if percent.below(0) else "not distinguishable"


def _count(words: list[str]) -> str:
    counts = Counter(words)
    order = ("better", "level", "worse", "not distinguishable")
    return (
        ", ".join(f"{w} on {counts[w]}" for w in order if counts[w]) + f" of {_plural(len(words), 'source')}"
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
    parts = []
    for source in summary.sources:
        rows = [r for r in summary.select(source) if "final_gap_db" in r.metrics]
        if not rows:
            continue
        best = min(rows, key=lambda r: r.metrics["final_gap_db"].mean)
        gap, limits = best.metrics["final_gap_db"], summary.limits[source]
        text = f"{source_name(source)}: the best end ({look(best.arm).name}) is {_db(gap)} above the Shannon bound"
        if "converse" in limits:
            value, converse = best.metrics["final_fresh_distortion"].mean, limits["converse"].mean
            text += (
                f"; but no codebook of n = {summary.codebook_size}, k = {summary.dim} can have less than "
                f"{number(converse)} there, and {number(value)} is {100 * (value / converse - 1):.1f} % above that"
            )
        elif "final_gaussian_reference_db" in best.metrics and "shannon_low" in limits:
            reference = best.metrics["final_gaussian_reference_db"].mean
            side = "below" if reference < 0 else "above"
            text += f" (an estimate), and {abs(reference):.2f} dB {side} the Gaussian of equal covariance"
        parts.append(text + ".")
    return Finding("How far from the limit everything ends", " ".join(parts)) if parts else None


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
        text += f" {_plural(len(only), 'confirmed one')} fail elsewhere (on fresh data or on the raw source)."
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


def _typeset(text: str) -> str:
    """Numbers keep their units, and minus signs look like minus signs."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", re.sub(r"(?<=\d) (?=%|dB)", "\u00a0", text))


def _excess(row: Row, rows: Sequence[Row], when: str) -> float:
    """Per cent above the best arm, from decibels so that redrawn sources weigh equally."""
    name = f"{when}_gaussian_reference_db"
    if any(name not in r.metrics for r in rows):
        name = f"{when}_fresh_distortion"
        return 100 * (row.metrics[name].mean / min(r.metrics[name].mean for r in rows) - 1)
    above = row.metrics[name].mean - min(r.metrics[name].mean for r in rows)
    return 100 * (10 ** (above / 10) - 1)


def _excess_text(percent: float) -> str:
    return "0.1 %" if percent < 0.1 else f"{percent:.1f} %"


def _db(gap: Interval) -> str:
    return f"{gap.mean:.2f} dB" + (f" [{gap.low:.2f}, {gap.high:.2f}]" if gap.known else "")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
