"""What the study found, as sentences that the numbers choose. No result is written here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from codebound.reporting.claims import Status, Verdict
from codebound.reporting.finding import Finding, typeset_all
from codebound.reporting.formatting import db_text, number, typeset
from codebound.reporting.statistics import Interval, mean_interval, paired_percent, paired_ratio
from codebound.studies.estimators.arms import BASELINE, EXACT_BETA, SINGLE
from codebound.studies.estimators.labels import ESTIMATORS, PROTOCOLS, WAYS, source_name
from codebound.studies.estimators.rundata import StudyData, beta_range_percent
from codebound.studies.estimators.study import VERIFIED_ON
from codebound.studies.estimators.summary import SourceSummary, bound_name, learned_gain

NEGLIGIBLE = 0.25  # per cent: a difference whose whole interval is smaller is called level


def findings(
    data: StudyData, summaries: Sequence[SourceSummary], verdicts: Sequence[Verdict]
) -> list[Finding]:
    """The executive summary, in the order a reader asks."""
    found = [
        _pca(data, summaries),
        _learning(data, summaries),
        _restarts(data, summaries),
        _rotation(data, summaries),
        _networks(data, summaries),
        _beta(data),
        _distance(data, summaries),
        _verification(data),
        _cost(data),
        _ledger(verdicts),
    ]
    return typeset_all(found)


def recommendation(data: StudyData, summaries: Sequence[SourceSummary]) -> list[str]:
    """What to do, from the numbers: estimator, β, restarts."""
    said = []
    words = Counter(
        word(p) for s in data.sources for p in _rotation_percents(data, s, data.settings.commitment).values()
    )
    if words:
        counts = ", ".join(f"{w} in {n}" for w, n in words.items())
        said.append(
            f"Estimator: over {sum(words.values())} comparisons (source × protocol, linear encoder) rotation is "
            f"{counts} of them against straight-through, whose gradient is the simpler one."
        )
    versus = [r.versus for s in summaries for r in s.networks if r.estimator == "rotation" and r.versus]
    if versus:
        counts = ", ".join(f"{w} in {n}" for w, n in Counter(map(word, versus)).items())
        said.append(
            f"With a non-linear encoder (MLP, source × β) rotation is {counts} of {len(versus)} comparisons against "
            f"straight-through. Each at its better β: {_own_beta(data, summaries)}."
        )
    pairs = [_exact(data, s, "lloyd") for s in data.sources]
    gains = [p for p in pairs if p is not None]
    if gains:
        counts = Counter(word(p) for p in gains)
        listed = ", ".join(f"{w} on {n}" for w, n in counts.items())
        said.append(
            f"β: with straight-through, tied weights and orthonormal columns β = {EXACT_BETA:g} is the exact gradient "
            f"of the distortion. From the best Lloyd codebook it is {listed} of {len(gains)} sources against the "
            f"documents' β = {data.settings.commitment:g}."
        )
    first = summaries[0]
    said.append(_restart_advice(first))
    return [typeset(text) for text in said]


def _own_beta(data: StudyData, summaries: Sequence[SourceSummary]) -> str:
    """Rotation against straight-through under the MLP, either at the β with the smaller mean error."""
    parts = []
    for summary in summaries:
        best = {}
        for row in summary.networks:
            known = best.get(row.estimator)
            if known is None or row.metrics["mse"].mean < known.metrics["mse"].mean:
                best[row.estimator] = row
        if {"rotation", "straight_through"} <= set(best):
            own, base = (
                data.network(summary.source, name, best[name].beta)
                for name in ("rotation", "straight_through")
            )
            percent = paired_percent(own, base)
            parts.append(
                f"{source_name(summary.source)} {_signed(percent)} ({word(percent)}; β = {best['rotation'].beta:g} "
                f"against {best['straight_through'].beta:g})"
            )
    return ", ".join(parts)


def _restart_advice(summary: SourceSummary) -> str:
    most = max(summary.restarts)
    enough = next(
        (n for n, p in summary.restarts.items() if p.known and p.high < NEGLIGIBLE),
        most,
    )
    one = summary.restarts[min(summary.restarts)]
    return (
        f"Restarts: one Lloyd run is on average {_signed(one)} above the best of {most} on the "
        f"{source_name(summary.source)} source; {enough} restart{'' if enough == 1 else 's'}, selected on training "
        f"data, leave{'s' if enough == 1 else ''} less than {NEGLIGIBLE:g} %."
    )


def word(percent: Interval) -> str:
    """better, worse, level (the whole interval within ± `NEGLIGIBLE`) or undecided."""
    if not percent.known:
        return "undecided"
    if max(abs(percent.low), abs(percent.high)) < NEGLIGIBLE:
        return "level"
    return "better" if percent.high < 0 else "worse" if percent.low > 0 else "undecided"


def _protocol(name: str) -> str:
    return {"lloyd": "a start at Lloyd's best", "random": "a random encoder"}.get(
        name, PROTOCOLS[name][0].lower()
    )


def _signed(percent: Interval) -> str:
    digits = 2 if abs(percent.mean) < 10 else 1
    bounds = f" [{percent.low:+.{digits}f}, {percent.high:+.{digits}f}]" if percent.known else ""
    return f"{percent.mean:+.{digits}f} %{bounds}"


def _pca(data: StudyData, summaries: Sequence[SourceSummary]) -> Finding | None:
    summary = next((s for s in summaries if s.source == "gaussian"), None)
    if summary is None:
        return None
    items = []
    for beta in dict.fromkeys((data.settings.commitment, EXACT_BETA)):
        gain = learned_gain(data, "gaussian", summary.codebook_size, beta)
        if gain is not None:
            items.append(
                f"Training the encoder from PCA's best Lloyd codebook (β = {beta:g}) changes the error by "
                f"{_signed(gain)}: {word(gain)}."
            )
    for name in ("straight_through", "rotation", "projection"):
        row = summary.row(name, "random", data.settings.commitment)
        if row is not None and row.versus is not None:
            items.append(
                f"From a random encoder, {ESTIMATORS[name]} keeps {number(row.metrics['captured_percent'].mean)} % of "
                f"the variance that PCA keeps after {data.settings.steps} steps, and ends {_signed(row.versus)} beside "
                "the best Lloyd restart."
            )
    text = (
        f"Theory says yes, at any K. With encoder W and codewords c the error is E|x|² − E max_j (2⟨z, c_j⟩ − |c_j|²), "
        "z = Wᵀx. The maximum is convex in z, so for a Gaussian its mean grows with the covariance of z, and among "
        "m-dimensional projections PCA's has the largest eigenvalues one by one (interlacing). A trained encoder can "
        f"therefore only make up for a poor codebook. Measured at K = {summary.codebook_size}, "
        f"m = {data.settings.latent_dim} of rank {data.settings.rank}:"
    )
    return Finding("Is PCA the optimal encoder for a Gaussian source?", text, tuple(items))


def _learning(data: StudyData, summaries: Sequence[SourceSummary]) -> Finding | None:
    items = []
    for summary in summaries:
        parts = []
        for size in sorted(data.settings.sizes(summary.source)):  # pyright: ignore[reportArgumentType]
            gain = learned_gain(data, summary.source, size, EXACT_BETA)
            if gain is not None:
                parts.append(f"K = {size} {_signed(gain)}")
        free, pca = (summary.limits.get(f"reference_{name}") for name in ("free", "pca"))
        tail = ""
        if free is not None and pca is not None:
            ratio = 100 * (free.mean / pca.mean - 1)
            tail = (
                f". Lifting the limit of m = {data.settings.latent_dim} dimensions altogether (Lloyd in "
                f"{data.settings.rank}) changes the reference by {ratio:+.1f} %"
            )
        if parts:
            items.append(f"{source_name(summary.source)}: {', '.join(parts)}{tail}.")
    if not items:
        return None
    text = (
        f"Error of a trained encoder and codebook (straight-through at β = {EXACT_BETA:g}, the exact gradient, from "
        "PCA and the best Lloyd codebook) against that codebook, in per cent with 95 % intervals; below zero is a gain:"
    )
    return Finding("Where does learning the encoder pay?", text, tuple(items))


def _restarts(data: StudyData, summaries: Sequence[SourceSummary]) -> Finding | None:
    items = []
    for summary in summaries:
        one = summary.row(SINGLE, "lloyd")
        text = (
            f"{source_name(summary.source)}: the restarts span {_signed(summary.spread)} (worst above best)"
        )
        if one is not None and one.versus is not None:
            text += f", one restart is {_signed(one.versus)} beside the selected one"
        parts = []
        for protocol in ("tuned", "lloyd"):
            own = data.values(summary.source, "straight_through", protocol)
            single = data.values(summary.source, SINGLE, "lloyd")
            if own and single:
                parts.append(f"{_protocol(protocol)} {_signed(paired_percent(own, single))}")
        items.append(f"{text}; against one restart, straight-through with {', '.join(parts)}.")
    text = (
        "The documents report gradient methods 1–2 % below one run of PCA + Lloyd. What choosing among Lloyd runs on "
        "the training data is worth, and what a gradient method gains on one of them (β as documented):"
    )
    return Finding("A gain of 1–2 %, or the luck of one Lloyd run?", text, tuple(items))


def _rotation_percents(data: StudyData, source: str, beta: float) -> dict[str, Interval]:
    """Rotation against straight-through at one β, by protocol."""
    found = {}
    for protocol in PROTOCOLS:
        own, base = (data.values(source, n, protocol, beta=beta) for n in ("rotation", "straight_through"))
        if own and base:
            found[protocol] = paired_percent(own, base)
    return found


def _rotation(data: StudyData, summaries: Sequence[SourceSummary]) -> Finding | None:
    beta = data.settings.commitment
    items, words = [], Counter()
    for summary in summaries:
        percents = _rotation_percents(data, summary.source, beta)
        words.update(map(word, percents.values()))
        listed = ", ".join(f"{_protocol(p)} {_signed(x)} ({word(x)})" for p, x in percents.items())
        if listed:
            items.append(f"{source_name(summary.source)}: {listed}.")
    if not items:
        return None
    counts = ", ".join(f"{w} in {n}" for w, n in words.items())
    text = (
        f"Rotation's error against straight-through's at β = {beta:g}, by source and protocol: {counts} of "
        f"{sum(words.values())} comparisons (level: the whole interval within ±{NEGLIGIBLE:g} %)."
    )
    return Finding("Does the rotation estimator help a linear encoder?", text, tuple(items))


def _networks(data: StudyData, summaries: Sequence[SourceSummary]) -> Finding | None:
    items = []
    for summary in summaries:
        for beta in dict.fromkeys(row.beta for row in summary.networks):
            rows = [r for r in summary.networks if r.beta == beta]
            base = next(r for r in rows if r.estimator == "straight_through")
            others = ", ".join(
                f"{ESTIMATORS[r.estimator]} {_signed(r.versus)} ({word(r.versus)}, {r.metrics['dead'].mean:.1f} dead)"
                for r in rows
                if r.versus is not None
            )
            items.append(
                f"{source_name(summary.source)}, β = {beta:g}: straight-through {number(base.metrics['mse'].mean)} "
                f"({base.metrics['dead'].mean:.1f} dead); against it {others}."
            )
    if not items:
        if data.settings.mlp_sources:
            return None
        text = "Not in this run: `--full` trains an MLP encoder and decoder with each estimator."
        return Finding("… and a non-linear encoder?", text)
    s = data.settings
    text = (
        f"An MLP of one hidden layer ({s.mlp_width} GELU units) each way, Adam {s.mlp_lr:g} with a cosine, "
        f"{s.mlp_steps:,} steps of {s.mlp_batch}, no revival, all estimators from one start on the same batches:"
    )
    return Finding("… and a non-linear encoder?", text, tuple(items))


def _exact(data: StudyData, source: str, protocol: str) -> Interval | None:
    """β = 1 against the documents' β, straight-through, in per cent."""
    own = data.values(source, "straight_through", protocol, beta=EXACT_BETA)
    base = data.values(source, "straight_through", protocol)
    return paired_percent(own, base) if own and base else None


