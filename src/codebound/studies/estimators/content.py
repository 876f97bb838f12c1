"""What the study says: the numbers choose the sentences. No result is written here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from codebound.reporting.formatting import db_text
from codebound.reporting.tables import plain_rows
from codebound.studies.estimators import figures, tables
from codebound.studies.estimators.arms import BASELINE, EXACT_BETA
from codebound.studies.estimators.labels import PROTOCOLS, SOURCES, protocol_name, source_name
from codebound.studies.estimators.settings import Settings
from codebound.studies.estimators.summary import (
    NEGLIGIBLE,
    Percents,
    Row,
    SourceResult,
    exact_percents,
    learned_gain,
    rotation_percents,
    summarise,
    word,
)
from codebound.studies.framework import declare as fw

_EFFECTS = {  # what training does to the error, by `word`
    "better": "lowers the error on",
    "worse": "raises the error on",
    "level": "does not change the error on",
    "undecided": "has no effect on the error that these seeds can tell on",
}
_CAPTION = "The changes from a random encoder are in the table."
_HIDDEN = "Rotation's line covers straight-through's where they agree."
_THEORY = (
    fw.Finding(
        "Is PCA the optimal encoder for a Gaussian source?",
        "Yes, at any K. With encoder W and codewords c the error is E|x|² − E max_j (2⟨z, c_j⟩ − |c_j|²), z = Wᵀx. The "
        "maximum is convex in z, so for a Gaussian its mean grows with the covariance of z, and among m-dimensional "
        "projections PCA's has the largest eigenvalues one by one (interlacing). A trained encoder can only make up "
        "for a poor codebook.",
    ),
    fw.Finding(
        "What β decides",
        "With tied orthonormal weights the straight-through step follows E[x (βq + (1 − β)z)ᵀ]: at β = 0 it is "
        "principal component analysis and does not see the codebook, at β = 1 it is the exact gradient of the error. "
        "Where PCA is optimal β decides nothing.",
    ),
)


def tell(run: fw.StudyRun[Settings]) -> fw.Content:
    """The page and the study's own keys of results.json."""
    table, settings, results = run.table, run.settings, summarise(run)
    rotation, exact = (
        {result.source: percents(table, result, settings.commitment) for result in results}
        for percents in (rotation_percents, exact_percents)
    )
    sentences = [
        _networks(table, results),
        _luck(results),
        _restart_advice(results[0]),
        _beta(exact, settings.commitment),
        _distance(results[0]),
    ]
    told = [fw.typeset(sentence) for sentence in sentences if sentence]
    compared = [
        _learning(table, results),
        _rotation(rotation, settings.commitment),
        _commitment(table, results, exact, settings),
        _restarts(table, results),
    ]
    verified = tables.verification(table)
    timing = next((finished.content for finished in run.where(experiment="timing")), None)
    return fw.Content(
        "Gradients through a quantizer, beside PCA + Lloyd",
        answer=fw.typeset(_answer(table, results, rotation)),
        sentences=told,
        sections=[
            *compared,
            *_scaling(table, results),
            *(_source(run, result) for result in results),
            *_gradients(run, verified),
        ],
        findings=_THEORY,
        method=list(map(fw.typeset, _method(settings))),
        results={
            "sources": [result.to_json() for result in results],
            "timing": timing,
            "recommendation": told,
            "comparisons": {shown.title: plain_rows(shown) for part in compared for shown in part.tables},
            "verification": plain_rows(verified) if verified else [],
        },
    )


def _answer(table: fw.LongTable, results: Sequence[SourceResult], rotation: Percents) -> str:
    """Does training gain anything over PCA + Lloyd, and does the gradient matter?"""
    effects: dict[str, list[str]] = {}
    for result in results:
        gain = learned_gain(table, result.source, result.codebook_size, EXACT_BETA)
        if gain is not None:
            effects.setdefault(_EFFECTS[word(gain)], []).append(source_name(result.source))
    trained = ", ".join(f"{effect} {_joined(names)}" for effect, names in effects.items())
    words = Counter(map(word, _each(rotation)))
    return (
        f"After PCA and the best of {_restart_counts(results)} runs of Lloyd's algorithm, training the encoder by "
        f"gradients {trained}. The rotation gradient is better than straight-through in {words['better']} of "
        f"{words.total()} comparisons with a linear encoder, and worse in {words['worse']}."
    )


def _restart_counts(results: Sequence[SourceResult]) -> str:
    """20, or 4 to 20 where sources have different numbers of restarts."""
    counts = {max(result.restarts) for result in results}
    return str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def _networks(table: fw.LongTable, results: Sequence[SourceResult]) -> str:
    """Rotation against straight-through under the MLP, each at the β with the smaller mean error."""
    changes = []
    for result in results:
        best: dict[str, Row] = {}
        for row in sorted(result.networks, key=lambda row: row.metrics["mse"].mean):
            best.setdefault(row.line.estimator, row)
        if not best:
            continue
        own, base = (best[name].line for name in ("rotation", "straight_through"))
        levels = {**result.at, "estimator": own.estimator, "protocol": "mlp", "beta": own.beta}
        change = table.percent("mse", {"estimator": base.estimator, "beta": base.beta}, **levels)
        assert change is not None
        betas = f"β = {own.beta:g} against {base.beta:g}"
        changes.append(f"{source_name(result.source)} {_signed(change)} ({word(change)}; {betas})")
    if not changes:
        return ""
    return f"With an MLP, rotation against straight-through, each at its better β: {', '.join(changes)}."


