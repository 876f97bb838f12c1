"""One cell of the linear comparison: a source and a seed, all arms at all codebook sizes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from codebound.batched.codebooks import batch_order
from codebound.batched.linear import (
    LinearRuns,
    Rule,
    autograd_gradients,
    numpy_gradients,
    train_linear,
)
from codebound.nets.linear import PCA, qr
from codebound.quantize.seeding import kmeans_plus_plus
from codebound.studies.estimators import sources
from codebound.studies.estimators.arms import BASELINE, SINGLE, Arm, arms, rule
from codebound.studies.estimators.measure import captured_percent, measure
from codebound.studies.estimators.settings import Settings
from codebound.theory.lloyd import lloyd


class Restarts(NamedTuple):
    """Lloyd in the PCA latents from independent k-means++ seeds, and a start for the arms that are trained."""

    seeds: Tensor  # [K, m], those of the first restart
    codebooks: Tensor  # [restarts, K, m]
    best: int  # by distortion on the training data
    train: list[float]
    fresh: list[float]


class ReferenceLatents(NamedTuple):
    """Many vectors beyond the training set in PCA's m dimensions, and in as many as the source's rank."""

    narrow: Tensor
    wide: Tensor
    axes: Tensor  # of `wide`


def run_linear(settings: Settings, source: str, seed: int) -> dict[str, Any]:
    """Train and measure everything on one draw of the source."""
    problem = sources.draw(settings, source, seed)
    sizes = settings.sizes(source)  # pyright: ignore[reportArgumentType]
    reference = _reference_latents(settings, problem)
    return {
        "limits": {str(k): asdict(problem.limits(k)) for k in sizes},
        "eigenvalues": problem.eigenvalues[: settings.rank].tolist(),
        "sizes": [
            _size(settings, problem, reference, source, seed, k, main=i == 0) for i, k in enumerate(sizes)
        ],
    }


def _size(
    settings: Settings,
    problem: sources.Problem,
    reference: ReferenceLatents,
    source: str,
    seed: int,
    size: int,
    *,
    main: bool,
) -> dict[str, Any]:
    restarts = _restarts(settings, problem, source, seed, size, main)
    found = arms(settings, main)
    start = _starts(settings, problem, restarts, found, sources.generator(source, seed, f"random {size}"))
    order = batch_order(
        len(problem.train),
        settings.batch_size,
        settings.long_steps,
        sources.generator(source, seed, f"order {size}"),
    )
    rules = [rule(settings, arm) for arm in found]
    rows, runs_at = _train(settings, problem, start, rules, order)
    runs = [{**arm._asdict(), **row} for arm, row in zip(found, rows, strict=True)]
    if main:
        runs += _single(settings, problem, found, start, order)
    lloyd_runs = {SINGLE: 0, BASELINE: restarts.best}
    books = restarts.codebooks.double()[list(lloyd_runs.values())]
    pca = problem.pca.expand(len(books), -1, -1)
    at_end = measure(problem.fresh, LinearRuns(pca, books))
    for i, name in enumerate(lloyd_runs):
        runs.append({"estimator": name, "protocol": "lloyd", "beta": None, **_at(at_end, i)})
    return {
        "codebook_size": size,
        "restarts": {"train": restarts.train, "fresh": restarts.fresh, "best": restarts.best},
        "reference": _reference(settings, problem, reference, restarts, source, seed, size, main),
        "runs": runs,
        "learned_subspace": _subspaces(problem, found, runs_at),
    }


def _restarts(
    settings: Settings, problem: sources.Problem, source: str, seed: int, size: int, main: bool
) -> Restarts:
    count = settings.restarts if main else settings.other_restarts
    count = settings.high_restarts if source == "high" else count
    stream = sources.generator(source, seed, f"lloyd {size}")
    z = problem.train @ problem.pca
    seeds = torch.stack([kmeans_plus_plus(z, size, stream) for _ in range(count)])
    # Float32: the search is twice as fast, and the codebook's seventh digit decides nothing.
    found = lloyd(z.float(), seeds.float(), iterations=300, tolerance=settings.lloyd_tolerance)
    fresh = measure(problem.fresh, LinearRuns(problem.pca.expand(count, -1, -1), found.codebook.double()))
    tail = float((problem.train.square().sum(-1) - z.square().sum(-1)).mean())
    train = (found.distortion + tail).tolist()
    best = int(found.distortion.argmin())
    return Restarts(seeds[0], found.codebook, best, train, fresh["mse"].tolist())


def _starts(
    settings: Settings,
    problem: sources.Problem,
    restarts: Restarts,
    found: list[Arm],
    stream: torch.Generator,
) -> LinearRuns:
    """PCA and the first restart's k-means++ seeds; a random encoder with its own; or the best Lloyd codebook."""
    random = qr(torch.randn(problem.pca.shape, generator=stream, dtype=torch.float64))
    begin = {
        "documents": (problem.pca, restarts.seeds),
        "tuned": (problem.pca, restarts.seeds),
        "random": (random, kmeans_plus_plus(problem.train @ random, len(restarts.seeds), stream)),
        "lloyd": (problem.pca, restarts.codebooks[restarts.best].double()),
    }
    pairs = [begin[arm.protocol] for arm in found]
    return LinearRuns(*(torch.stack(parts) for parts in zip(*pairs, strict=True)))


