"""Manual gradients against automatic differentiation: the same start, the same batches, float64 (mission row C4)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from codebound.batched.codebooks import batch_order
from codebound.batched.linear import (
    Gradients,
    LinearRuns,
    Rule,
    autograd_gradients,
    closed_form_gradients,
    numpy_gradients,
    train_linear,
)
from codebound.quantize.estimator import Projection, Rotation, StraightThrough
from codebound.quantize.seeding import kmeans_plus_plus
from codebound.studies.estimators import sources
from codebound.studies.estimators.measure import measure
from codebound.studies.estimators.settings import Settings

# Ways to one gradient: (the way, the rule's estimator). The NumPy file knows straight-through only.
WAYS: dict[str, tuple[Gradients, Any]] = {
    "manual_numpy": (numpy_gradients, StraightThrough()),
    "manual_batched": (closed_form_gradients, StraightThrough()),
    "rotation_batched": (closed_form_gradients, Rotation()),
    "projection_batched": (closed_form_gradients, Projection()),
}


def run_verification(settings: Settings, source: str, seed: int) -> dict[str, Any]:
    """Per step: the gradients' relative difference at one state, and how far two whole runs have come apart."""
    problem = sources.draw(settings, source, seed)
    stream = sources.generator(source, seed, "verify")
    order = batch_order(len(problem.train), settings.batch_size, settings.verify_steps, stream)
    book = kmeans_plus_plus(problem.train @ problem.pca, settings.codebook_size, stream)
    start = LinearRuns(problem.pca[None], book[None])
    return {"ways": {name: _compare(settings, problem, start, order, *way) for name, way in WAYS.items()}}


def _compare(
    settings: Settings,
    problem: sources.Problem,
    start: LinearRuns,
    order: Tensor,
    gradients: Gradients,
    estimator: Any,
) -> dict[str, Any]:
    rules = [
        Rule(
            estimator,
            settings.lr_encoder,
            settings.lr_codebook,
            settings.commitment,
            settings.codebook_weight,
        )
    ]
    found: dict[str, list[float]] = {"encoder_gradient": [], "codebook_gradient": []}

    def both(x: Tensor, runs: LinearRuns, rules: Any) -> LinearRuns:
        own, automatic = gradients(x, runs, rules), autograd_gradients(x, runs, rules)
        for name, a, b in zip(found, own, automatic, strict=True):
            found[name].append(difference(a, b))
        return own

    paths: dict[str, list[LinearRuns]] = {"own": [], "automatic": []}
    ends = {}
    for name, way in (("own", both), ("automatic", autograd_gradients)):
        ends[name] = train_linear(
            problem.train,
            start,
            rules,
            order,
            gradients=way,
            retraction=settings.retraction,
            evaluate=lambda step, runs, name=name: paths[name].append(runs),
        )
    apart = [
        max(difference(a, b) for a, b in zip(x, y, strict=True))
        for x, y in zip(paths["own"], paths["automatic"], strict=True)
    ]
    own, automatic = (measure(problem.fresh, ends[name]) for name in ("own", "automatic"))
    return {
        **found,
        "trajectory": apart,
        "mse": [float(m["mse"]) for m in (own, automatic)],
        "entropy_percent": [float(m["entropy_percent"]) for m in (own, automatic)],
        "curve": [float(measure(problem.test, runs)["mse"]) for runs in paths["own"][::10]],
    }


def difference(a: Tensor, b: Tensor) -> float:
    """max |a − b| / max |b|."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(torch.finfo(b.dtype).tiny))
