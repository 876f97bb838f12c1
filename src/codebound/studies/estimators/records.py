"""From finished cells to the long table: every run's figures, the limits beside them, and what is derived."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from codebound.reporting.claims import Level
from codebound.studies.estimators.arms import BASELINE, SINGLE
from codebound.studies.estimators.settings import Settings
from codebound.studies.framework import declare as fw
from codebound.theory.gaussian import gap_db

VERIFIED_ON = "gaussian"
TIMING = "timing"  # the "source" of time and memory, whose "seeds" are rounds
RUN_METRICS = (
    fw.Metric("mse", "Error", "squared, per vector", better="less", digits=4, floor=0),
    fw.Metric("gap_db", "Above the Shannon bound", "dB", better="less", digits=2),
    fw.Metric("entropy_percent", "Entropy", "% of log₂ K", better="more", digits=1, floor=0),
    fw.Metric("perplexity_percent", "Perplexity", "% of K", better="more", digits=1, floor=0),
    fw.Metric("dead", "Dead codes", better="less", digits=1, floor=0),
    fw.Metric("captured_percent", "Variance kept", "% of PCA's", better="more", digits=2),
)
LIMITS = ("shannon", "shannon_low", "shannon_high", "restricted", "gaussian_reference")
REFERENCES = ("reference_pca", "reference_pca_db", "reference_free", "reference_free_db")
METRICS = (
    *RUN_METRICS,
    *(fw.Metric(name, name, "squared, per vector") for name in LIMITS),
    *(fw.Metric(name, name, "dB" if name.endswith("_db") else "squared, per vector") for name in REFERENCES),
    fw.Metric("restart_percent", "Best on training data of so many restarts", "% above the best of all"),
    fw.Metric("restart_spread_percent", "Worst above best restart", "%", floor=0),
    fw.Metric("beta_range_percent", "Worst above best β", "%", floor=0),
    fw.Metric("scaling_percent", "Fall from the smallest K to the largest", "%"),
    fw.Metric("gradient_difference", "Gradients", "relative", floor=0),
    fw.Metric("trajectory_difference", "Trajectories", "relative", floor=0),
    fw.Metric("seconds", "Time of a step", "s", absent="it was not timed in this run"),
    fw.Metric("peak_bytes", "Memory of a step", "bytes", absent="it was not timed in this run"),
)


def linear(finished: fw.FinishedCell, settings: Settings) -> Iterator[fw.Record]:
    """Limits and runs at each codebook size, and what is derived from runs of one seed."""
    source = {"source": finished.cell["source"], "seed": finished.cell["seed"]}
    for part in finished["sizes"]:
        size = part["codebook_size"]
        at = {**source, "codebook_size": size}
        limits = finished["limits"][str(size)]
        yield fw.Record(at, {**limits, **_references(part["reference"], limits["shannon"])})
        for run in part["runs"]:
            yield _run({**at, "protocol": run["protocol"]}, run, limits["shannon"])
    # The comparison's own size comes first.
    main = finished["sizes"][0]
    at = {**source, "codebook_size": main["codebook_size"]}
    yield from _restarts(at, main["restarts"])
    yield from _beta_ranges(at, main["runs"], settings.commitments)
    yield from _scaling(source, finished["sizes"])


def networks(finished: fw.FinishedCell, settings: Settings, bound: float | None) -> Iterator[fw.Record]:
    """The runs under an MLP, as a protocol of their own."""
    at = {"source": finished.cell["source"], "seed": finished.cell["seed"]}
    for run in finished["runs"]:
        yield _run({**at, "codebook_size": settings.codebook_size, "protocol": "mlp"}, run, bound)


def verification(finished: fw.FinishedCell) -> Iterator[fw.Record]:
    """The largest difference over the steps, of each way to a gradient."""
    for way, steps in finished["ways"].items():
        levels = {
            "source": VERIFIED_ON,
            "seed": finished.cell["seed"],
            "protocol": "verify",
            "estimator": way,
        }
        gradient = max(*steps["encoder_gradient"], *steps["codebook_gradient"])
        yield fw.Record(
            levels, {"gradient_difference": gradient, "trajectory_difference": max(steps["trajectory"])}
        )


def timing(finished: fw.FinishedCell, settings: Settings) -> Iterator[fw.Record]:
    """Time and memory of each way to a step, by round."""
    at = {"source": TIMING, "protocol": "documents", "codebook_size": settings.codebook_size}
    for way, rounds in finished["seconds"].items():
        for number, seconds in enumerate(rounds):
            levels = {**at, "estimator": way, "beta": settings.commitment, "seed": number}
            yield fw.Record(levels, {"seconds": seconds, "peak_bytes": finished["peak_bytes"][way]})


def best_of(train: np.ndarray, fresh: np.ndarray, count: int) -> float:
    """Expected error on fresh data of the best on training data among `count` of the restarts, drawn at random.

    The i-th best of n is the best of a random `count` with probability C(n − i, count − 1)/C(n, count).
    """
    order = np.argsort(train, kind="stable")
    n = len(order)
    weights = [math.comb(n - 1 - i, count - 1) / math.comb(n, count) for i in range(n)]
    return float(np.dot(weights, fresh[order]))


def _run(at: Mapping[str, Level], run: Mapping[str, Any], bound: float | None) -> fw.Record:
    values = {metric.name: run.get(metric.name) for metric in RUN_METRICS}
    gap = None if bound is None else gap_db(run["mse"], bound)
    return fw.Record({**at, "estimator": run["estimator"], "beta": run["beta"]}, {**values, "gap_db": gap})


def _references(reference: Mapping[str, float | None], bound: float) -> dict[str, float | None]:
    """The optimal-quantizer references (`pca`, and `free` of the limit to m dimensions), and in decibels."""
    values: dict[str, float | None] = {}
    for name, error in reference.items():
        values[f"reference_{name}"] = error
        values[f"reference_{name}_db"] = None if error is None else gap_db(error, bound)
    return values


def _restarts(at: Mapping[str, Level], restarts: Mapping[str, Any]) -> Iterator[fw.Record]:
    """What choosing among Lloyd's restarts is worth."""
    train, fresh = np.array(restarts["train"]), np.array(restarts["fresh"])
    yield fw.Record(at, {"restart_spread_percent": float(100 * (fresh.max() / fresh.min() - 1))})
    best = best_of(train, fresh, len(train))
    for count in range(1, len(train) + 1):
        percent = 100 * (best_of(train, fresh, count) / best - 1)
        yield fw.Record({**at, "estimator": BASELINE, "restarts": count}, {"restart_percent": percent})


