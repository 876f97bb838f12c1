"""Reference values that stand beside a measured distortion: bounds, asymptotics, best codes found."""

import math
from typing import NamedTuple

from codebound.arguments import count, number
from codebound.errors import InputError
from codebound.theory.lloyd import lloyd_max


def shannon_lower_bound(entropy_bits: float | int, dim: int, rate_bits: float | int) -> float:
    """Least distortion that any code of `rate_bits` per vector can reach on a source of known entropy.

    D >= k / (2 pi e) * 2^(2 (h - R) / k)

    Shannon 1959; Berger 1971, chapter 4. h = `entropy_bits` is the differential entropy of the
    whole vector and R the rate, both in bits per vector; D is squared error summed over the vector. Equality
    for the isotropic Gaussian. Raises `InputError` unless h is finite, dim >= 1 and R >= 0.
    """
    dim = count("dim", dim)
    entropy_bits = number("entropy_bits", entropy_bits)
    rate_bits = number("rate_bits", rate_bits, least=0.0)
    return dim / (2 * math.pi * math.e) * 2.0 ** (2 * (entropy_bits - rate_bits) / dim)


# Dimension and normalised second moment per dimension: Conway and Sloane, SPLAG (3rd ed.), table 2.3.
LATTICES: dict[str, tuple[int, float]] = {
    "Z": (1, 1 / 12),
    "A2": (2, 5 / (36 * math.sqrt(3))),
    "D4": (4, 0.076603),
    "E8": (8, 929 / 12960),
    "BW16": (16, 0.068299),
    "Leech": (24, 0.065771),
}


def second_moment(packing: str, dim: int) -> float:
    """Normalised second moment G of a cell, per dimension: mean squared error / (k * volume^(2/k)).

    "sphere" is the least possible in `dim` dimensions, Gamma(k/2 + 1)^(2/k) / ((k + 2) pi) (Zador 1982); the
    others are the lattices of `LATTICES`, of which `dim` must be a multiple (a product of cells keeps G).
    Raises `InputError` for another name or dimension.
    """
    dim = count("dim", dim)
    if packing == "sphere":
        return math.exp(2 / dim * math.lgamma(dim / 2 + 1)) / ((dim + 2) * math.pi)
    if packing not in LATTICES:
        raise InputError(f"packing is {packing!r}; accepted are 'sphere', {', '.join(map(repr, LATTICES))}")
    base, moment = LATTICES[packing]
    if dim % base:
        raise InputError(f"dim is {dim}; packing {packing!r} accepts multiples of {base}")
    return moment


def zador_high_rate(
    dim: int, codebook_size: int, variance: float | int = 1.0, packing: str = "sphere"
) -> float:
    """High-rate asymptote of the best n-word code for N(0, variance I_k). It is NOT a bound.

    D ~ k G n^(-2/k) * 2 pi ((k + 2) / k)^((k + 2) / 2) * variance

    Zador 1982; Gersho 1979, with the Gaussian's norm ||p||_(k/(k+2)) in closed form. True as n
    grows at fixed k; at a few bits per dimension real codes go below it (k = 8, n = 256: 2.70 with
    spherical cells, where a code reaches 2.53), so never show it as a limit. For k = 1 it is Panter and
    Dite's sqrt(3) pi / (2 n^2) (1951). D is squared error summed over the vector; `packing` as in
    `second_moment`. Raises `InputError` as that does, and unless dim >= 1, codebook_size >= 1, variance >
    0.
    """
    dim, size = count("dim", dim), count("codebook_size", codebook_size)
    variance = number("variance", variance, above=0.0)
    log_norm = math.log(2 * math.pi) + (dim + 2) / 2 * math.log1p(2 / dim)
    return dim * second_moment(packing, dim) * math.exp(log_norm - 2 / dim * math.log(size)) * variance


class BestKnown(NamedTuple):
    """Distortion of the best code known for a source, summed over the vector, and what that code is."""

    distortion: float
    code: str


# N(0, I), one bit per dimension. Measured for this project; an upper bound on the optimum, like any code's.
_FOUND: dict[tuple[int, int], BestKnown] = {
    (3, 8): BestKnown(1.068, "best found for this project"),
    (4, 16): BestKnown(1.3647, "best found for this project"),
    (6, 64): BestKnown(1.977, "best found for this project"),
    (8, 256): BestKnown(2.5275, "E8: its 240 roots (norm sqrt 2) scaled by 1.72, with +-1.2 e_i"),
    (10, 1024): BestKnown(3.162, "best found for this project"),
    (12, 4096): BestKnown(3.744, "best found for this project"),
}


def best_known(dim: int, codebook_size: int, variance: float | int = 1.0) -> BestKnown | None:
    """Distortion of the best code known here for N(0, variance I_dim), or None where none is on record.

    Exact for one dimension up to 4096 words (Lloyd-Max), one codeword (the mean) and two codewords (a pair
    on a line); otherwise a short table at one bit per dimension. Squared error summed over the vector.
    Raises `InputError` unless dim >= 1, codebook_size >= 1 and variance > 0.
    """
    dim, size = count("dim", dim), count("codebook_size", codebook_size)
    variance = number("variance", variance, above=0.0)
    best: BestKnown | None
    if size == 1:
        best = BestKnown(float(dim), "the mean (exact)")
    elif dim == 1:
        if size > 4096:  # as far as lloyd_max goes
            return None
        best = BestKnown(lloyd_max(size).distortion, "Lloyd-Max (exact)")
    elif size == 2:
        best = BestKnown(dim - 2 / math.pi, "+-sqrt(2/pi) e_1 (exact: Flury 1990)")
    elif (dim, size) == (2, 4):
        best = BestKnown(2 * (1 - 2 / math.pi), "(+-sqrt(2/pi), +-sqrt(2/pi)), a product code")
    else:
        best = _FOUND.get((dim, size))
    return best and BestKnown(best.distortion * variance, best.code)