def _beta(data: StudyData) -> Finding | None:
    items = []
    for source in data.sources:
        parts = []
        for protocol in ("documents", "tuned"):
            span = beta_range_percent(data, source, "straight_through", protocol)
            if span:
                parts.append(f"{_signed(mean_interval(span.values(), 0.0))} with {_protocol(protocol)}")
        exact = [
            f"{_signed(p)} ({word(p)}) with {_protocol(q)}"
            for q in ("documents", "tuned", "lloyd")
            if (p := _exact(data, source, q)) is not None
        ]
        items.append(
            f"{source_name(source)}: the five β span {', '.join(parts)}; β = {EXACT_BETA:g} against "
            f"{data.settings.commitment:g}: {', '.join(exact)}."
        )
    text = (
        "With tied orthonormal weights the straight-through step follows E[x (βq + (1 − β)z)ᵀ]: at β = 0 it is "
        "principal component analysis and does not see the codebook, at β = 1 it is the exact gradient of the "
        "distortion. So β decides which problem the encoder solves, and where PCA is optimal it decides nothing."
    )
    return Finding("Which β?", text, tuple(items))


def _distance(data: StudyData, summaries: Sequence[SourceSummary]) -> Finding | None:
    items = []
    for summary in summaries:
        best = summary.row(BASELINE, "lloyd")
        if best is None:
            continue
        reference = summary.limits.get("reference_pca_db")
        text = (
            f"{source_name(summary.source)}: PCA + Lloyd (best restart) is {db_text(best.metrics['gap_db'])} above the "
            f"{bound_name(summary)}"
        )
        if reference is not None:
            text += f"; the optimal-quantizer reference is {db_text(reference)} above it"
        if "restricted" in summary.limits:
            text += (
                f". Bound {number(summary.limits['shannon'].mean)}, for codes of {data.settings.latent_dim} principal "
                f"dimensions {number(summary.limits['restricted'].mean)}"
            )
        items.append(f"{text}.")
    text = (
        "A codebook for single vectors can't reach Shannon's bound, which is for infinitely long blocks. Behind PCA, "
        f"what lies between the baseline and the reference (Lloyd on {data.settings.reference_samples:,} samples) is "
        "all that a better codebook could gain; where PCA is not optimal a better encoder could gain more."
    )
    return Finding("How far from the bound", text, tuple(items)) if items else None


