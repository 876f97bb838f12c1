"""How a trellis code spends its bits over components of given variances: which are coded, with which levels.

Reverse water-filling with what the code reaches in place of Shannon's curve. A component of variance σ² at water level
θ has the ratio θ/σ²: below 0.3 (about 0.9 bit) the closed form (`theory.trellis`) serves it, beyond that the levels
that `trellis_fit` fitted, until these come to no bits: then its mean stands for it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from codebound.errors import InputError
from codebound.theory.trellis import granular_moment

TABLES = Path(__file__).with_name("trellis_tables.json")
REACH = 8  # levels n in −REACH … REACH have values of their own; beyond they are evenly spaced
MOST_BITS = 16.0  # of a component
NOTHING = 0.004  # bits: a component that would get fewer is dropped
NEGLIGIBLE = 1e-12  # variances below this part of the largest one are rounding


@dataclass(frozen=True, eq=False)
class Design:
    """A code for D components. Level n ≥ 0 stands for `values[n]`, further ones are `pitch` apart; −n is opposite n."""

    theta: float
    step: Float[np.ndarray, " D"]  # of the values fed to the trellis; 0 where a component is dropped
    values: Float[np.ndarray, "D 9"]
    pitch: Float[np.ndarray, " D"]
    bits: Float[np.ndarray, "D 9"]  # what levels cost in a branch; 0 where the closed form leaves them out
    slope: Float[
        np.ndarray, " D"
    ]  # squared error that a bit is worth there; 0 where the closed form leaves it out
    noise: Float[np.ndarray, " D"]  # s, variance of the error before the gain
    rates: Float[np.ndarray, " D"]  # bits
    distortions: Float[np.ndarray, " D"]


@dataclass(frozen=True, eq=False)
class _Tables:
    """What was fitted for one number of states, by ratio."""

    ratios: Float[np.ndarray, " r"]
    distortion: Float[np.ndarray, " r"]
    rate: Float[np.ndarray, " r"]
    values: Float[np.ndarray, "r 9"]
    bits: Float[np.ndarray, "r 9"]


@cache
def _tables(states: int) -> _Tables:
    stored = json.loads(TABLES.read_text(encoding="utf-8"))
    fitted = stored["states"][str(states)]
    names = ("distortion", "rate", "values", "bits")
    return _Tables(np.array(stored["ratios"]), *(np.array(fitted[name]) for name in names))


def reached(ratios: Float[np.ndarray, " D"], states: int) -> tuple[np.ndarray, np.ndarray]:
    """D/σ² and the rate in bits where θ/σ² is the ratio."""
    tables, gap = _tables(states), 0.5 * math.log2(2 * math.pi * math.e * granular_moment(states))
    least, most = tables.ratios[0], tables.ratios[-1]
    closed = np.minimum(ratios, least)
    distortions = np.where(ratios < least, closed, np.interp(ratios, tables.ratios, tables.distortion))
    rates = np.where(
        ratios < least, gap - 0.5 * np.log2(closed), np.interp(ratios, tables.ratios, tables.rate)
    )
    dropped = (ratios > most) | (rates < NOTHING)
    return np.where(dropped, 1.0, distortions), np.where(dropped, 0.0, rates)


def design(variances: Float[np.ndarray, " D"], states: int, theta: float) -> Design:
    """The code at water level θ.

    Raises:
        InputError: a component would need more than 16 bits.
    """
    coded = _coded(variances)
    ratios = np.where(coded, theta / np.where(coded, variances, 1.0), np.inf)
    portions, rates = reached(ratios, states)
    if rates.max(initial=0.0) > MOST_BITS:
        raise InputError(
            f"a component would be coded in {rates.max():.1f} bits; at most {MOST_BITS:g} are accepted: ask for a "
            "lower rate, or a greater distortion"
        )

    # The closed form: levels of a step, scaled by Wiener's gain.
    tables, sigma = _tables(states), np.sqrt(variances)
    kept, closed = rates > 0, ratios < tables.ratios[0]
    gain = np.where(kept, 1 - np.where(kept, ratios, 0.0), 0.0)
    noise = np.where(kept, theta / np.where(kept, gain, 1.0), variances)
    step = np.where(kept, 0.5 * np.sqrt(noise / granular_moment(states)), 0.0)
    values = (gain * step)[:, None] * np.arange(REACH + 1)

    # Below a bit the fitted levels, between those of the two ratios beside this one.
    fitted = (kept & ~closed)[:, None]
    at = np.clip(ratios, tables.ratios[0], tables.ratios[-1])
    values = np.where(fitted, sigma[:, None] * _between(at, tables.ratios, tables.values), values)
    bits = np.where(fitted, _between(at, tables.ratios, tables.bits), 0.0)
    return Design(
        theta=theta,
        step=step,
        values=values,
        pitch=(values[:, -1] - values[:, -3]) / 2,
        bits=bits,
        slope=np.where(fitted[:, 0], 2 * math.log(2) * theta, 0.0),
        noise=noise,
        rates=rates,
        distortions=portions * variances,
    )


def water_level(
    variances: Float[np.ndarray, " D"],
    states: int,
    *,
    rate: float | None = None,
    distortion: float | None = None,
) -> float:
    """θ at which the code's rate, or its distortion, is the one asked for (bits or squared error per vector).

    Where every component is dropped at any level (no variance), it is 1.
    """
    coded = variances[_coded(variances)]
    if not len(coded):
        return 1.0

    def too_coarse(theta: float) -> bool:
        portions, rates = reached(theta / coded, states)
        if rate is not None:
            return float(rates.sum()) < rate
        return float((portions * coded).sum()) > (distortion or 0.0)

    # By bisection in log θ, from far below the least variance to above the largest.
    high = math.log(float(coded.max()))
    low = math.log(float(coded.min())) - 2 * math.log(2) * (MOST_BITS + 4)
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if too_coarse(math.exp(middle)) else (middle, high)
    return math.exp(low)


def _coded(variances: Float[np.ndarray, " D"]) -> Bool[np.ndarray, " D"]:
    """Components that vary by more than rounding."""
    return variances > NEGLIGIBLE * variances.max(initial=0.0)


def _between(
    at: Float[np.ndarray, " D"], ratios: Float[np.ndarray, " r"], rows: Float[np.ndarray, "r 9"]
) -> Float[np.ndarray, "D 9"]:
    """Rows of a table at ratios between its own."""
    return np.stack([np.interp(at, ratios, column) for column in rows.T], axis=-1)
