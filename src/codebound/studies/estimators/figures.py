"""The study's figures: stock ones, of tables in which every error is decibels above the source's bound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from codebound.reporting import stock_figures
from codebound.reporting.plots import Limit
from codebound.studies.estimators.arms import BASELINE, EXACT_BETA
from codebound.studies.estimators.labels import COLOURS, DASHES, NAMES, WAYS, protocol_name, source_name
from codebound.studies.estimators.records import RUN_METRICS
from codebound.studies.estimators.settings import Settings
from codebound.studies.estimators.summary import LLOYD, SourceResult, paired_gap
from codebound.studies.framework import declare as fw
from codebound.theory.gaussian import gap_db

# What the curves show: estimator, protocol, and β where it is not the settings'.
_CURVES = (
    ("straight_through", "documents", None),
    ("rotation", "documents", None),
    ("straight_through", "tuned", None),
    ("rotation", "tuned", None),
    ("straight_through", "lloyd", EXACT_BETA),
)
_BOUND = Limit("shannon", "Shannon bound", 0.0)
_DB = "dB above the Shannon bound"
ROUNDING = 1e-17  # below what float64 tells apart: drawn in place of no difference at all


def ranking(table: fw.LongTable, result: SourceResult) -> Figure:
    """Decibels above the bound of every line of the ranking, with the references as lines."""
    rows = []
    for row in result.rows:
        estimator, protocol, beta, group = row.line
        gap = paired_gap(table, **result.at, estimator=estimator, protocol=protocol, beta=beta)
        rows.append((row.line.name if group == "Baselines" else f"{group}: {row.line.name}", [gap]))
    return stock_figures.dots(
        rows,
        ["after training"],
        title=f"{source_name(result.source)}, K = {result.codebook_size}",
        unit=f"dB above the {result.bound}, fresh data",
        limits=limits_db(result),
        colours=[COLOURS[row.line.estimator] for row in result.rows],
    )


def limits_db(result: SourceResult) -> list[Limit]:
    """The bound, which is 0 dB, with the ends of its estimate, and the references, as lines."""
    limits, bound = result.limits, result.limits["shannon"].mean
    ends = [limits[name].mean for name in ("shannon_low", "shannon_high") if name in limits]
    low_high = tuple(gap_db(max(end, 1e-12), bound) for end in ends) or None
    lines = [Limit("shannon", result.bound, 0.0, low_high)]  # pyright: ignore[reportArgumentType]
    if "restricted" in limits:
        restricted = gap_db(limits["restricted"].mean, bound)
        lines.append(Limit("gaussian_reference", "Shannon, PCA's dimensions and the tail", restricted))
    lines.append(Limit("best_known", "optimal quantizer behind PCA", limits["reference_pca_db"].mean))
    lines.append(Limit("converse", "… in all dimensions", limits["reference_free_db"].mean))
    return lines


def training(run: fw.StudyRun[Settings], result: SourceResult) -> Figure:
    """Error and entropy on the test set over the steps, errors beside the best Lloyd restart's of the same seed."""
    base = run.table.values("mse", **result.at, **LLOYD)
    middle = run.table.interval("gap_db", **result.at, **LLOYD).mean
    beta = run.settings.commitment
    looks = {
        (estimator, protocol, own or beta): fw.Look(
            _arm(estimator, protocol, own or beta), COLOURS[estimator], dashes=DASHES[protocol]
        )
        for estimator, protocol, own in _CURVES
    }
    records = []
    for finished in run.where(experiment="linear", source=result.source):
        seed = finished.cell["seed"]
        for trained in finished["sizes"][0]["runs"]:
            look = looks.get((trained["estimator"], trained["protocol"], trained["beta"]))
            if look is None:
                continue
            curve = trained["curve"]
            for step, mse, entropy in zip(curve["step"], curve["mse"], curve["entropy_percent"], strict=True):
                levels = {"arm": look.name, "step": step, "seed": seed}
                values = {"gap_db": middle + gap_db(mse, base[seed]), "entropy_percent": entropy}
                records.append(fw.Record(levels, values))
    return stock_figures.curves(
        fw.LongTable(tuple(records), RUN_METRICS),
        ["gap_db", "entropy_percent"],
        over="step",
        series="arm",
        looks={look.name: look for look in looks.values()},
        limits={"gap_db": limits_db(result)},
    )


def changes(rows: Sequence[tuple[str, fw.Interval]], title: str) -> Figure:
    """Changes of the error in per cent, each with its interval."""
    shown = [(name, [interval]) for name, interval in rows]
    none = [Limit("best_known", "no change", 0.0)]
    unit = "change of the error, % (left is better)"
    return stock_figures.dots(shown, ["change"], title=title, unit=unit, limits=none)


