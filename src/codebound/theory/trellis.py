"""Entropy-coded quantization of a Gaussian value: trellis codes in closed form, and the best scalar quantizer.

Rates are in bits per value, distortions squared errors of one value. The gap of a code is 10·log10(D / D(R)).
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from codebound.arguments import number, one_of
from codebound.errors import InputError
from codebound.theory.lloyd import ScalarQuantizer, normal_cells

# Mean squared error of each trellis (`quantize.viterbi`) on the infinite uniform source, where every level stands for
# as much of the line as a unit interval. Ungerboeck's codes to 256 states; simulated for this project, ±0.00002.
GRANULAR = {
    4: 0.066254,
    8: 0.064897,
    16: 0.063999,
    32: 0.063045,
    64: 0.062401,
    128: 0.061742,
    256: 0.061278,
    512: 0.060897,
    1024: 0.06058,
}
LEAST_RATE = 0.85  # bits: below it the closed form is worse than it says


@dataclass(frozen=True)
class TrellisCode:
    """A trellis code for N(0, σ²), designed for one distortion.

    A level n of the path stands for n·`step`, and is reproduced as `gain`·n·`step`; n·step is the value and noise of
    variance `noise`, the backward channel's.
    """

    step: float
    gain: float
    noise: float
    distortion: float
    rate_bits: float


def granular_moment(states: int) -> float:
    """G, the mean squared error on a uniform source: 1/12 for single values, 1/(2πe) for the best code there can be.

    Raises InputError unless states is a power of two from 4 to 1024.
    """
    one_of("states", states, tuple(GRANULAR))
    return GRANULAR[states]


def granular_gap_db(moment: float | int) -> float:
    """What a code of normalised second moment G loses to the rate-distortion function: 10·log10(2πe·G) dB.

    At every rate for a trellis with its reproductions scaled (`trellis_code`), at high rates for a lattice
    (`bounds.second_moment`). Zamir, Lattice Coding for Signals and Networks, 2014, section 5.5.
    Raises InputError for a moment that is not positive.
    """
    return 10 * math.log10(2 * math.pi * math.e * number("moment", moment, above=0))


def trellis_code(distortion: float | int, states: int, variance: float | int = 1.0) -> TrellisCode:
    """The entropy-coded trellis of a number of states that reaches a distortion on N(0, σ²).

        s = D/(1 − D/σ²),   step = ½·√(s/G),   gain = 1 − D/σ²,   R = ½·log2(σ²/D) + ½·log2(2πe·G)

    The code makes an error of variance s, and a level costs what it does under N(0, σ² + s) given its parity. The gain
    is Wiener's; together they are the forward test channel (Zamir 2014, section 4.5). Within 0.5 % in D and 0.003 bit
    in R from `LEAST_RATE` on. Raises InputError unless 0 < D < σ², and as `granular_moment` does.
    """
    variance = number("variance", variance, above=0)
    distortion = number("distortion", distortion, above=0, below=variance)
    moment = granular_moment(states)
    gain = 1 - distortion / variance
    noise = distortion / gain
    rate = 0.5 * math.log2(variance / distortion) + 0.5 * math.log2(2 * math.pi * math.e * moment)
    return TrellisCode(0.5 * math.sqrt(noise / moment), gain, noise, distortion, rate)


def trellis_distortion(rate_bits: float | int, states: int, variance: float | int = 1.0) -> float:
    """What `trellis_code` reaches at a rate: D = 2πe·G·σ²·2^(−2R).

    Raises InputError for a rate so low that this is σ² or more, and as `granular_moment` does.
    """
    rate_bits, variance = number("rate_bits", rate_bits, least=0), number("variance", variance, above=0)
    ratio = 2 * math.pi * math.e * granular_moment(states) * 2.0 ** (-2 * rate_bits)
    if not 0 < ratio < 1:
        raise InputError(f"rate_bits is {rate_bits:g}; rates with 0 < D/σ² < 1 are accepted (here {ratio:g})")
    return ratio * variance


def entropy_constrained_scalar(rate_bits: float | int, variance: float | int = 1.0) -> ScalarQuantizer:
    """Scalar quantizer of least distortion for N(0, σ²) among those whose indices have at most this entropy.

    Chou, Lookabaugh and Gray 1989, with integrals in closed form in place of samples: a value x goes to the level c of
    least (x − c)² − λ·log2 p, each level is the centroid of its cell, p the probability. From uniform levels with and
    without one at 0, whichever ends better; λ is found by bisection. Rates to 1e-6 bit.
    Raises InputError unless 0.01 <= rate_bits <= 5 and the variance is positive.
    """
    rate_bits = number("rate_bits", rate_bits, least=0.01, most=5)
    variance = number("variance", variance, above=0)
    found = [code for offset in (0.0, 0.5) if (code := _at_rate(rate_bits, offset)) is not None]
    if not found:
        raise InputError(
            f"rate_bits is {rate_bits:g}; no quantizer was found there: another rate is accepted"
        )
    best, scale = min(found, key=lambda code: code.distortion), math.sqrt(variance)
    return ScalarQuantizer(
        scale * best.levels, scale * best.thresholds, variance * best.distortion, best.entropy_bits
    )


def _at_rate(rate_bits: float, offset: float) -> ScalarQuantizer | None:
    """The quantizer of that entropy which begins with uniform levels k + `offset`; None if they come to none."""

    # The slope of D(R) is −2 ln2·D, and D within 2 dB of Shannon's: so λ is in a short bracket.
    def excess(log_slope: float) -> float:
        return _at_slope(math.exp(log_slope), offset).entropy_bits - rate_bits

    centre = math.log(2 * math.log(2)) - 2 * math.log(2) * rate_bits
    low, high = centre - 1.0, centre + 1.5
    if excess(low) < 0 or excess(high) > 0:
        return None
    found = _at_slope(math.exp(float(scipy.optimize.brentq(excess, low, high, xtol=1e-8))), offset)
    # Where a level dies the rate jumps, and there is no quantizer between.
    return found if abs(found.entropy_bits - rate_bits) < 1e-4 else None


def _at_slope(slope: float, offset: float) -> ScalarQuantizer:
    """The least D + λR that the iteration of cells, probabilities and centroids comes to, λ the slope."""
    # Uniform levels over nine standard deviations, of the step that has this slope at high rates.
    step = math.sqrt(6 * slope / math.log(2))
    reach = int(9 / step) + 2
    levels = step * (np.arange(-reach, reach + 1) + offset)
    thresholds = (levels[:-1] + levels[1:]) / 2

    # Levels move to their centroids, thresholds to where two levels cost the same.
    for _ in range(10_000):
        mass, levels, _ = normal_cells(thresholds)
        kept = mass > 1e-12
        moved = _even_thresholds(levels[kept], mass[kept], slope)
        settled = len(moved) == len(thresholds) and bool((np.abs(moved - thresholds) < 1e-9).all())
        thresholds = moved
        if settled:
            break

    # What the cells that it ended with come to.
    mass, levels, _ = normal_cells(thresholds)
    entropy = float(scipy.special.entr(mass).sum() / math.log(2))
    return ScalarQuantizer(levels, thresholds, 1 - float((mass * levels**2).sum()), entropy)


def _even_thresholds(
    levels: Float[np.ndarray, " n"], mass: Float[np.ndarray, " n"], slope: float
) -> Float[np.ndarray, " m"]:
    """Where neighbours cost the same; levels that are nowhere the cheapest are left out."""
    bits = -np.log2(mass)
    while True:
        midway = (levels[:-1] + levels[1:]) / 2
        thresholds = midway + slope * np.diff(bits) / (2 * np.diff(levels))
        crossed = np.flatnonzero(np.diff(thresholds) <= 0)
        if not len(crossed):
            return thresholds
        levels, bits = np.delete(levels, crossed[0] + 1), np.delete(bits, crossed[0] + 1)
