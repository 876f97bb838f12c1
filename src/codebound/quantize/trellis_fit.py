"""Levels for trellis codes below a bit, fitted to N(0, 1) with the rate in the cost of a branch.

`python -m codebound.quantize.trellis_fit FILE` writes the table that stands in the package; it takes minutes.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound.quantize.trellis_adapt import counted
from codebound.quantize.trellis_design import REACH
from codebound.quantize.viterbi import POLYNOMIALS, cheapest_paths
from codebound.theory.trellis import granular_moment

RATIOS = (
    0.3,
    0.35,
    0.4,
    0.45,
    0.5,
    0.55,
    0.58,
    0.6,
    0.62,
    0.64,
    0.66,
    0.68,
    0.7,
    0.72,
    0.74,
    0.76,
    0.78,
    0.8,
)
STEPS, LANES, EDGE = 640, 256, 64  # samples, and how many at either end of a sequence don't count
ROUNDS, FIRST = 12, 22  # for each ratio, from the levels of the one before; for the first one


def fit(states: int) -> dict[str, list[float] | list[list[float]]]:
    """Levels, bits, and the point (D, R) that they reach on fresh samples, for each ratio; levels n ≥ 0 only.

    Each round: the cheapest paths of Σ (x − c)² + λ·b; then b from how often a level is taken given its parity, and c
    from the mean of what it is taken for. The ratio rises step by step, as from afar the iteration falls to rate 0.
    """
    seen, fresh = (_samples(seed) for seed in (0, 1))
    values, bits = _closed_form(states, RATIOS[0])
    table: dict[str, list] = {name: [] for name in ("distortion", "rate", "values", "bits")}
    for ratio in RATIOS:
        slope = 2 * math.log(2) * ratio
        for _ in range(ROUNDS if table["rate"] else FIRST):
            levels = _paths(seen, values, bits, slope, states)
            values, bits = _refitted(seen, levels, values)
        values, bits = _continued(values, bits)

        # What they reach, without the chance in the variance of the samples that count.
        levels = _paths(fresh, values, bits, slope, states)[EDGE:-EDGE] + REACH
        x = fresh[EDGE:-EDGE]
        error = float((x - values[levels]).square().mean() / x.square().mean())
        table["distortion"].append(round(error, 5))
        table["rate"].append(round(float(bits[levels].mean()), 5))
        table["values"].append([round(float(v), 5) for v in values[REACH:]])
        table["bits"].append([round(float(b), 5) for b in bits[REACH:]])
    return table


def _samples(seed: int) -> Float[Tensor, "T B"]:
    """The quantiles of N(0, 1) in random order, so that chance is in the order alone."""
    count = STEPS * LANES
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return torch.special.ndtri((order.double() + 0.5) / count).float().view(STEPS, LANES)


def _numbers() -> Int64[Tensor, " n"]:
    return torch.arange(-REACH, REACH + 1)


def _closed_form(states: int, ratio: float) -> tuple[Tensor, Tensor]:
    """Levels and bits of the closed form where D/σ² is the ratio."""
    noise = ratio / (1 - ratio)
    points = _numbers() * 0.5 * math.sqrt(noise / granular_moment(states))
    return (1 - ratio) * points, _bits(torch.exp(-points.square() / (2 * (1 + noise))))


def _bits(weights: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """−log2 of the share of each level among those of its parity."""
    even = _numbers() % 2 == 0
    return -(weights / torch.where(even, weights[even].sum(), weights[~even].sum())).log2()


def _paths(x: Tensor, values: Tensor, bits: Tensor, slope: float, states: int) -> Int64[Tensor, "T B"]:
    """The levels of the cheapest paths from state 0."""
    costs = (x.unsqueeze(-1) - values).square() + slope * bits
    metrics, levels = [], []
    for subset in range(4):
        own = _numbers()[_numbers() % 4 == subset]
        cost, best = costs[..., own + REACH].min(-1)
        metrics.append(cost)
        levels.append(own[best])
    subsets, _ = cheapest_paths(torch.stack(metrics, 1), states, torch.zeros(x.shape[1], dtype=torch.int64))
    return torch.stack(levels, 1).gather(1, subsets.unsqueeze(1)).squeeze(1)


def _refitted(x: Tensor, levels: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Values and bits from one round's paths; n and −n alike, as the source is."""
    sample, taken = x[EDGE:-EDGE].reshape(-1, 1), levels[EDGE:-EDGE].reshape(-1, 1)
    own, bits = (table.squeeze(0) for table in counted(sample, taken, values[REACH:].unsqueeze(0)))
    return torch.cat([-own[1:].flip(0), own]), torch.cat([bits[1:].flip(0), bits])


def _continued(values: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
    """Levels too rare to be measured go on as those before them: evenly spaced, with bits as a Gaussian's tail has."""
    values, bits = values[REACH:].clone(), bits[REACH:].clone()
    for n in range(3, REACH + 1):
        if bits[n] > 11:  # seen less than fifty times or so
            values[n] = values[n - 2] + (values[3] - values[1] if n > 3 else values[2] - values[0])
            bits[n] = bits[n - 2] + (values[n] ** 2 - values[n - 2] ** 2) / (2 * math.log(2))
    return torch.cat([-values[1:].flip(0), values]), torch.cat([bits[1:].flip(0), bits])


if __name__ == "__main__":
    tables = {str(states): fit(states) for states in POLYNOMIALS}
    Path(sys.argv[1]).write_text(json.dumps({"ratios": RATIOS, "states": tables}) + "\n", encoding="utf-8")
