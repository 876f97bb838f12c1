"""Starting points for k-means: k-means++ and k-means‖."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound import search
from codebound.progress import Steps

ONE_BY_ONE = 2**24  # up to this many distances, k-means++ draws its points one by one; beyond, in rounds
FIRST = 64  # drawn one by one before the rounds begin
GROWTH = 0.25  # candidates of a round, as a share of the points drawn before
MOST = 2048  # drawn in one round: the distances among them take 32 MB


def distinct_rows(
    z: Float[Tensor, "n D"], count: int, generator: torch.Generator
) -> Float[Tensor, "count D"]:
    """`count` different rows, drawn uniformly."""
    order = torch.randperm(z.shape[0], generator=generator, device=generator.device).to(z.device)
    return z[order[:count]].clone()


def kmeans_plus_plus(
    z: Float[Tensor, "n D"],
    count: int,
    generator: torch.Generator,
    weights: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "count D"]:
    """Each point is drawn in proportion to its squared distance to the chosen (Arthur & Vassilvitskii 2007).

    Many points of many rows are drawn in rounds, by rejection: the same distribution from some dozens of passes over
    the rows instead of one for each point.
    """
    weights = z.new_ones(z.shape[0], dtype=torch.float64) if weights is None else weights.double()
    first = count if count * len(z) <= ONE_BY_ONE else min(count, FIRST)
    steps = Steps("k-means++", count)
    chosen, gap = _one_by_one(z, first, generator, weights)
    while len(chosen) < count:
        steps.done(len(chosen))
        more = min(count - len(chosen), max(1, int(GROWTH * len(chosen))), MOST)
        chosen, gap = _round(z, chosen, gap, more, generator, weights)
    return z[chosen].clone()


def _one_by_one(
    z: Tensor, count: int, generator: torch.Generator, weights: Tensor
) -> tuple[Int64[Tensor, " count"], Float[Tensor, " n"]]:
    """The rows drawn, and each row's squared distance to the nearest of them."""
    # All random numbers at once: the stream does not depend on what is chosen.
    uniform = torch.rand(count, generator=generator, dtype=torch.float64, device=generator.device).to(
        z.device
    )
    gap = torch.full_like(weights, torch.inf)
    chosen: list[int] = []
    for u in uniform:
        chosen.append(int(_drawn(_mass(gap, weights) if chosen else weights, u)))
        gap = torch.minimum(gap, (z - z[chosen[-1]]).square().sum(-1, dtype=torch.float64))
    return torch.tensor(chosen, device=z.device), gap


def _round(
    z: Tensor, chosen: Tensor, gap: Tensor, count: int, generator: torch.Generator, weights: Tensor
) -> tuple[Int64[Tensor, " more"], Float[Tensor, " n"]]:
    """At least one and at most `count` more rows, each with the probability that drawing one by one gives it.

    Candidates are drawn by the distances at the round's beginning, which can only have fallen since. One is kept with
    the share that is left of its distance when the round's kept ones before it count, too: rejection sampling.
    """
    # Candidates, and how far they are from one another.
    uniform = torch.rand(2, count, generator=generator, dtype=torch.float64, device=generator.device)
    candidates = _drawn(_mass(gap, weights), uniform[0].to(z.device))
    rows = z[candidates].double()
    between = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square().cpu().numpy()

    # In the order of their drawing; where all rows are chosen already, any will do.
    before = gap[candidates].cpu().numpy()
    left, kept = before.copy(), []
    for i, u in enumerate(uniform[1].tolist()):
        if u * before[i] <= left[i] and (left[i] > 0 or before[i] == 0):
            kept.append(i)
            np.minimum(left, between[i], out=left)

    # One search among the new ones tells by how much the rows' distances fell.
    new = candidates[torch.tensor(kept, device=z.device)]
    nearest = z[new][search.nearest(z, z[new], certify=search.is_long(z, z[new]))]
    gap = torch.minimum(gap, (z - nearest).square().sum(-1, dtype=torch.float64))
    return torch.cat([chosen, new]), gap


def _mass(gap: Tensor, weights: Tensor) -> Tensor:
    """What rows are drawn in proportion to; their weights alone where none is left that differs from the chosen."""
    mass = gap * weights
    return mass if bool(mass.sum() > 0) else weights


def _drawn(mass: Float[Tensor, " n"], uniform: Float[Tensor, "*b"]) -> Int64[Tensor, "*b"]:
    """Rows, each drawn with the probability of its share of the mass."""
    cumulative = mass.cumsum(0)
    return torch.searchsorted(cumulative, uniform * cumulative[-1], right=True).clamp_max(len(mass) - 1)


def kmeans_parallel(
    z: Float[Tensor, "n D"],
    count: int,
    generator: torch.Generator,
    rounds: int = 5,
    oversampling: float = 2.0,
) -> Float[Tensor, "count D"]:
    """k-means‖ (Bahmani et al. 2012): a few rounds that each draw many points, then k-means++ among them.

    O(rounds) passes over the data instead of `count`, for codebooks too large for k-means++.
    """
    # Each round draws rows far from those already chosen, about `oversampling` · count of them.
    n = z.shape[0]
    chosen = distinct_rows(z, 1, generator)
    for _ in range(rounds):
        gap = (z - chosen[search.nearest(z, chosen)]).square().sum(-1, dtype=torch.float64)
        if not bool(gap.sum() > 0):
            break
        odds = (oversampling * count) * gap / gap.sum()
        draw = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device).to(z.device)
        chosen = torch.cat([chosen, z[draw < odds]])

    # Too few: plain rows fill up.
    if chosen.shape[0] <= count:
        more = distinct_rows(z, count - chosen.shape[0], generator)
        return torch.cat([chosen, more])

    # Too many: k-means++ among them, each weighing as many rows as are nearest to it.
    popularity = torch.bincount(search.nearest(z, chosen), minlength=chosen.shape[0]).double()
    return kmeans_plus_plus(chosen, count, generator, popularity)
