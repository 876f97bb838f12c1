"""Starting points for k-means: k-means++ and k-means‖."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from codebound import search


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
    """Each point is drawn in proportion to its squared distance to the chosen (Arthur & Vassilvitskii 2007)."""
    # All random numbers at once: the stream does not depend on what is chosen.
    weights = z.new_ones(z.shape[0], dtype=torch.float64) if weights is None else weights.double()
    uniform = torch.rand(count, generator=generator, dtype=torch.float64, device=generator.device).to(
        z.device
    )

    # `gap` is each row's squared distance to the nearest row chosen so far.
    gap = torch.full_like(weights, torch.inf)
    chosen = []
    for u in uniform:
        mass = weights if not chosen else gap * weights
        if not bool(mass.sum() > 0):  # fewer distinct rows than asked for
            mass = weights

        # A row is drawn with the probability of its share of the mass.
        cumulative = mass.cumsum(0)
        chosen.append(
            int(torch.searchsorted(cumulative, u * cumulative[-1], right=True).clamp_max(len(z) - 1))
        )
        gap = torch.minimum(gap, (z - z[chosen[-1]]).square().sum(-1, dtype=torch.float64))
    return z[torch.tensor(chosen, device=z.device)].clone()


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
