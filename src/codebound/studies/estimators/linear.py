"""One cell of the linear comparison: a source and a seed, all arms at all codebook sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from codebound.batched.codebooks import batch_order
from codebound.batched.linear import (
    Gradients,
    LinearRuns,
    autograd_gradients,
    closed_form_gradients,
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


@dataclass(frozen=True)
class Comparison:
    """All arms at one codebook size, on one draw of a source; the first size (`main`) has the ablations too."""

    settings: Settings
    problem: sources.Problem
    source: str
    seed: int
    size: int
    main: bool

    def stream(self, purpose: str) -> torch.Generator:
        """Random numbers of this size for one purpose."""
        return sources.generator(self.source, self.seed, f"{purpose} {self.size}")

    @cached_property
    def latents(self) -> Tensor:
        """The training set in PCA's m dimensions."""
        return self.problem.train @ self.problem.pca


def run_linear(settings: Settings, source: str, seed: int) -> dict[str, Any]:
    """Train and measure everything on one draw of the source."""
    problem = sources.draw(settings, source, seed)
    sizes = settings.sizes(source)  # pyright: ignore[reportArgumentType]
    reference = _reference_latents(settings, problem)
    comparisons = [Comparison(settings, problem, source, seed, k, main=i == 0) for i, k in enumerate(sizes)]
    return {
        "limits": {str(k): asdict(problem.limits(k)) for k in sizes},
        "eigenvalues": problem.eigenvalues[: settings.rank].tolist(),
        "sizes": [_size(comparison, reference) for comparison in comparisons],
    }


def _size(comparison: Comparison, reference: ReferenceLatents) -> dict[str, Any]:
    settings, problem = comparison.settings, comparison.problem
    restarts = _restarts(comparison)

    # All arms together, on the same batches.
    trained = arms(settings, comparison.main)
    start = _starts(comparison, restarts, trained)
    stream = comparison.stream("order")
    order = batch_order(len(problem.train), settings.batch_size, settings.long_steps, stream)
    runs = _train(comparison, trained, start, order)
    if comparison.main:
        runs += _single(comparison, trained, start, order)

    # PCA + Lloyd, which is not trained by gradients.
    baselines = {SINGLE: 0, BASELINE: restarts.best}
    books = restarts.codebooks.double()[list(baselines.values())]
    at_end = measure(problem.fresh, LinearRuns(problem.pca.expand(len(books), -1, -1), books))
    for i, name in enumerate(baselines):
        runs.append({"estimator": name, "protocol": "lloyd", "beta": None, **_at(at_end, i)})
    return {
        "codebook_size": comparison.size,
        "restarts": {"train": restarts.train, "fresh": restarts.fresh, "best": restarts.best},
        "reference": _reference(comparison, reference, restarts),
        "runs": runs,
    }


def _restarts(comparison: Comparison) -> Restarts:
    settings, problem, z = comparison.settings, comparison.problem, comparison.latents
    count = settings.restarts if comparison.main else settings.other_restarts
    count = settings.high_restarts if comparison.source == "high" else count
    stream = comparison.stream("lloyd")
    seeds = torch.stack([kmeans_plus_plus(z, comparison.size, stream) for _ in range(count)])
    # Float32: the search is twice as fast, and the codebook's seventh digit decides nothing.
    ended = lloyd(z.float(), seeds.float(), iterations=300, tolerance=settings.lloyd_tolerance)
    fresh = measure(problem.fresh, LinearRuns(problem.pca.expand(count, -1, -1), ended.codebook.double()))
    tail = float((problem.train.square().sum(-1) - z.square().sum(-1)).mean())
    train = (ended.distortion + tail).tolist()
    return Restarts(seeds[0], ended.codebook, int(ended.distortion.argmin()), train, fresh["mse"].tolist())


def _starts(comparison: Comparison, restarts: Restarts, trained: Sequence[Arm]) -> LinearRuns:
    """PCA and the first restart's k-means++ seeds; a random encoder with its own; or the best Lloyd codebook."""
    problem, stream = comparison.problem, comparison.stream("random")
    random = qr(torch.randn(problem.pca.shape, generator=stream, dtype=torch.float64))
    begin = {
        "documents": (problem.pca, restarts.seeds),
        "tuned": (problem.pca, restarts.seeds),
        "random": (random, kmeans_plus_plus(problem.train @ random, comparison.size, stream)),
        "lloyd": (problem.pca, restarts.codebooks[restarts.best].double()),
    }
    pairs = [begin[arm.protocol] for arm in trained]
    return LinearRuns(*(torch.stack(parts) for parts in zip(*pairs, strict=True)))


def _train(
    comparison: Comparison,
    trained: Sequence[Arm],
    start: LinearRuns,
    order: Tensor,
    gradients: Gradients = closed_form_gradients,
) -> list[dict[str, Any]]:
    """Each arm's results after `steps` on fresh data, with its curve on the test set."""
    settings, problem = comparison.settings, comparison.problem
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
        [rule(settings, arm) for arm in trained],
        order,
        gradients=gradients,
        retraction=settings.retraction,
        horizon=settings.steps,
        evaluate=evaluate,
        evaluate_every=settings.evaluate_every,
    )
    runs = kept[0]
    at_end = measure(problem.fresh, runs)
    at_end["captured_percent"] = captured_percent(problem.fresh, runs.encoder, problem.pca)
    rows = []
    for i, arm in enumerate(trained):
        curve = {name: [float(row[name][i]) for row in history] for name in ("mse", "entropy_percent")}
        rows.append({**arm._asdict(), **_at(at_end, i), "curve": {"step": list(steps), **curve}})
    return rows


def _single(
    comparison: Comparison, trained: list[Arm], start: LinearRuns, order: Tensor
) -> list[dict[str, Any]]:
    """The report's run by autograd and by the NumPy file, each on its own: the same batches and start."""
    arm = Arm("straight_through", "documents", comparison.settings.commitment)
    i = trained.index(arm)
    one = LinearRuns(*(t[i : i + 1] for t in start))
    rows = []
    for name, gradients in (("autograd", autograd_gradients), ("manual_numpy", numpy_gradients)):
        (row,) = _train(comparison, [arm], one, order[: comparison.settings.steps], gradients)
        rows.append({**row, "estimator": name})
    return rows


def _reference(
    comparison: Comparison, reference: ReferenceLatents, restarts: Restarts
) -> dict[str, float | None]:
    """Lloyd on many fresh samples, measured on others: with PCA's encoder, and without the limit to m dimensions."""
    settings, problem = comparison.settings, comparison.problem
    z, wide, axes = reference
    options = {"iterations": 100, "tolerance": settings.lloyd_tolerance}
    book = lloyd(z, restarts.codebooks[restarts.best], **options).codebook.double()
    inside = measure(problem.fresh, LinearRuns(problem.pca[None], book[None]))["mse"]
    if not comparison.main:
        return {"pca": float(inside), "free": None}

    # Two starts: k-means++ in all of them, and the codebook above beside zeros; the better on these samples.
    few = wide[: settings.train_samples]
    padding = wide.new_zeros(comparison.size, settings.rank - settings.latent_dim)
    seeds = kmeans_plus_plus(few, comparison.size, comparison.stream("free"))
    starts = torch.stack([seeds, torch.cat([book.float(), padding], dim=1)])
    ended = lloyd(wide, lloyd(few, starts, **options).codebook, **options)
    free = ended.codebook[ended.distortion.argmin()].double()
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


def _at(values: dict[str, Tensor], run: int) -> dict[str, float]:
    return {name: float(value[run]) for name, value in values.items()}