def _train(
    settings: Settings,
    problem: sources.Problem,
    start: LinearRuns,
    rules: list[Rule],
    order: Tensor,
    **how: Any,
) -> tuple[list[dict[str, Any]], LinearRuns]:
    """Each run's results after `steps` on fresh data, with its curve on the test set; and the runs then."""
    steps: list[int] = []
    history: list[dict[str, Tensor]] = []
    kept: list[LinearRuns] = []

    def evaluate(step: int, runs: LinearRuns) -> None:
        steps.append(step)
        history.append(measure(problem.test, runs))
        if step == settings.steps:
            kept.append(runs)

    train_linear(
        problem.train,
        start,
        rules,
        order,
        retraction=settings.retraction,
        horizon=settings.steps,
        evaluate=evaluate,
        evaluate_every=settings.evaluate_every,
        **how,
    )
    runs = kept[0]
    at_end = measure(problem.fresh, runs)
    at_end["captured_percent"] = captured_percent(problem.fresh, runs.encoder, problem.pca)
    rows = []
    for i in range(len(rules)):
        curve = {name: [float(row[name][i]) for row in history] for name in ("mse", "entropy_percent")}
        rows.append({**_at(at_end, i), "curve": {"step": list(steps), **curve}})
    return rows, runs


def _single(
    settings: Settings, problem: sources.Problem, found: list[Arm], start: LinearRuns, order: Tensor
) -> list[dict[str, Any]]:
    """The documents' run by autograd and by the NumPy file, each on its own: the same batches and start."""
    arm = Arm("straight_through", "documents", settings.commitment)
    i = found.index(arm)
    one = LinearRuns(*(t[i : i + 1] for t in start))
    rows = []
    for name, gradients in (("autograd", autograd_gradients), ("manual_numpy", numpy_gradients)):
        row, _ = _train(
            settings, problem, one, [rule(settings, arm)], order[: settings.steps], gradients=gradients
        )
        rows.append({**arm._asdict(), "estimator": name, **row[0]})
    return rows


def _reference(
    settings: Settings,
    problem: sources.Problem,
    reference: ReferenceLatents,
    restarts: Restarts,
    source: str,
    seed: int,
    size: int,
    main: bool,
) -> dict[str, float | None]:
    """Lloyd on many fresh samples, measured on others: with PCA's encoder, and without the limit to m dimensions."""
    z, wide, axes = reference
    options = {"iterations": 100, "tolerance": settings.lloyd_tolerance}
    book = lloyd(z, restarts.codebooks[restarts.best], **options).codebook.double()
    inside = measure(problem.fresh, LinearRuns(problem.pca[None], book[None]))["mse"]
    if not main:
        return {"pca": float(inside), "free": None}
    # Two starts: k-means++ in all of them, and the codebook above beside zeros; the better on these samples.
    few, padding = wide[: settings.train_samples], wide.new_zeros(size, settings.rank - settings.latent_dim)
    stream = sources.generator(source, seed, f"free {size}")
    starts = torch.stack([kmeans_plus_plus(few, size, stream), torch.cat([book.float(), padding], dim=1)])
    found = lloyd(wide, lloyd(few, starts, **options).codebook, **options)
    free = found.codebook[found.distortion.argmin()].double()
    outside = measure(problem.fresh, LinearRuns(axes[None], free[None]))["mse"]
    return {"pca": float(inside), "free": float(outside)}


def _reference_latents(settings: Settings, problem: sources.Problem) -> ReferenceLatents:
    axes = PCA.fit(problem.train, settings.rank).axes
    narrow, wide = [], []
    left = settings.reference_samples
    while left > 0:
        x = problem.draw(min(left, 20_000))
        left -= len(x)
        narrow.append((x @ problem.pca).float())
        wide.append((x @ axes).float())
    return ReferenceLatents(torch.cat(narrow), torch.cat(wide), axes)


def _subspaces(problem: sources.Problem, found: list[Arm], runs: LinearRuns) -> list[dict[str, Any]]:
    """What a learned encoder is worth by itself: one Lloyd run in its latents, beside one in PCA's, from the same rows.

    Only of the arms that began at PCA's best codebook, whose codebook is the common start.
    """
    rows = []
    for i, arm in enumerate(found):
        if arm.protocol != "lloyd" or arm.estimator != "straight_through":
            continue
        z = (problem.train @ runs.encoder[i]).float()
        book = lloyd(z, runs.codebook[i].float(), iterations=100, tolerance=1e-4).codebook.double()
        after = measure(problem.fresh, LinearRuns(runs.encoder[i : i + 1], book[None]))["mse"]
        rows.append({**arm._asdict(), "mse": float(after)})
    return rows


def _at(values: dict[str, Tensor], run: int) -> dict[str, float]:
    return {name: float(value[run]) for name, value in values.items()}
