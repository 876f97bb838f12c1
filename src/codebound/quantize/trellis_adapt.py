"""Levels of a trellis code fitted to the very latents, where these are not Gaussian and a level costs few bits.

As `trellis_fit` does for N(0, 1), but for each component by itself, with its own samples: what a level stands for
becomes the mean of what it is taken for, what it costs is counted. Sparse components (coefficients of pictures) gain up
to 1 dB at half a bit. Whether a component is served better so is measured on latents that the levels are not fitted to.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound.quantize.trellis_design import NOTHING, REACH
from codebound.quantize.trellis_search import best_levels, reproduced
from codebound.theory.trellis import granular_moment

LEAST_RATIO, MOST_RATIO = (
    0.05,
    6.0,
)  # θ/σ² of components that are fitted: above 2.2 bits the closed form is good
ENOUGH = 2048  # tokens
ROUNDS, RAMP = 12, 8  # of searches; the worth of a bit rises over the first ones, lest all levels become 0
UNSEEN = 0.02  # samples that every level is taken to have had
WEIGHT = 8  # samples that a level's present value counts for
GAIN = 0.01  # of error plus worth of bits, at least; less may be chance
SIDE = 160  # bits that a component's own levels take in a file


class Levels(NamedTuple):
    """What `best_levels` is told of each component; see `trellis_design.Design`."""

    step: Float[Tensor, " D"]
    values: Float[Tensor, "D 9"]
    bits: Float[Tensor, "D 9"]
    slope: Float[Tensor, " D"]
    pitch: Float[Tensor, " D"]

    def with_own(self, other: Levels, own: Bool[Tensor, " D"]) -> Levels:
        """The other's where `own` says so."""
        pairs = zip(self, other, strict=True)
        return Levels(*(torch.where(own if a.ndim == 1 else own.unsqueeze(1), b, a) for a, b in pairs))


def adapted(
    y: Float[Tensor, "n D"], present: Levels, theta: float, states: int, tokens: int
) -> tuple[Levels, Bool[Tensor, " D"]]:
    """Levels with those of some components fitted to y at water level θ, and which components these are.

    Args:
        tokens: of the file or batch that pays for them; few tokens don't.
    """
    variances = y.square().mean(0)
    candidates = (theta > LEAST_RATIO * variances) & (theta < MOST_RATIO * variances)
    if not bool(candidates.any()) or len(y) < ENOUGH:
        return present, torch.zeros_like(candidates)
    seen, fresh = y[: 3 * len(y) // 4], y[3 * len(y) // 4 :]

    # From evenly spaced levels with the bits of a sparse source.
    slope = 2 * math.log(2) * theta
    step = torch.full_like(present.step, 0.5 * math.sqrt(theta / granular_moment(states)))
    values = step.unsqueeze(1) * torch.arange(REACH + 1, device=y.device)
    bits = 1 + 2 * values / (variances.sqrt() + step).unsqueeze(1)
    start = Levels(step, values, bits, torch.full_like(step, slope), step)
    levels = present.with_own(start, candidates)
    for number in range(ROUNDS):
        worth = torch.where(candidates, slope * min(1.0, 0.3 + 0.7 * number / RAMP), levels.slope)
        levels = refitted(seen, levels._replace(slope=worth), candidates, states)
    levels = levels._replace(slope=torch.where(candidates, slope, levels.slope))

    # Where they serve better, on latents that they were not fitted to; without any bits a component is dropped.
    one, other = (_served(fresh, some, slope, states) for some in (present, levels))
    better = candidates & (other.cost + slope * SIDE / tokens < (1 - GAIN) * one.cost)
    chosen = present.with_own(levels, better)
    return chosen._replace(step=torch.where(better & (other.rate < NOTHING), 0.0, chosen.step)), better


def refitted(y: Float[Tensor, "n D"], levels: Levels, own: Bool[Tensor, " D"], states: int) -> Levels:
    """Values and bits of the components `own` after one more search; n and −n alike."""
    values, bits = counted(y, _searched(y, levels, states), levels.values)
    kept = own.unsqueeze(1)
    return levels._replace(
        values=torch.where(kept, values, levels.values), bits=torch.where(kept, bits, levels.bits)
    )


def counted(
    y: Float[Tensor, "n D"], taken: Int64[Tensor, "n D"], values: Float[Tensor, "D 9"]
) -> tuple[Float[Tensor, "D 9"], Float[Tensor, "D 9"]]:
    """What levels should stand for, and cost given their parity, by what they were taken for; n and −n alike."""
    size = taken.abs().clamp_max(REACH)
    inner = (taken.abs() <= REACH).to(y.dtype)
    counts = torch.zeros_like(values).scatter_add_(1, size.t(), inner.t().contiguous())
    sums = torch.zeros_like(counts).scatter_add_(1, size.t(), (inner * taken.sign() * y).t().contiguous())

    # Means, as far as there are samples, in their order; shares of a parity, of which n and −n have half each.
    values = ((sums + WEIGHT * values) / (counts + WEIGHT)).cummax(1).values
    number = torch.arange(REACH + 1, device=y.device)
    shares = counts + UNSEEN * torch.where(number > 0, 2, 1)
    even = number % 2 == 0
    of_parity = torch.where(even, shares[:, even].sum(1, True), shares[:, ~even].sum(1, True))
    return values, (number > 0).to(shares) - (shares / of_parity).log2()


class _Served(NamedTuple):
    cost: Float[Tensor, " D"]
    rate: Float[Tensor, " D"]


def _served(y: Float[Tensor, "n D"], levels: Levels, slope: float, states: int) -> _Served:
    """Of each component: squared error plus the worth of its bits, and the bits by entropy."""
    taken = _searched(y, levels, states)
    error = (reproduced(taken, levels.values, levels.pitch) - y).square().mean(0)
    rate = torch.stack([level_bits(column) for column in taken.t()]).to(error)
    return _Served(error + slope * rate, rate)


def _searched(y: Float[Tensor, "n D"], levels: Levels, states: int) -> Int64[Tensor, "n D"]:
    valid = torch.ones(1, len(y), dtype=torch.bool, device=y.device)
    return best_levels(y.unsqueeze(0), valid, *levels[:4], states).squeeze(0)


def level_bits(levels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
    """Bits of a component's levels given their parity: their entropy, without its bias.

    A few samples show too small an entropy, by about (levels seen − 1)/(2n) nats (Miller 1955; Madow).
    """
    total = torch.zeros((), dtype=torch.float64)
    for parity in (0, 1):
        own = levels[levels % 2 == parity]
        if len(own):
            _, counts = own.unique(return_counts=True)
            shares = counts.double() / len(own)
            nats = torch.special.entr(shares).sum().cpu() + (len(counts) - 1) / (2 * len(own))
            total += nats / math.log(2) * len(own) / len(levels)
    return total
