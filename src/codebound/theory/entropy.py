"""Differential entropy of samples, with an interval: what Shannon's lower bound needs for real data."""

import functools
import math
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float

from codebound.arguments import count
from codebound.errors import InputError

_REPEATS_ACCEPTED = 0.01
_LARGEST = 1e145  # squares of larger values, and of spreads under its inverse, leave float64
# The drift is extrapolated by its leading power of n alone; a cube in 16 dimensions needs 1.6 times that.
_MORE_TERMS = 2.0
# Neighbouring rows share distances, so the terms are dependent. Measured: up to 1.15 in 8 dimensions.
_DEPENDENCE = 1.2


class EntropyEstimate(NamedTuple):
    """Differential entropy of a vector, in bits, and how far to trust it.

    [`low`, `high`] is two standard errors around `bits`, widened on one side by twice `trend_bits`. Use `low`
    for a lower bound on distortion that should be trusted.
    """

    bits: float  # corrected estimate
    low: float
    high: float
    standard_error: float  # sampling noise only
    trend_bits: float  # bias that the change from n/4 to n samples hints at; positive: `bits` is too high
    uncorrected_bits: float  # Kozachenko-Leonenko's, without the Gaussian correction
    samples: int  # rows used
    dropped_duplicates: int


def differential_entropy(
    z: Float[np.ndarray, "n k"], *, neighbours: int = 4, max_samples: int = 10_000, seed: int = 0
) -> EntropyEstimate:
    """Nearest-neighbour estimate of the differential entropy of the rows of `z`, in bits per vector.

    h = psi(n) - psi(m) + log V_k + (k / n) sum_i log eps_i, eps_i the distance to the m-th neighbour

    (Kozachenko and Leonenko 1987; Kraskov et al. 2004, eq. 20), after whitening, whose log-determinant is
    added back. At k >= 8 the estimator is biased, by bits at k = 32. Two heuristics deal with it, neither a
    theorem: the estimator's error on a Gaussian sample of the same n and k is subtracted (right for
    Gaussian data, close for unimodal data with light to moderate tails), and the drift of what is left
    between n/4 and n samples, if the bias falls like n^(-1/k) (the rate at a density's jump, the slowest
    common case), gives `trend_bits`.

    At most `max_samples` rows, drawn by `seed`, are used: a second or two for 10,000 x 8, some ten times
    more in 32 dimensions. Raises `InputError` for values that are not finite or whose squares leave float64,
    fewer rows than `least_rows`, a negative seed, a singular covariance (naming its rank), and discrete data,
    whose differential entropy is minus infinity: more than 1 % repeated rows, or a column in which fewer than
    half of the values are distinct. Fewer repeated rows are dropped and counted in the result.
    """
    neighbours = count("neighbours", neighbours)
    max_samples = count("max_samples", max_samples, least=least_rows(1, neighbours))
    seed = count("seed", seed, least=0)
    rows, dropped = _distinct_rows(np.asarray(z, dtype=np.float64), neighbours)
    rng = np.random.default_rng(seed)
    # Shuffled in any case: the blocks below must be alike when rows come ordered by class or time.
    rows = rows[rng.permutation(len(rows))[:max_samples]]
    n, k = rows.shape
    white, log_det = _whiten(rows)
    terms = [_local_entropies(white, neighbours, parts) for parts in (1, 4)]
    error_full, error_quarter, error_spread = _gaussian_error(n, k, neighbours)
    full = float(terms[0].mean()) - error_full
    quarter = float(terms[1].mean()) - error_quarter
    bits = full + log_det
    standard_error = math.hypot(_DEPENDENCE * float(terms[0].std()) / math.sqrt(n), error_spread)
    trend = (quarter - full) / (4.0 ** (1.0 / k) - 1.0)
    return EntropyEstimate(
        bits=bits,
        low=bits - _MORE_TERMS * max(trend, 0.0) - 2 * standard_error,
        high=bits + _MORE_TERMS * max(-trend, 0.0) + 2 * standard_error,
        standard_error=standard_error,
        trend_bits=trend,
        uncorrected_bits=float(terms[0].mean()) + log_det,
        samples=n,
        dropped_duplicates=dropped,
    )