def _beta(exact: Percents, beta: float) -> str:
    changes = [by_protocol["lloyd"] for by_protocol in exact.values() if "lloyd" in by_protocol]
    if not changes:
        return ""
    return (
        f"β = {EXACT_BETA:g}, where straight-through is the exact gradient, is {_counted(changes)} of "
        f"{fw.count_text(len(changes), 'source')} against the report's β = {beta:g}, from the best Lloyd codebook."
    )


def _restart_advice(result: SourceResult) -> str:
    most, one = max(result.restarts), result.restarts[1]
    within = [n for n, x in result.restarts.items() if n < most and x.known and x.high < NEGLIGIBLE]
    advice = (
        f"the best of {min(within)} on the training data is within {NEGLIGIBLE:g} %"
        if within
        else f"these seeds can't tell how many restarts come within {NEGLIGIBLE:g} %"
    )
    return (
        f"One Lloyd run is on average {_signed(one)} above the best of {most} on the {source_name(result.source)} "
        f"source; {advice}."
    )


def _luck(results: Sequence[SourceResult]) -> str:
    spans = ", ".join(f"{_signed(result.spread)} on {source_name(result.source)}" for result in results)
    return (
        "The report that this project began with (unpublished; docs/claims.md lists its numbers) gives gradient "
        f"methods 1–2 % less error than one Lloyd run; the worst Lloyd run is above the best by {spans}."
    )


def _distance(result: SourceResult) -> str:
    own = result.row(BASELINE, "lloyd", None)
    assert own is not None
    return (
        f"On the {source_name(result.source)} source the best Lloyd codebook stays {db_text(own.metrics['gap_db'])} "
        f"above the {result.bound}, the optimal quantizer behind PCA {db_text(result.limits['reference_pca_db'])}."
    )


def _learning(table: fw.LongTable, results: Sequence[SourceResult]) -> fw.Section:
    gains = [
        (f"{source_name(result.source)}, K = {size}", gain)
        for result in results
        for size in sorted(result.sizes)
        if (gain := learned_gain(table, result.source, size, EXACT_BETA)) is not None
    ]
    text = (
        "Choosing the nearest codeword has no derivative. Straight-through hands the codeword's gradient to the "
        "encoder unchanged; rotation turns and scales it as the latent is turned onto its codeword; projection keeps "
        "its part along the codeword. With a linear encoder they can be judged by more than each other: for a Gaussian "
        "the best encoder is known, PCA. Here: what straight-through, where it is the exact gradient, adds to PCA and "
        "the best Lloyd codebook."
    )
    draw = partial(figures.changes, gains, "Training the encoder from the best Lloyd codebook")
    shown = fw.Illustration("learning", draw, "Change of the error by training, for each source and K")
    return fw.Section("Does learning the encoder pay?", text, [shown], [tables.learning(table, results)])


def _rotation(percents: Percents, beta: float) -> fw.Section:
    changes = _each(percents)
    text = (
        f"Rotation's error against straight-through's at β = {beta:g}, same batches and start: {_counted(changes)} of "
        f"{len(changes)} comparisons (level: the whole interval within ±{NEGLIGIBLE:g} %)."
    )
    title = f"Rotation against straight-through at β = {beta:g}"
    draw = partial(figures.changes, _rows(percents), title)
    shown = fw.Illustration("rotation", draw, "Change of the error by rotation", _CAPTION)
    return fw.Section("Rotation or straight-through?", text, [shown], [tables.by_protocol(title, percents)])


def _commitment(
    table: fw.LongTable, results: Sequence[SourceResult], percents: Percents, settings: Settings
) -> fw.Section:
    beta = settings.commitment
    text = (
        "β weighs the pull of a latent towards its codeword. It decides which problem the encoder solves: PCA's at "
        f"β = 0, the error itself at β = {EXACT_BETA:g}."
    )
    title = f"Straight-through at β = {EXACT_BETA:g} against β = {beta:g}"
    draw = partial(figures.changes, _rows(percents), title)
    over = partial(figures.commitment, table, results, settings.commitments)
    shown = [
        fw.Illustration("commitment", over, "Error of straight-through over β, a panel for each source"),
        fw.Illustration("commitment-change", draw, f"Change of the error by β = {EXACT_BETA:g}", _CAPTION),
    ]
    ranges = tables.beta_ranges(table, results)
    return fw.Section("Which β?", text, shown, [tables.by_protocol(title, percents), ranges])


def _restarts(table: fw.LongTable, results: Sequence[SourceResult]) -> fw.Section:
    text = "Expected error on fresh data of the restart that is best on training data, among so many drawn from all."
    draw = partial(figures.restarts, table, results)
    shown = fw.Illustration("restarts", draw, "Error over the number of restarts")
    return fw.Section("How many Lloyd restarts?", text, [shown], [tables.restarts(results)])


