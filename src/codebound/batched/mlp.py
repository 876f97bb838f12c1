"""Train many non-linear vector-quantized autoencoders at once: x → MLP → codeword → MLP → x̂, on the same batches.

The question is the estimator's alone, so the runs of a batch differ in nothing else: same start, same batches, Adam
with one rate for networks and codebook, no revival.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from codebound import search
from codebound.batched.linear import Rule, pass_through


class NetworkRuns(NamedTuple):
    """Weights of encoder d → h → k and decoder k → h → d (GELU between), and codebooks; one of each per run."""

    into: Float[Tensor, "m d h"]
    into_bias: Float[Tensor, "m 1 h"]
    down: Float[Tensor, "m h k"]
    up: Float[Tensor, "m k h"]
    up_bias: Float[Tensor, "m 1 h"]
    out: Float[Tensor, "m h d"]
    out_bias: Float[Tensor, "m 1 d"]
    codebook: Float[Tensor, "m K k"]


def draw_networks(
    dim: int, width: int, latent_dim: int, codebook_size: int, generator: torch.Generator
) -> NetworkRuns:
    """One run with He-scaled weights, no biases yet, and a codebook of zeros (to be set from latents)."""

    def weights(rows: int, columns: int, gain: float) -> Tensor:
        return torch.randn(1, rows, columns, generator=generator) * math.sqrt(gain / rows)

    zeros = torch.zeros
    return NetworkRuns(
        weights(dim, width, 2.0),
        zeros(1, 1, width),
        weights(width, latent_dim, 1.0),
        weights(latent_dim, width, 2.0),
        zeros(1, 1, width),
        weights(width, dim, 1.0),
        zeros(1, 1, dim),
        zeros(1, codebook_size, latent_dim),
    )


def encode(x: Float[Tensor, "n d"], runs: NetworkRuns) -> Float[Tensor, "m n k"]:
    """Latents of shared vectors."""
    return functional.gelu(x @ runs.into + runs.into_bias) @ runs.down


def decode(z: Float[Tensor, "m n k"], runs: NetworkRuns) -> Float[Tensor, "m n d"]:
    """Reproductions."""
    return functional.gelu(z @ runs.up + runs.up_bias) @ runs.out + runs.out_bias


def reproduce(
    x: Float[Tensor, "n d"], runs: NetworkRuns
) -> tuple[Float[Tensor, "m n d"], Int64[Tensor, "m n"]]:
    """What decoding the codes gives, and the codes. As each run decodes K codewords only, this is a lookup."""
    with torch.no_grad():
        indices = search.nearest(encode(x, runs).contiguous(), runs.codebook, certify=False)
        table = decode(runs.codebook, runs)
        return torch.take_along_dim(table, indices.unsqueeze(-1), dim=1), indices


def loss(x: Float[Tensor, "n d"], runs: NetworkRuns, rules: Sequence[Rule]) -> Float[Tensor, " m"]:
    """Each run's reconstruction + α·codebook + β·commitment; squared errors summed over dimensions."""
    z = encode(x, runs)
    indices = search.nearest(z.contiguous(), runs.codebook, certify=False)
    q = torch.take_along_dim(runs.codebook, indices.unsqueeze(-1), dim=1)
    x_hat = decode(pass_through(rules, z, q, runs.codebook), runs)
    terms = ((x - x_hat), (z.detach() - q), (z - q.detach()))
    reconstruction, codebook, commitment = (t.square().sum((-2, -1)) / x.shape[0] for t in terms)
    alpha = x.new_tensor([rule.codebook_weight for rule in rules])
    beta = x.new_tensor([rule.commitment for rule in rules])
    return reconstruction + alpha * codebook + beta * commitment


def train_networks(
    x: Float[Tensor, "n d"],
    start: NetworkRuns,
    rules: Sequence[Rule],
    order: Int64[Tensor, "steps batch"],
    lr: float,
    *,
    evaluate: Callable[[int, NetworkRuns], None] = lambda step, runs: None,
    evaluate_every: int = 100,
) -> NetworkRuns:
    """Adam with a cosine to zero over `order`; runs do not touch one another, so one optimizer serves all."""
    runs = NetworkRuns(*(t.detach().clone().requires_grad_() for t in start))
    optimizer = torch.optim.Adam(list(runs), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, order.shape[0])
    for step, rows in enumerate(order):
        if step % evaluate_every == 0:
            evaluate(step, runs)
        optimizer.zero_grad()
        loss(x[rows], runs, rules).sum().backward()
        optimizer.step()
        schedule.step()
    evaluate(order.shape[0], runs)
    return NetworkRuns(*(t.detach() for t in runs))
