"""Levels of a trellis code fitted to the very latents, where these are not Gaussian and a level costs few bits.

As `trellis_fit` does for N(0, 1), but for each component by itself, with its own samples: what a level stands for
becomes the mean of what it is taken for, what it costs is counted. Sparse components (coefficients of pictures) gain up
to 1 dB at half a bit. Those of the fewest bits may be scalars, off the path: a path that has to leave zero now and then
costs them more than it gains. What serves better is measured on latents that the levels are not fitted to.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from codebound.quantize.trellis_design import REACH
from codebound.quantize.trellis_search import best_levels, reproduced
from codebound.theory.trellis import granular_moment

LEAST_RATIO, MOST_RATIO = (
    0.005,
    6.0,
)  # θ/σ² of components that are fitted: beyond the closed form is good, or nothing
ENOUGH = 2048  # tokens
ROUNDS, RAMP = 12, 8  # of searches; the worth of a bit rises over the first ones, lest all levels become 0
UNSEEN = 0.02  # samples that every level is taken to have had
WEIGHT = 8  # samples that a level's present value counts for
GAIN = 0.01  # of error plus worth of bits, at least; less may be chance
PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the fitted components that may be scalars
REFITS = 2  # of a path without them
SCALAR_MOMENT = 1 / 12  # mean squared error of a uniform scalar over the squared distance of its levels
SIDE = 128  # bits that a component's own levels take in a file; a scalar's half of that


class Levels(NamedTuple):
    """What `best_levels` is told of each component; see `trellis_design.Design`."""

    step: Float[Tensor, " D"]
    values: Float[Tensor, "D 9"]
    bits: Float[Tensor, "D 9"]
    slope: Float[Tensor, " D"]
    pitch: Float[Tensor, " D"]
    alone: Float[Tensor, " D"]  # 1: a scalar, no step of the path; its m-th level is 2·m

    def with_own(self, other: Levels, own: Bool[Tensor, " D"]) -> Levels:
        """The other's where `own` says so."""
        pairs = zip(self, other, strict=True)
        return Levels(*(torch.where(own if a.ndim == 1 else own.unsqueeze(1), b, a) for a, b in pairs))


def adapted(
    y: Float[Tensor, "n D"],
    present: Levels,
    theta: float,
    states: int,
    tokens: int,
    parts: tuple[float, ...] = PARTS,
) -> tuple[Levels, Bool[Tensor, " D"]]:
    """Levels with those of some components fitted to y at water level θ, and which components these are.

    Args:
        tokens: of the file or batch that pays for them; few tokens don't.
        parts: of the fitted components that may be scalars, the least first.
    """
    variances = y.square().mean(0)
    candidates = (theta > LEAST_RATIO * variances) & (theta < MOST_RATIO * variances)
    if not bool(candidates.any()) or len(y) < ENOUGH:
        return present, torch.zeros_like(candidates)
    seen, fresh = y[: 3 * len(y) // 4], y[3 * len(y) // 4 :]

    # Levels of the path, and of scalars, where they serve better than the present ones; without bits one is dropped.
    slope = 2 * math.log(2) * theta
    # Gaussian levels below a bit depend on the water level, which is going to move: they are no safer than fitted ones.
    now = _served(fresh, present, slope, states).cost
    least = torch.where(present.slope > 0, 1 + GAIN, 1 - GAIN) * now
    least = torch.where(present.step > 0, least, now)
    fits, better = [], []
    for alone, moment, side in ((0.0, granular_moment(states), SIDE), (1.0, SCALAR_MOMENT, SIDE / 2)):
        start = _evenly(present, variances, math.sqrt(theta / moment), slope, alone)
        levels = present.with_own(start, candidates)
        for number in range(ROUNDS):
            worth = torch.where(candidates, slope * min(1.0, 0.3 + 0.7 * number / RAMP), levels.slope)
            levels = refitted(seen, levels._replace(slope=worth), candidates, states)
        levels = levels._replace(slope=torch.where(candidates, slope, levels.slope))
        served = _served(fresh, levels, slope, states)
        nothing = candidates & (served.rate == 0)
        fits.append(levels._replace(step=torch.where(nothing, 0.0, levels.step)))
        better.append(candidates & (served.cost + slope * side / tokens < least))

    # Which are scalars: the components of least variance, none to all; a path is another without them.
    order = torch.where(candidates, variances, math.inf).argsort()
    found = []
    for part in parts:
        first = torch.zeros_like(candidates)
        first[order[: round(part * int(candidates.sum()))]] = True
        scalars, path = first & better[1], ~first & better[0]
        levels = present.with_own(fits[0], path).with_own(fits[1], scalars)
        if bool(path.any()) and bool(scalars.any()):
            for _ in range(REFITS):
                levels = refitted(seen, levels, path & (levels.step > 0), states)
        cost = float(_served(fresh, levels, slope, states).cost.sum())
        found.append((cost, levels, path | scalars))
    _, chosen, own = min(found, key=lambda each: each[0])
    return chosen, own


def _evenly(
    present: Levels, variances: Float[Tensor, " D"], distance: float, slope: float, alone: float
) -> Levels:
    """Levels so far apart, twice on the path as neighbours n and n + 1 are, with the bits of a sparse source."""
    step = torch.full_like(present.step, 0.5 * distance)
    values = step.unsqueeze(1) * torch.arange(REACH + 1, device=step.device)
    bits = 1 + 2 * values / (variances.sqrt() + step).unsqueeze(1)
    return Levels(step, values, bits, torch.full_like(step, slope), step, torch.full_like(step, alone))


def refitted(y: Float[Tensor, "n D"], levels: Levels, own: Bool[Tensor, " D"], states: int) -> Levels:
    """Values and bits of the components `own` after one more search; n and −n alike."""
    values, bits = counted(y, _searched(y, levels, states), levels.values)
    # A scalar's odd levels, which it never takes, are those below them.
    below = (torch.arange(REACH + 1, device=y.device) // 2) * 2
    values = torch.where(levels.alone.unsqueeze(1) > 0, values[:, below], values)
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
    found = best_levels(y.unsqueeze(0), valid, *levels[:4], levels.alone, states)
    return found.squeeze(0)


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