def least_rows(dim: int, neighbours: int = 4) -> int:
    """The fewest rows that `differential_entropy` accepts: 8 (m + 1), and 2 k for the covariance."""
    return max(8 * (neighbours + 1), 2 * dim)


@functools.lru_cache(maxsize=64)
def _gaussian_error(n: int, k: int, neighbours: int) -> tuple[float, float, float]:
    """The estimator's mean error on n Gaussian rows, whole and in quarters, and the first's noise.

    Measured against each sample's own mean surprisal, which is far less noisy than against the entropy.
    """
    rng = np.random.default_rng([n, k, neighbours])
    runs = []
    for _ in range(4):
        normal = rng.standard_normal((n, k))
        surprisal = k / 2 * math.log2(2 * math.pi) + (normal**2).sum(1).mean() / (2 * math.log(2))
        white, log_det = _whiten(normal)
        runs.append(
            [_local_entropies(white, neighbours, parts).mean() + log_det - surprisal for parts in (1, 4)]
        )
    full, quarter = np.mean(runs, axis=0)
    return float(full), float(quarter), float(np.std(runs, axis=0, ddof=1)[0] / 2)


def _distinct_rows(z: np.ndarray, neighbours: int) -> tuple[np.ndarray, int]:
    """The rows of `z` without repeats, and how many were dropped; InputError where there is no density."""
    if z.ndim != 2:
        raise InputError(f"z has shape {z.shape}; [n, k] is accepted")
    n, k = z.shape
    least = least_rows(k, neighbours)
    if k < 1 or n < least:
        raise InputError(f"z has shape {z.shape}; {least} rows and 1 column are the least accepted")
    if not np.isfinite(z).all():
        raise InputError(f"z has {(~np.isfinite(z)).sum()} values that are not finite; none is accepted")
    largest, spread = np.abs(z).max(), z.max(0) / 2 - z.min(0) / 2  # halved: the difference may overflow
    if largest > _LARGEST or ((spread > 0) & (spread < 1 / _LARGEST)).any():
        raise InputError(
            f"the scale of z is out of range: up to {largest:.3g}, one column within {spread.min():.3g} of its "
            f"middle; at most {_LARGEST:g} and at least {1 / _LARGEST:g} are accepted: multiply by a constant"
        )
    hint = "the data look discrete or quantized, and their differential entropy is minus infinity"
    rows = np.unique(z, axis=0)
    repeats = n - len(rows)
    if repeats > _REPEATS_ACCEPTED * n:
        raise InputError(f"z repeats {repeats} of its {n} rows; at most 1 % is accepted: {hint}")
    for column in range(k):
        distinct = len(np.unique(rows[:, column]))
        if 1 < distinct < len(rows) / 2:
            raise InputError(
                f"z has {distinct} distinct values in the {len(rows)} rows of column {column}; "
                f"at least half are accepted: {hint}"
            )
    return rows, repeats


def _whiten(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Rows with unit sample covariance, and log2 of the determinant of the map back."""
    n, k = rows.shape
    centred = rows - rows.mean(0)
    scale = centred.std(0)
    # Rank is judged on correlations: columns may differ in unit by many orders of magnitude.
    unit = centred / np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(unit.T @ unit / n)
    rank = int((values > 1e-11).sum())
    if rank < k:
        raise InputError(
            f"the covariance of z is singular (rank {rank} of {k}): drop or project out what is constant or repeated"
        )
    white = unit @ (vectors / np.sqrt(values))
    return white, float(np.log2(scale).sum() + np.log2(values).sum() / 2)


def _local_entropies(white: np.ndarray, neighbours: int, parts: int) -> np.ndarray:
    """Each row's term of the estimator, in bits, its neighbours sought within one of `parts` equal blocks."""
    k = white.shape[1]
    size = len(white) // parts
    log_ball = k / 2 * math.log(math.pi) - scipy.special.gammaln(k / 2 + 1)
    offset = scipy.special.digamma(size) - scipy.special.digamma(neighbours) + log_ball
    terms = []
    for block in white[: parts * size].reshape(parts, size, k):
        distance = scipy.spatial.KDTree(block).query(block, k=neighbours + 1, workers=1)[0][:, -1]
        terms.append(offset + k * np.log(distance))
    return np.concatenate(terms) / math.log(2)
