"""Manual gradients against automatic differentiation: the same start, the same batches, float64."""

from __future__ import annotations

from collections.abc import Sequence
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
from codebound.quantize.estimator import Estimator, Projection, Rotation, StraightThrough
from codebound.quantize.seeding import kmeans_plus_plus
from codebound.studies.estimators import sources
from codebound.studies.estimators.measure import measure
from codebound.studies.estimators.settings import Settings

# Ways to one gradient: (the way, the rule's estimator). The NumPy file knows straight-through only.
WAYS: dict[str, tuple[Gradients, Estimator]] = {
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
    estimator: Estimator,
) -> dict[str, Any]:
    weights = (settings.lr_encoder, settings.lr_codebook, settings.commitment, settings.codebook_weight)
    differences: dict[str, list[float]] = {"encoder_gradient": [], "codebook_gradient": []}

    def both(x: Tensor, runs: LinearRuns, rules: Sequence[Rule]) -> LinearRuns:
        own, automatic = gradients(x, runs, rules), autograd_gradients(x, runs, rules)
        for name, a, b in zip(differences, own, automatic, strict=True):
            differences[name].append(difference(a, b))
        return own

    # Two whole runs: one moves by the gradients that are judged, one by autograd's.
    paths: list[list[LinearRuns]] = []
    for way in (both, autograd_gradients):
        paths.append([])
        train_linear(
            problem.train,
            start,
            [Rule(estimator, *weights)],
            order,
            gradients=way,
            retraction=settings.retraction,
            evaluate=lambda step, runs: paths[-1].append(runs),
        )
    ends = [measure(problem.fresh, path[-1]) for path in paths]
    return {
        **differences,
        "trajectory": [max(map(difference, x, y)) for x, y in zip(*paths, strict=True)],
        **{name: [float(end[name]) for end in ends] for name in ("mse", "entropy_percent")},
        "curve": [float(measure(problem.test, runs)["mse"]) for runs in paths[0][::10]],
    }


def difference(a: Tensor, b: Tensor) -> float:
    """max |a − b| / max |b|."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(torch.finfo(b.dtype).tiny))