def _beta_ranges(
    at: Mapping[str, Level], runs: list[dict[str, Any]], betas: tuple[float, ...]
) -> Iterator[fw.Record]:
    """By how many per cent the worst β is above the best one, where all were run."""
    errors: dict[tuple[str, str], dict[float, float]] = {}
    for run in runs:
        errors.setdefault((run["estimator"], run["protocol"]), {})[run["beta"]] = run["mse"]
    for (estimator, protocol), by_beta in errors.items():
        if set(betas) <= by_beta.keys():
            values = [by_beta[beta] for beta in betas]
            percent = 100 * (max(values) / min(values) - 1)
            yield fw.Record(
                {**at, "estimator": estimator, "protocol": protocol}, {"beta_range_percent": percent}
            )


def _scaling(at: Mapping[str, Level], parts: list[dict[str, Any]]) -> Iterator[fw.Record]:
    """By how many per cent Lloyd's error falls from the smallest codebook to the largest."""
    ordered = sorted(parts, key=lambda part: part["codebook_size"])
    for name in (SINGLE, BASELINE) if len(parts) > 1 else ():
        errors = [run["mse"] for part in ordered for run in part["runs"] if run["estimator"] == name]
        levels = {**at, "estimator": name, "protocol": "lloyd"}
        yield fw.Record(levels, {"scaling_percent": 100 * (1 - errors[-1] / errors[0])})