def commitment(table: fw.LongTable, results: Sequence[SourceResult], betas: Sequence[float]) -> Figure:
    """The error of straight-through over β, beside the best Lloyd restart's of the seed; a panel for each source."""
    protocols = {name: protocol_name(name) for name in DASHES}
    records = []
    for result in results:
        base = table.values("mse", **result.at, **LLOYD)
        for protocol, name in protocols.items():
            for beta in betas:
                arm = {"estimator": "straight_through", "protocol": protocol, "beta": beta}
                for seed, mse in table.values("mse", **result.at, **arm).items():
                    levels = {"source": result.source, "rates": name, "beta": beta, "seed": seed}
                    records.append(fw.Record(levels, {"change": 100 * (mse / base[seed] - 1)}))
    looks = zip(protocols.values(), stock_figures.PALETTE, DASHES.values(), strict=False)
    return stock_figures.curves(
        fw.LongTable(tuple(records), (fw.Metric("change", "Error", "% above the best Lloyd restart"),)),
        ["change"],
        over="beta",
        series="rates",
        panel="source",
        titles={result.source: source_name(result.source) for result in results},
        looks={name: fw.Look(name, colour, dashes=dashes) for name, colour, dashes in looks},
    )


def verification(run: fw.StudyRun[Settings]) -> Figure:
    """How far training by gradients derived by hand has come apart from training by autograd's, over the steps."""
    records = [
        fw.Record(
            {"way": WAYS[way], "step": step, "seed": finished.cell["seed"]},
            {"apart": math.log10(max(difference, ROUNDING))},
        )
        for finished in run.where(experiment="verify")
        for way, steps in finished["ways"].items()
        for step, difference in enumerate(steps["trajectory"])
    ]
    unit = "log₁₀ of the largest relative difference"
    return stock_figures.curves(
        fw.LongTable(tuple(records), (fw.Metric("apart", "Training by hand and by autograd", unit),)),
        ["apart"],
        over="step",
        series="way",
        bands=(),
    )


def restarts(table: fw.LongTable, results: Sequence[SourceResult]) -> Figure:
    """What selecting among Lloyd's restarts gains, a line for each source."""
    return stock_figures.curves(
        table, ["restart_percent"], over="restarts", series="source", looks=_source_looks(results)
    )


def scaling(table: fw.LongTable, results: Sequence[SourceResult]) -> Figure:
    """The distance from the bound over the rate, a panel before and after training, a line for each source."""
    methods = {
        BASELINE: LLOYD,
        "trained": {"estimator": "straight_through", "protocol": "lloyd", "beta": EXACT_BETA},
    }
    records = [
        fw.Record({"source": result.source, "bits_per_vector": math.log2(size), "seed": seed}, {name: gap})
        for result in results
        for size in result.sizes
        for name, levels in methods.items()
        for seed, gap in table.values("gap_db", **{**result.at, "codebook_size": size}, **levels).items()
    ]
    labels = (NAMES[BASELINE], _arm("straight_through", "lloyd", EXACT_BETA))
    metrics = [fw.Metric(name, label, _DB) for name, label in zip(methods, labels, strict=True)]
    return stock_figures.curves(
        fw.LongTable(tuple(records), tuple(metrics)),
        list(methods),
        over="bits_per_vector",
        series="source",
        looks=_source_looks(results),
        limits={name: [_BOUND] for name in methods},
    )


def networks(result: SourceResult) -> Figure:
    """The estimators under an MLP: the error of each at both β."""
    betas = list(dict.fromkeys(row.line.group for row in result.networks))
    names = list(dict.fromkeys(row.line.estimator for row in result.networks))
    errors = {(row.line.estimator, row.line.group): row.metrics["mse"] for row in result.networks}
    reference = result.limits["reference_pca"].mean
    return stock_figures.dots(
        [(NAMES[name], [errors.get((name, beta)) for beta in betas]) for name in names],
        betas,
        title=f"{source_name(result.source)}, K = {result.codebook_size}: MLP encoder and decoder",
        unit="squared error per vector, fresh data",
        limits=[
            Limit("shannon", result.bound, result.limits["shannon"].mean),
            Limit("best_known", "optimal quantizer behind PCA", reference),
        ],
        colours=[COLOURS[name] for name in names],
    )


def cost(ratios: Mapping[str, fw.Interval]) -> Figure:
    """Time of a step beside autograd's."""
    rows = [(WAYS[way], [ratio]) for way, ratio in ratios.items()]
    limits = [Limit("best_known", "autograd", 1.0)]
    return stock_figures.dots(
        rows, ["time"], title="Time of a training step", unit="of autograd's", limits=limits
    )


def _source_looks(results: Sequence[SourceResult]) -> dict[str, fw.Look]:
    pairs = zip(results, stock_figures.PALETTE, strict=False)
    return {result.source: fw.Look(source_name(result.source), colour) for result, colour in pairs}


def _arm(estimator: str, protocol: str, beta: float) -> str:
    return f"{NAMES[estimator]}, {protocol_name(protocol)}, β = {beta:g}"
