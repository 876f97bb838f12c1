"""Probabilities as integers: frequencies that sum to 2^16, powers of two and costs, the same on every machine.

Nothing here rounds: additions, products and floor divisions of whole numbers only (docs/format.md). They are held in
64-bit integers, or, where many are divided, in float64, which is several times faster: of whole numbers below 2^52 the
rounded quotient never reaches the next whole number, so its floor is that of the true one.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int64, Num

TOTAL = 1 << 16  # frequencies of one distribution sum to this
ALPHABET = 512  # symbols of one distribution, at most: more would leave little beyond the 1 that each one has
UNIT = 256  # of logarithms: 1/256 bit
FAR = 24 * UNIT  # 2^(−FAR / UNIT) is the last power that isn't 0
Rows = Num[np.ndarray, "n a"]  # whole numbers, of int64 or float64


def _powers() -> Int64[np.ndarray, " unit"]:
    """⌊2^(24 − r/256)⌋ for r in 0 … 255: eight integer square roots of 2^(24·256 − r) take its 256th root."""
    roots = [1 << (24 * UNIT - r) for r in range(UNIT)]
    for _ in range(8):
        roots = [math.isqrt(root) for root in roots]
    return np.array(roots, dtype=np.int64)


_X = np.arange(FAR + UNIT)
_POWERS = _powers()[_X & (UNIT - 1)] >> (_X >> 8)  # for every x before all powers are 0
_BITS = np.array([max(n.bit_length() - 1, 0) for n in range(TOTAL + 1)], dtype=np.int64)  # ⌊log2 n⌋


def exp2(x: Int64[np.ndarray, "*b"]) -> Int64[np.ndarray, "*b"]:
    """2^24 · 2^(−x/256) for x ≥ 0, rounded down at two places: ⌊⌊2^(24 − (x mod 256)/256)⌋ / 2^⌊x/256⌋⌋."""
    return _POWERS[np.minimum(x, FAR + UNIT - 1)]


def cost(frequency: Int64[np.ndarray, "*b"]) -> Int64[np.ndarray, "*b"]:
    """About −log2(f / 2^16), in 1/256 bit, for f in 1 … 2^16: the logarithm is straight between powers of two.

    With e = ⌊log2 f⌋:  256·(17 − e) − ⌊256·f / 2^e⌋.  It overstates by at most 0.087 bit.
    """
    e = _BITS[frequency]
    return UNIT * (17 - e) - ((frequency * UNIT) >> e)


def _lengths() -> Int64[np.ndarray, " total"]:
    """`length` of each f; 0 is as long as 1."""
    # f = 2^e · n / 2^24 with n in 2^24 … 2^25 − 1, and the first r in 0 … 256 with 2^(25 − r/256) ≤ n.
    f = np.maximum(np.arange(TOTAL + 1), 1)
    e = _BITS[f]
    return UNIT * (15 - e) + np.searchsorted(-2 * _POWERS[: UNIT + 1], -(f << (24 - e)))


_LENGTHS = _lengths()


def length(frequency: Num[np.ndarray, "*b"]) -> Int64[np.ndarray, "*b"]:
    """−log2(f / 2^16) in 1/256 bit, less than one of them too much, for f in 1 … 2^16."""
    return _LENGTHS[frequency.astype(np.int64)]


def frequencies(weights: Rows) -> Rows:
    """Frequencies that sum to 2^16 in each row, none below 1, in proportion to `weights`, and of their type.

    f = 1 + ⌊w · (2^16 − a) / Σw⌋; what is left over goes to the first of the largest.

    Weights are ≥ 0, of positive sum, and below 2^40 each, in float64 below 2^36; a ≤ 512.
    """
    rows, alphabet = weights.shape
    shares = weights * (TOTAL - alphabet)
    floored_quotient(shares, weights.sum(-1, keepdims=True))
    shares += 1
    shares[np.arange(rows), weights.argmax(-1)] += TOTAL - shares.sum(-1)
    return shares


def floored_quotient(x: Rows, divisor: Num[np.ndarray, "n 1"]) -> None:
    """⌊x / divisor⌋ in the place of x; in float64 both are below 2^52."""
    if x.dtype.kind == "f":
        np.floor(np.divide(x, divisor, out=x), out=x)
    else:
        np.floor_divide(x, divisor, out=x)
