"""One cell of the non-linear comparison: the estimators under an MLP encoder and decoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from codebound.batched.codebooks import batch_order
from codebound.batched.linear import Rule
from codebound.batched.mlp import NetworkRuns, draw_networks, encode, reproduce, train_networks
from codebound.metrics.usage import usage
from codebound.quantize.estimator import Estimator, Projection, Rotation, StopGradient, StraightThrough
from codebound.quantize.seeding import kmeans_plus_plus
from codebound.studies.estimators import sources
from codebound.studies.estimators.settings import Settings

# `stop_gradient` is the control: no estimator at all, only the commitment reaches the encoder.
NETWORK_ESTIMATORS: dict[str, Estimator] = {
    "straight_through": StraightThrough(),
    "rotation": Rotation(),
    "projection": Projection(),
    "stop_gradient": StopGradient(),
}


def run_networks(settings: Settings, source: str, seed: int) -> dict[str, Any]:
    """Train every estimator at β and at 1 from one start, on the same batches."""
    problem = sources.draw(settings, source, seed)
    train, test, fresh = (x.float() for x in (problem.train, problem.test, problem.fresh))
    stream = sources.generator(source, seed, "mlp")
    start = draw_networks(
        train.shape[1], settings.mlp_width, settings.latent_dim, settings.codebook_size, stream
    )
    latents = encode(train, start)[0]
    book = kmeans_plus_plus(latents, settings.codebook_size, stream)
    start = start._replace(codebook=book[None])
    order = batch_order(len(train), settings.mlp_batch, settings.mlp_steps, stream)
    arms = [(name, beta) for name in NETWORK_ESTIMATORS for beta in dict.fromkeys((settings.commitment, 1.0))]
    rules = [
        Rule(NETWORK_ESTIMATORS[name], commitment=beta, codebook_weight=settings.codebook_weight)
        for name, beta in arms
    ]
    history: list[tuple[int, dict[str, Tensor]]] = []

    def evaluate(step: int, runs: NetworkRuns) -> None:
        history.append((step, _measure(test, runs)))

    every = max(1, settings.mlp_steps // 15)
    many = NetworkRuns(*(t.expand(len(rules), *t.shape[1:]) for t in start))
    last = train_networks(train, many, rules, order, settings.mlp_lr, evaluate=evaluate, evaluate_every=every)
    end = _measure(fresh, last)
    runs = []
    for i, (name, beta) in enumerate(arms):
        curve = {"step": [s for s, _ in history], "mse": [float(m["mse"][i]) for _, m in history]}
        runs.append(
            {"estimator": name, "beta": beta, **{k: float(v[i]) for k, v in end.items()}, "curve": curve}
        )
    return {"runs": runs}


def _measure(x: Tensor, runs: NetworkRuns) -> dict[str, Tensor]:
    size = runs.codebook.shape[1]
    total, counts = torch.zeros(len(runs.codebook), dtype=torch.float64), 0
    for rows in x.split(5_000):
        x_hat, indices = reproduce(rows, runs)
        total += (rows - x_hat).square().sum((-2, -1), dtype=torch.float64)
        counts = counts + torch.stack([torch.bincount(i, minlength=size) for i in indices])
    use = usage(torch.as_tensor(counts))
    return {
        "mse": total / len(x),
        "perplexity_percent": 100 * use.perplexity / size,
        "dead": use.dead,
    }
