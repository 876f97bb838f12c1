"""The modified discrete cosine transform in whole numbers (Princen, Johnson & Bradley 1987), with a sine window.

    X[k] = Σ_n w[n] x[n] cos(π/N · (n + 1/2 + N/2)(k + 1/2)),   n = 0 … 2N − 1,   w[n] = sin(π/2N · (n + 1/2))

Window and cosines are whole multiples of 2^−14, so that every sum is one of whole numbers below 2^53: float64 holds it
exactly, in any order of additions. The inverse is of floating point, as all that decodes to samples.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float64, Num

from codebound import arguments

UNIT = 1 << 14  # of window and cosines
SCALE = 1 << 24  # coefficients are sums over UNIT² divided by this
LONGEST = (
    4096  # hop: 2 · LONGEST · 2^15 · UNIT² is about 2^56, but a sine window folds to less; see `forward`
)


def frames_of(samples: int, hop: int) -> int:
    """How many frames cover so many samples: each sample lies in two."""
    return -(-samples // hop) + 1


@cache
def window(hop: int) -> Float64[np.ndarray, " w"]:
    """The sine window, in units of 2^−14."""
    arguments.whole("hop", hop, least=2, most=LONGEST)
    return np.rint(np.sin(np.pi / (2 * hop) * (np.arange(2 * hop) + 0.5)) * UNIT)


@cache
def cosines(hop: int) -> Float64[np.ndarray, "h h"]:
    """cos(π/N · (n + 1/2)(k + 1/2)) in units of 2^−14: the transform of a folded frame (DCT-IV)."""
    odd = 2 * np.arange(hop) + 1
    return np.rint(np.cos(np.pi / (4 * hop) * (odd[:, None] * odd % (8 * hop))) * UNIT)


def forward(frames: Num[np.ndarray, "n w"], hop: int) -> Float64[np.ndarray, "n h"]:
    """Coefficients of overlapping frames of 2N whole samples of at most 2^15 each, as whole numbers.

    An orthonormal transform's coefficients are these times 2^−4 · √(2/N).
    """
    # Aliasing in time folds a windowed frame of 2N into N: (a, b, c, d) → (−c_r − d, a − b_r).
    x = frames * window(hop)
    half = hop // 2
    a, b, c, d = x[:, :half], x[:, half:hop], x[:, hop : hop + half], x[:, hop + half :]
    folded = np.concatenate([-c[:, ::-1] - d, a - b[:, ::-1]], axis=1)

    # |folded| ≤ 2^30 and |cosine| ≤ 2^14: of up to 512 products the sum is below 2^53; longer ones go in parts.
    parts = [folded[:, at : at + 512] @ cosines(hop)[at : at + 512] for at in range(0, hop, 512)]
    return np.rint(sum(part / SCALE for part in parts) if len(parts) > 1 else parts[0] / SCALE)


@cache
def inverse_matrix(hop: int) -> Float64[np.ndarray, "h w"]:
    """What takes coefficients as `forward` gives them to windowed frames of 2N samples in [−1, 1], to be added up."""
    n, k = np.arange(2 * hop) + 0.5 + hop / 2, np.arange(hop) + 0.5
    basis = np.cos(np.pi / hop * k[:, None] * n) * np.sin(np.pi / (2 * hop) * (np.arange(2 * hop) + 0.5))
    return basis * (2 / hop) * (SCALE / UNIT**2) / (1 << 15)