def _verification(data: StudyData) -> Finding | None:
    cells = data.of("verify", VERIFIED_ON).values()
    if not cells:
        return None
    items = []
    for way in next(iter(cells))["ways"]:
        found = [cell["ways"][way] for cell in cells]
        gradient = max(max(f[f"{part}_gradient"]) for f in found for part in ("encoder", "codebook"))
        path = max(max(f["trajectory"]) for f in found)
        items.append(
            f"{WAYS[way]}: gradients differ by at most {gradient:.1e} relative, trajectories by {path:.1e}."
        )
    text = (
        f"On the same batches and start, in float64, at each of {data.settings.verify_steps} steps, largest over "
        f"{len(cells)} seed{'' if len(cells) == 1 else 's'}:"
    )
    return Finding("Are the manual gradients right?", text, tuple(items))


def _cost(data: StudyData) -> Finding | None:
    timing = data.timing
    if timing is None:
        return None
    base = dict(enumerate(timing["seconds"]["autograd"]))
    items = []
    for way, seconds in timing["seconds"].items():
        ratio = paired_ratio(dict(enumerate(seconds)), base)
        memory = timing["peak_bytes"][way]
        share = f" for {timing['many']} runs" if way == "manual_batched_many" else ""
        milliseconds = 1e3 * float(np.median(seconds))
        text = f"{WAYS[way]}: {milliseconds:.2f} ms a step (median)"
        if way != "autograd":
            text += f", {ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] of autograd's time"
        items.append(f"{text}; {memory / 1e6:.2f} MB{share}.")
    items += [f"{WAYS[way]}: not here ({reason})." for way, reason in timing["absent"].items()]
    text = (
        f"One thread, float64, batch {data.settings.batch_size}, {data.settings.timing_rounds} interleaved rounds of "
        f"{timing['steps_per_round']} steps. Memory is what a step holds at its peak beyond what it began with; the "
        "search's reused buffer (at most 8 MB, kept by the thread) is not in it."
    )
    return Finding("What the manual gradients save", text, tuple(items))


def _ledger(verdicts: Sequence[Verdict]) -> Finding | None:
    counts = Counter(v.status for v in verdicts if v.main)
    if not counts:
        return None
    order = (Status.CONFIRMED, Status.REFUTED, Status.INCONCLUSIVE, Status.NOT_TESTABLE)
    listed = ", ".join(f"{counts[s]} {s.value.lower()}" for s in order if counts[s])
    return Finding("The documents' numbers", f"Of the {sum(counts.values())} tested here: {listed}.")
