"""Random Gaussian codebooks of finite size and dimension: distortion, best variance, dead codes.

Distortion is squared error summed over the vector.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float

from codebound import arguments
from codebound.errors import InputError
from codebound.theory.gaussian import eigensystem, reproduction_variance, water_filling

_NODES = 48  # Gauss-Legendre nodes per axis; 128 move no anchor of the tests by 1e-7
_TAIL = 40.0  # −log of the probability that quadrature ranges leave out


class BestVariance(NamedTuple):
    """Codeword variance per component with the least expected distortion, and that distortion (total)."""

    variance: float
    distortion: float


class Estimate(NamedTuple):
    """A Monte-Carlo estimate and its standard error."""

    value: float
    standard_error: float


def _gauss_legendre(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights [..., _NODES] on each interval [low, high]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    half = (high - low)[..., None] / 2
    return low[..., None] + half * (1 + nodes), half * weights


def _log_survival(y: np.ndarray, dim: int, codebook_size: int, nc: np.ndarray) -> np.ndarray:
    """n·log P(distance > y), the distance in units of s and at noncentrality nc: no codeword within y."""
    # Far outside a small cloud of codewords the series of chndtr is slow, then NaN; there the distance is
    # normal, N(ρ + (k−1)/(2ρ), 1) with ρ = √nc, to k/ρ² in its variance: below 1e-6 of the distortion.
    remote = nc > 1e4 * dim
    rho = np.sqrt(np.where(remote, nc, 1.0))
    normal = scipy.special.ndtr(y - rho - (dim - 1) / (2 * rho))
    with np.errstate(divide="ignore"):
        return codebook_size * np.log1p(
            -np.where(remote, normal, scipy.special.chndtr(y**2, dim, np.where(remote, 0, nc)))
        )


def _distance_where(log_survival: float, dim: int, codebook_size: int, nc: np.ndarray) -> np.ndarray:
    """Distance y per noncentrality at which n·log(1 − F(y²)) falls to `log_survival`, by bisection."""
    low, high = np.maximum(np.sqrt(nc) - 40.0, 0.0), np.sqrt(nc) + math.sqrt(dim) + 10.0
    for _ in range(40):
        middle = (low + high) / 2
        beyond = _log_survival(middle, dim, codebook_size, nc) > log_survival
        low, high = np.where(beyond, (middle, high), (low, middle))
    return high


def random_codebook_distortion(
    dim: int, codebook_size: int, codeword_variance: float | int, source_variance: float | int = 1.0
) -> float:
    """Expected distortion of n codewords drawn from N(0, s²I_k) on the source N(0, σ²I_k).

    D = E_{r ~ σ·χ_k} ∫₀^∞ [1 − F(t/s²; k, r²/s²)]ⁿ dt, with F the noncentral χ² distribution of a squared
    distance. Both integrals by Gauss-Legendre; the inner one in the distance y = √t, where F is smooth also
    for k = 1, over the range in which its integrand is neither 1 nor 0. Derived for this project: the mean of
    the least of n independent distances, given r. Accurate to better than 1e-5 relative.
    Raises InputError for sizes below 1 or negative variances.
    """
    dim, codebook_size = arguments.count("dim", dim), arguments.count("codebook_size", codebook_size)
    spread = math.sqrt(arguments.number("codeword_variance", codeword_variance, least=0))
    scale = math.sqrt(arguments.number("source_variance", source_variance, least=0))
    if spread == 0 or codebook_size == 1:
        return dim * (scale**2 + spread**2)
    tail = math.exp(-_TAIL)
    ends = np.sqrt([scipy.stats.chi2.ppf(tail, dim), scipy.stats.chi2.isf(tail, dim)])
    radii, weights = (axis[0] for axis in _gauss_legendre(ends[:1], ends[1:]))
    weights = weights * scipy.stats.chi.pdf(radii, dim)
    nc = (radii * scale / spread) ** 2
    near = _distance_where(-1e-12, dim, codebook_size, nc)
    far = _distance_where(-_TAIL, dim, codebook_size, nc)
    y, dy = _gauss_legendre(near, far)
    survival = np.exp(_log_survival(y, dim, codebook_size, nc[:, None]))
    inner = near**2 + (2 * y * survival * dy).sum(axis=1)
    return float(spread**2 * (weights * inner).sum())


def best_codeword_variance(dim: int, codebook_size: int, source_variance: float | int = 1.0) -> BestVariance:
    """Codeword variance that minimises `random_codebook_distortion`, by bounded scalar minimisation.

    Below σ²(1 − 2^(−2R)) at low rates; tends to σ²(1 + 2/k) at high ones, where a codebook should have the
    density f^(k/(k+2)) (Zador 1982). The search range reaches half again beyond it. Variance good to 1e-3
    relative.
    Raises InputError for sizes below 1 or a negative variance.
    """
    dim, codebook_size = arguments.count("dim", dim), arguments.count("codebook_size", codebook_size)
    source_variance = arguments.number("source_variance", source_variance, least=0)
    if codebook_size == 1 or source_variance == 0:
        return BestVariance(0.0, dim * source_variance)
    nominal = reproduction_variance(1.0, math.log2(codebook_size), dim)
    optimum = scipy.optimize.minimize_scalar(
        lambda variance: random_codebook_distortion(dim, codebook_size, variance),
        bounds=(0.0, 1.5 * (1 + 2 / dim)),
        method="bounded",
        options={"xatol": 1e-4 * nominal},
    )
    return BestVariance(float(optimum.x) * source_variance, float(optimum.fun) * source_variance)


def _subset_minimum_weights(pool: int, subset: int) -> np.ndarray:
    """P(the least of n values drawn out of M is the j-th smallest of all) = C(M−j, n−1)/C(M, n), j = 1, ...

    Cut where less than 1e-12 remains: about 28·M/n of them matter.
    """
    j = np.arange(pool - subset + 1)
    ratios = (pool - subset - j[:-1]) / (pool - 1 - j[:-1])
    weights = subset / pool * np.append(1.0, np.cumprod(ratios))
    kept = int(np.searchsorted(np.cumsum(weights), 1 - 1e-12)) + 1
    return weights[:kept] / weights[:kept].sum()


def _expected_minimum(sources: np.ndarray, pool: np.ndarray, codebook_size: int) -> float:
    """Mean over `sources` of E[least squared distance to n codewords out of `pool`]."""
    weights = _subset_minimum_weights(len(pool), codebook_size)
    half_norms = 0.5 * (pool**2).sum(axis=1)
    rows = max(1, 2**20 // len(pool))
    total = 0.0
    for start in range(0, len(sources), rows):
        block = sources[start : start + rows]
        # Half the squared distance, less the |x|²/2 that all codewords share: enough to sort by.
        scores = half_norms - block @ pool.T
        if len(weights) < len(pool):
            scores = np.partition(scores, len(weights) - 1, axis=1)[:, : len(weights)]
        scores.sort(axis=1)
        total += 2 * float((scores @ weights).sum()) + float((block**2).sum())
    return total / len(sources)


def random_codebook_distortion_qmc(
    source_covariance: Float[np.ndarray, "k k"],
    codeword_covariance: Float[np.ndarray, "k k"],
    codebook_size: int,
    *,
    seed: int = 0,
    scramblings: int = 16,
    sources: int = 512,
    pool: int | None = None,
) -> Estimate:
    """Expected distortion of n codewords drawn from N(0, S_c) on the source N(0, S_x), any covariances.

    D = E_x E[min_j ‖x − c_j‖²]. The outer mean is over `sources` scrambled Sobol points mapped to N(0,
    S_x). For the inner one M > n codewords are drawn at random (`pool`; default the larger of 2n and 4096)
    and the minimum is averaged over *all* subsets of n at once: Σ_j d_(j)·C(M−j, n−1)/C(M, n) over the
    sorted distances d_(j). That U-statistic (Hoeffding 1948) is unbiased because the pool is drawn
    independently; a Sobol pool would bias it. Value and standard error come from the mean and spread over
    `scramblings` independent repetitions. Either covariance may be singular: water-filling spends nothing
    on weak components.
    Raises InputError for covariances that `spectrum` refuses or of unequal size, or counts below 1 (pool: n).
    """
    codebook_size = arguments.count("codebook_size", codebook_size)
    scramblings = arguments.count("scramblings", scramblings, least=2)
    seed = arguments.count("seed", seed, least=0)
    chosen = max(2 * codebook_size, 4096) if pool is None else pool
    chosen = arguments.count("pool", chosen, least=codebook_size)
    lambda_x, basis_x = eigensystem(source_covariance, "source_covariance")
    lambda_c, basis_c = eigensystem(codeword_covariance, "codeword_covariance")
    if len(lambda_x) != len(lambda_c):
        raise InputError(
            f"codeword_covariance is for {len(lambda_c)} dimensions; {len(lambda_x)} are accepted"
        )
    to_x, to_c = (basis_x * np.sqrt(lambda_x)).T, (basis_c * np.sqrt(lambda_c)).T
    count = 2 ** math.ceil(
        math.log2(arguments.count("sources", sources))
    )  # Sobol is balanced at powers of two
    values = []
    for child in np.random.SeedSequence(seed).spawn(scramblings):
        rng = np.random.default_rng(child)
        sobol = scipy.stats.qmc.MultivariateNormalQMC(np.zeros(len(lambda_x)), engine=None, rng=rng)
        x = np.asarray(sobol.random(count)) @ to_x
        codewords = rng.standard_normal((chosen, len(lambda_c))) @ to_c
        values.append(_expected_minimum(x, codewords, codebook_size))
    return Estimate(float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(scramblings)))


def expected_dead_codes(
    cell_probabilities: Float[np.ndarray, " n"], samples: int, *, threshold: float | int | None = None
) -> float:
    """Expected number of codewords that N samples hit too rarely, given each cell's probability p_j.

    Σ_j (1 − p_j)^N codewords are never hit; with a `threshold` on usage (hits/N) a codeword counts as dead
    if its usage is below it: Σ_j P(Binomial(N, p_j) < threshold·N). Exact for the given probabilities; if
    these are frequencies among M other samples, M >> N is needed, for (1 − p)^N is convex in p.
    Raises InputError for probabilities outside [0, 1] or adding to more than 1, or a negative `samples`.
    """
    p = np.asarray(cell_probabilities, dtype=np.float64)
    # 1e-6: float32 probabilities of a few thousand cells add to 1 only that well.
    if p.ndim != 1 or not p.size or not np.isfinite(p).all() or p.min() < 0 or p.sum() > 1 + 1e-6:
        raise InputError(
            f"cell_probabilities is {p}; a vector of numbers >= 0 that add to at most 1 is accepted"
        )
    samples = arguments.count("samples", samples, least=0)
    if threshold is None:
        return float(((1 - p) ** samples).sum())
    # .07 * 100 is 7.000000000000001: a usage equal to the threshold must not fall below it by rounding.
    needed = math.ceil(arguments.number("threshold", threshold, least=0) * samples * (1 - 1e-12))
    return float(scipy.stats.binom.cdf(needed - 1, samples, np.minimum(p, 1.0)).sum())


def uniform_perplexity(codebook_size: int, samples: int) -> float:
    """Perplexity that N samples of n equally likely codewords are expected to show: below n, at most N.

    exp E[−Σ_j q_j ln q_j] with q_j = hits/N and hits ~ Binomial(N, 1/n). Exact: the expectation is a sum over hits.
    Raises InputError for counts below 1.
    """
    codebook_size, samples = (
        arguments.count("codebook_size", codebook_size),
        arguments.count("samples", samples),
    )
    p = 1 / codebook_size
    least, most = (
        float(scipy.stats.binom.ppf(1e-15, samples, p)),
        float(scipy.stats.binom.isf(1e-15, samples, p)),
    )
    counts = np.arange(max(least, 1.0), most + 1)  # the rest adds nothing
    share = counts / samples
    return float(
        np.exp(-codebook_size * (scipy.stats.binom.pmf(counts, samples, p) * share * np.log(share)).sum())
    )


def expected_dead_codes_gamma(codebook_size: int, samples: int, perplexity: float | int) -> float:
    """Expected number of codewords without a hit among N samples, from the perplexity of the code alone.

    E = n(1 + N/(na))^(−a): cell probabilities taken as Gamma with mean 1/n and shape a, hits as Poisson; a
    solves perplexity/n = exp(−(ψ(a+1) − ln a)), the entropy of such cells. Derived for this project. Random
    Gaussian codebooks at (k, n) = (8, 256) have more very small cells than a Gamma: the form is right to 1 %
    at N = n, 10 % low at N = 4n, a factor of 5 low at N = 16n. Where the probabilities are known, use
    `expected_dead_codes`.
    Raises InputError unless 1 <= perplexity <= n and the counts are integers >= 1 (samples: 0).
    """
    codebook_size = arguments.count("codebook_size", codebook_size)
    samples = arguments.count("samples", samples, least=0)
    perplexity = arguments.number("perplexity", perplexity, least=1)
    if perplexity > codebook_size:
        raise InputError(f"perplexity is {perplexity:g}; at most codebook_size = {codebook_size} is accepted")
    deficit = math.log(codebook_size / perplexity)
    if deficit < 1e-9:  # equal cells: the limit a → ∞
        return codebook_size * math.exp(-samples / codebook_size)
    # ψ(a+1) − ln a falls from ∞ to 0, as about 1/(2a).
    solution = scipy.optimize.root_scalar(
        lambda u: float(scipy.special.digamma(math.exp(u) + 1)) - u - deficit,
        bracket=(-deficit - 2, -math.log(deficit) + 5),
    )
    a = math.exp(solution.root)
    return codebook_size * (1 + samples / (codebook_size * a)) ** -a


def best_codeword_covariance(
    source_covariance: Float[np.ndarray, "k k"], codebook_size: int, *, seed: int = 0
) -> Float[np.ndarray, "k k"]:
    """Codeword covariance a·U (Λ − t)₊ Uᵀ with the least expected distortion over a and t.

    The family holds the asymptotic optimum (a = 1, t the water level: `reproduction_covariance`), the
    isotropic `best_codeword_variance`, and the wider clouds that a finite codebook wants at high rate. The
    expected distortion is that of `random_codebook_distortion_qmc` on one fixed set of draws, so that the
    minimisation (Nelder-Mead) sees a smooth function; derived for this project.
    Raises InputError for what `spectrum` refuses or a count below 1.
    """
    codebook_size, seed = (
        arguments.count("codebook_size", codebook_size),
        arguments.count("seed", seed, least=0),
    )
    variances, axes = eigensystem(source_covariance, "source_covariance")
    level = water_filling(variances, math.log2(codebook_size)).level
    if codebook_size == 1 or level == 0:
        return np.zeros_like(source_covariance)
    rng = np.random.default_rng(seed)
    sobol = scipy.stats.qmc.MultivariateNormalQMC(np.zeros(len(variances)), rng=rng)
    sources = np.asarray(sobol.random(512)) * np.sqrt(variances)
    pool = rng.standard_normal((4 * codebook_size, len(variances)))

    def codeword_variances(point: np.ndarray) -> np.ndarray:
        scale, threshold = np.exp(point[0]), level * max(float(point[1]), 0.0)
        return scale * np.maximum(variances - threshold, 0.0)

    optimum = scipy.optimize.minimize(
        lambda point: _expected_minimum(sources, pool * np.sqrt(codeword_variances(point)), codebook_size),
        x0=(0.0, 0.8),
        method="Nelder-Mead",
        options={"xatol": 5e-3, "fatol": 1e-4 * level, "maxiter": 80},
    )
    return (axes * codeword_variances(optimum.x)) @ axes.T