def _scaling(table: fw.LongTable, results: Sequence[SourceResult]) -> Iterator[fw.Section]:
    several = [result for result in results if len(result.sizes) > 1]
    if several:
        text = "At log₂ K bits, each K beside its own bound. The band is over seeds, whose sources differ."
        draw = partial(figures.scaling, table, several)
        yield fw.Section(
            "Codebook size", text, [fw.Illustration("scaling", draw, "Distance from the bound over the rate")]
        )


def _source(run: fw.StudyRun[Settings], result: SourceResult) -> fw.Section:
    source, name = result.source, source_name(result.source)
    ranked, drawn = partial(figures.ranking, run.table, result), partial(figures.training, run, result)
    shown = [
        fw.Illustration(f"{source}-ranking", ranked, f"{name}: distance of every method from the bound"),
        fw.Illustration(f"{source}-training", drawn, f"{name}: error and entropy over the steps", _HIDDEN),
    ]
    numbers = [tables.limits(result), tables.ranking(result)]
    if result.networks:
        draw = partial(figures.networks, result)
        shown.append(fw.Illustration(f"{source}-mlp", draw, f"{name}: estimators under an MLP"))
        numbers.append(tables.networks(result))
    return fw.Section(name, SOURCES[source][1].format(**run.settings.model_dump()), shown, numbers)


def _gradients(run: fw.StudyRun[Settings], verified: fw.ResultTable | None) -> Iterator[fw.Section]:
    """Whether gradients by hand are right, and what they cost."""
    numbers, shown = [], []
    if verified:
        numbers.append(verified)
        apart = "How far gradients by hand and autograd's come apart over a training"
        shown.append(fw.Illustration("verification", partial(figures.verification, run), apart))
    ratios = tables.time_ratios(run.table, run.settings)
    if ratios:
        numbers.append(tables.cost(run.table, run.settings))
        shown.append(fw.Illustration("cost", partial(figures.cost, ratios), "Time of a step of each way"))
    if numbers:
        text = (
            "Gradients derived by hand beside autograd's: the same batches and start, float64, "
            f"{run.settings.verify_steps} steps. Times are of interleaved rounds in one process, on one thread."
        )
        yield fw.Section("Gradients by hand", text, shown, numbers)


def _method(s: Settings) -> Iterator[str]:
    yield (
        "A seed redraws source, samples, starts and batches; all arms share them, and differences are taken seed by "
        "seed. The arms were named before any run. Intervals: Student t at 95 %; in figures of decibels, of the "
        "difference from the best Lloyd restart."
    )
    yield (
        f"{s.train_samples:,} training vectors; results on {s.fresh_samples:,} fresh ones (fewer where D is large), "
        f"curves on {s.test_samples:,} others. Errors are squared distances, summed over all D dimensions."
    )
    yield (
        f"Loss: |x − x̂|² + {s.codebook_weight:g}·|sg(z) − c|² + β·|z − sg(c)|²; gradient descent, batch "
        f"{s.batch_size}, rates {s.lr_encoder} (encoder) and {s.lr_codebook} (codebook), {s.steps} steps; after each "
        f"the encoder's columns are made orthonormal ({s.retraction})."
    )
    yield from (f"{title}: {text}" for title, text in PROTOCOLS.values())
    yield (
        f"PCA + Lloyd: {s.restarts} restarts from k-means++ ({s.other_restarts} at other K), until an iteration gains "
        f"less than {s.lloyd_tolerance:g}; “best” is on training data. Optimal quantizer: Lloyd on "
        f"{s.reference_samples:,} more samples."
    )
    if s.mlp_sources:
        yield (
            f"MLP: one hidden layer of {s.mlp_width} GELU units each way, Adam {s.mlp_lr:g} with a cosine, "
            f"{s.mlp_steps:,} steps of {s.mlp_batch}, no revival; all estimators from one start on the same batches."
        )


def _rows(percents: Percents) -> list[tuple[str, fw.Interval]]:
    """By source and protocol, for a figure; from a random encoder they would fill it."""
    return [
        (f"{source_name(source)}: {protocol_name(protocol)}", change)
        for source, changes in percents.items()
        for protocol, change in changes.items()
        if protocol != "random"
    ]


def _each(percents: Percents) -> list[fw.Interval]:
    return [change for changes in percents.values() for change in changes.values()]


def _joined(sources: Sequence[str]) -> str:
    return f"the source{'s' if len(sources) > 1 else ''} {' and '.join(sources)}"


def _counted(changes: Iterable[fw.Interval]) -> str:
    """level in 5, undecided in 3"""
    return ", ".join(f"{name} in {count}" for name, count in Counter(map(word, changes)).items())


def _signed(percent: fw.Interval) -> str:
    digits = 2 if abs(percent.mean) < 10 else 1
    bounds = f" [{percent.low:+.{digits}f}, {percent.high:+.{digits}f}]" if percent.known else ""
    return f"{percent.mean:+.{digits}f} %{bounds}"
