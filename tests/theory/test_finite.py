"""Random Gaussian codebooks of finite size, against tabulated values, exact cases and simulation."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from codebound.errors import InputError
from codebound.theory import finite, gaussian


def least_squared_distances(x: np.ndarray, codewords: np.ndarray) -> np.ndarray:
    scores = 0.5 * (codewords**2).sum(1) - x @ codewords.T
    return (x**2).sum(1) + 2 * scores.min(1)


def simulate(s_x: np.ndarray, s_c: np.ndarray, n: int, books: int, points: int, seed: int = 0):
    """Mean and standard error over `books` codebooks, each with its own sources; diagonal covariances."""
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(books):
        codewords = rng.standard_normal((n, len(s_c))) * np.sqrt(s_c)
        x = rng.standard_normal((points, len(s_x))) * np.sqrt(s_x)
        least, energy = least_squared_distances(x, codewords), (x**2).sum(1)
        # E‖x‖² is known: a regression on it takes out most of the variance.
        slope = np.cov(least, energy)[0, 1] / energy.var()
        means.append(least.mean() - slope * (energy.mean() - s_x.sum()))
    return np.mean(means), np.std(means, ddof=1) / math.sqrt(books)


@pytest.mark.parametrize(
    ("k", "n", "variance", "expected"),
    [
        (4, 16, 0.75, 1.8087),
        (4, 64, 0.875, 0.9703),
        (4, 256, 0.9375, 0.5124),
        (4, 1024, 0.96875, 0.2683),
        (8, 256, 0.75, 2.8682),
        (8, 1024, 0.8232, 2.0621),
        (16, 4096, 0.6464, 6.938),
        (16, 65536, 0.75, 4.9588),
    ],
)
def test_distortion_table(k, n, variance, expected):
    assert finite.random_codebook_distortion(k, n, variance) == pytest.approx(expected, rel=1.1e-4)


@pytest.mark.parametrize(
    ("k", "n", "variance", "expected"),
    [
        (4, 16, 0.663, 1.8033),
        (4, 64, 0.968, 0.9672),
        (4, 256, 1.171, 0.5019),
        (4, 1024, 1.300, 0.2564),
        (8, 256, 0.7263, 2.8675),
        (16, 65536, 0.7415, 4.9587),
    ],
)
def test_best_variance_table(k, n, variance, expected):
    best = finite.best_codeword_variance(k, n)
    assert best.variance == pytest.approx(variance, abs=1e-3)
    assert best.distortion == pytest.approx(expected, rel=1e-4)
    for other in (0.9, 1.1):
        assert finite.random_codebook_distortion(k, n, other * best.variance) > best.distortion


def test_best_variance_tends_to_the_zador_density_not_to_the_source():
    best = finite.best_codeword_variance(1, 2**12).variance
    assert best == pytest.approx(3.0, rel=0.01)
    low = finite.best_codeword_variance(64, 256).variance
    assert low < gaussian.reproduction_variance(1.0, 8, 64)


def test_one_codeword_and_two_on_the_line():
    assert finite.random_codebook_distortion(5, 1, 0.3, 2.0) == pytest.approx(5 * 2.3, rel=1e-14)
    # k = 1, n = 2 by plain adaptive quadrature over x, with F from the normal distribution.
    s = 0.8

    def given(x):
        def missed(y):
            return 2 * y * (1 - stats.norm.cdf((x + y) / s) + stats.norm.cdf((x - y) / s)) ** 2

        return integrate.quad(missed, 0, abs(x) + 8 * s, epsabs=1e-10)[0]

    reference = 2 * integrate.quad(lambda x: stats.norm.pdf(x) * given(x), 0, 8, epsabs=1e-8)[0]
    assert finite.random_codebook_distortion(1, 2, s**2) == pytest.approx(reference, rel=1e-6)


def test_tiny_codewords_reach_the_limit_smoothly():
    # Across the switch from the χ² series to its normal limit, at r²/s² of 1e4·k.
    spreads = np.geomspace(1e-3, 1e-8, 26)
    lost = np.array([8 - finite.random_codebook_distortion(8, 256, s**2) for s in spreads])
    # To first order 8 − D = 2s·E r·E max of 256 normals: proportional to s.
    slopes = lost / spreads
    highest = integrate.quad(lambda u: u * 256 * stats.norm.pdf(u) * stats.norm.cdf(u) ** 255, -8, 9)[0]
    assert slopes[-1] == pytest.approx(2 * stats.chi.mean(8) * highest, rel=1e-5)
    assert (np.abs(np.diff(slopes)) < 0.01 * slopes[-1]).all()
    assert finite.random_codebook_distortion(8, 256, 0.0) == 8.0


def test_normal_limit_of_the_distance_agrees_with_the_series_where_it_takes_over():
    nc = np.array([[1.001e4 * 8]])
    y = math.sqrt(nc.item()) + np.linspace(-5, 3, 9)[None]
    series = np.log1p(-stats.ncx2.cdf(y**2, 8, nc))
    np.testing.assert_allclose(finite._log_survival(y, 8, 1, nc), series, rtol=3e-3)


def test_distortion_scales_and_falls_with_size():
    one = finite.random_codebook_distortion(8, 256, 0.75)
    assert finite.random_codebook_distortion(8, 256, 3.0, 4.0) == pytest.approx(4 * one, rel=1e-12)
    best = finite.best_codeword_variance(8, 256)
    scaled = finite.best_codeword_variance(8, 256, 4.0)
    assert scaled == pytest.approx((4 * best.variance, 4 * best.distortion), rel=1e-12)
    falling = [finite.random_codebook_distortion(3, n, 0.8) for n in (1, 2, 3, 10, 100, 1000)]
    assert (np.diff(falling) < 0).all()


@pytest.mark.parametrize(
    ("k", "n", "books", "points"),
    [(2, 16, 3000, 200), (4, 256, 150, 1000), (8, 256, 100, 1000), (12, 4096, 3, 5000)],
)
def test_distortion_agrees_with_simulation(k, n, books, points):
    variance = gaussian.reproduction_variance(1.0, math.log2(n), k)
    value, error = simulate(np.ones(k), np.full(k, variance), n, books, points)
    assert error < 0.004 * value
    expected = finite.random_codebook_distortion(k, n, variance)
    assert abs(value - expected) < max(0.01 * expected, 2 * error)
    estimate = finite.random_codebook_distortion_qmc(np.eye(k), variance * np.eye(k), n)
    assert estimate.standard_error < 0.004 * expected
    assert abs(estimate.value - expected) < 4 * estimate.standard_error


@pytest.mark.parametrize(
    ("values", "n"), [(2.0 ** -np.arange(8), 256), (np.array([6.0, 2.0, 0.5, 0.05, 0.01, 0.0]), 64)]
)
def test_anisotropic_distortion_agrees_with_simulation(values, n):
    kept = values - gaussian.water_filling(values, math.log2(n)).distortions
    assert (kept == 0).any()
    value, error = simulate(values, kept, n, 400, 1000)
    assert error < 0.004 * value
    # A common rotation changes nothing: the estimator sees full matrices.
    basis = np.linalg.qr(np.random.default_rng(5).standard_normal((len(values), len(values))))[0]
    estimate = finite.random_codebook_distortion_qmc((basis * values) @ basis.T, (basis * kept) @ basis.T, n)
    assert estimate.value == pytest.approx(value, rel=0.01)
    assert estimate.standard_error < 0.004 * value


def test_estimate_is_unbiased_also_with_a_small_pool():
    # A biased use of the pool (with replacement, or its plain minimum) misses by far more than 4 errors here.
    exact = finite.random_codebook_distortion(4, 64, 0.875)
    small = finite.random_codebook_distortion_qmc(
        np.eye(4), 0.875 * np.eye(4), 64, pool=80, sources=256, scramblings=512, seed=1
    )
    assert small.standard_error < 0.004 * exact
    assert abs(small.value - exact) < 4 * small.standard_error


def test_standard_error_is_honest_and_seeds_are_reproducible():
    exact = finite.random_codebook_distortion(2, 8, 0.7)
    runs = [
        finite.random_codebook_distortion_qmc(np.eye(2), 0.7 * np.eye(2), 8, seed=s, pool=512, sources=128)
        for s in range(40)
    ]
    z = np.array([(run.value - exact) / run.standard_error for run in runs])
    assert abs(z.mean()) < 0.6
    assert 0.7 < z.std() < 1.5
    again = finite.random_codebook_distortion_qmc(
        np.eye(2), 0.7 * np.eye(2), 8, seed=3, pool=512, sources=128
    )
    assert again == runs[3]


def test_subset_weights_are_hypergeometric():
    weights = finite._subset_minimum_weights(12, 5)
    expected = [math.comb(12 - j, 4) / math.comb(12, 5) for j in range(1, 9)]
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    np.testing.assert_allclose(finite._subset_minimum_weights(7, 7), [1.0])


@pytest.fixture(scope="module")
def random_cells():
    """Cell probabilities of 12 random codebooks at (8, 256), and mean dead codes on N fresh samples."""
    rng = np.random.default_rng(2)
    books = []
    for _ in range(12):
        codewords = rng.standard_normal((256, 8)) * math.sqrt(0.75)
        x = rng.standard_normal((80_000, 8))
        indices = (x @ codewords.T - 0.5 * (codewords**2).sum(1)).argmax(1)
        cells = np.bincount(indices[:40_000], minlength=256) / 40_000
        fresh = indices[40_000:]
        dead = {
            n: np.mean([256 - len(np.unique(part)) for part in fresh.reshape(-1, n)]) for n in (250, 1000)
        }
        books.append((cells, dead))
    return books


def test_dead_codes_against_simulation(random_cells):
    for n, rel in ((250, 0.01), (1000, 0.06)):
        simulated = np.mean([dead[n] for _, dead in random_cells])
        exact = np.mean([finite.expected_dead_codes(cells, n) for cells, _ in random_cells])
        assert exact == pytest.approx(simulated, rel=rel)


def test_gamma_form_is_right_at_n_and_low_in_the_tail(random_cells):
    def perplexity(p):
        return float(math.exp(stats.entropy(p)))

    ratio = {}
    for n in (250, 1000):
        gamma = np.mean([finite.expected_dead_codes_gamma(256, n, perplexity(p)) for p, _ in random_cells])
        ratio[n] = gamma / np.mean([dead[n] for _, dead in random_cells])
    assert ratio[250] == pytest.approx(1.0, abs=0.015)
    assert 0.82 < ratio[1000] < 0.97


def test_gamma_form_anchors_and_limits():
    # a = 6.88 has perplexity 238.474 at n = 256.
    assert finite.expected_dead_codes_gamma(256, 256, 238.474) == pytest.approx(100.6, abs=0.05)
    assert finite.expected_dead_codes_gamma(256, 1000, 238.474) == pytest.approx(11.6, abs=0.05)
    # Equal cells are Poisson, and the formula is continuous there.
    poisson = 256 * math.exp(-2.0)
    assert finite.expected_dead_codes_gamma(256, 512, 256) == pytest.approx(poisson, rel=1e-12)
    assert finite.expected_dead_codes_gamma(256, 512, 256 * (1 - 1e-8)) == pytest.approx(poisson, rel=1e-6)
    assert finite.expected_dead_codes_gamma(256, 0, 100) == 256
    # One code takes nearly everything: nearly all others stay dead.
    assert finite.expected_dead_codes_gamma(256, 1000, 1.01) > 240


def test_dead_codes_by_enumeration_and_threshold():
    p = np.array([0.5, 0.3, 0.2, 0.0])
    assert finite.expected_dead_codes(p, 3) == pytest.approx(0.125 + 0.343 + 0.512 + 1, rel=1e-14)
    assert finite.expected_dead_codes(p, 0) == 4.0
    # Usage below 1/2 of 3 samples: at most one hit.
    below = sum((1 - q) ** 3 + 3 * q * (1 - q) ** 2 for q in p)
    assert finite.expected_dead_codes(p, 3, threshold=0.5) == pytest.approx(below, rel=1e-12)
    # A usage equal to the threshold is not below it, in spite of 0.07 * 100 > 7.
    assert finite.expected_dead_codes(p, 100, threshold=0.07) == pytest.approx(
        stats.binom.cdf(6, 100, p).sum(), rel=1e-12
    )
    assert finite.expected_dead_codes(p, 10_000, threshold=1e-4) == pytest.approx(
        finite.expected_dead_codes(p, 10_000), rel=1e-9
    )


@pytest.mark.parametrize(("size", "samples"), [(256, 600), (16, 2000), (2, 1), (1, 5)])
def test_the_perplexity_of_an_even_code_against_simulation(size: int, samples: int) -> None:
    share = np.random.default_rng(0).multinomial(samples, np.full(size, 1 / size), 500) / samples
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(1)
    assert finite.uniform_perplexity(size, samples) == pytest.approx(np.exp(entropy.mean()), rel=1e-3)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: finite.random_codebook_distortion(0, 4, 1.0), "dim"),
        (lambda: finite.random_codebook_distortion(2, 0, 1.0), "codebook_size"),
        (lambda: finite.random_codebook_distortion(2, 4, -1.0), "codeword_variance"),
        (lambda: finite.random_codebook_distortion(2, 4, 1.0, math.nan), "source_variance"),
        (lambda: finite.best_codeword_variance(2, 0), "codebook_size"),
        (lambda: finite.random_codebook_distortion_qmc(np.eye(2), -np.eye(2), 4), "codeword_covariance"),
        (lambda: finite.random_codebook_distortion_qmc(np.eye(2), np.eye(2), 4, pool=3), "pool"),
        (
            lambda: finite.random_codebook_distortion_qmc(np.eye(2), np.eye(2), 4, scramblings=1),
            "scramblings",
        ),
        (lambda: finite.random_codebook_distortion_qmc(np.eye(2), np.eye(2), 4, seed=-1), "seed"),
        (lambda: finite.expected_dead_codes(np.array([0.7, 0.7]), 3), "cell_probabilities"),
        (lambda: finite.expected_dead_codes(np.array([0.7, -0.1]), 3), "cell_probabilities"),
        (lambda: finite.expected_dead_codes(np.array([1.0]), -1), "samples"),
        (lambda: finite.expected_dead_codes_gamma(16, 10, 17), "perplexity"),
        (lambda: finite.expected_dead_codes_gamma(16, 10, 0.5), "perplexity"),
    ],
)
def test_refusals_name_the_argument(call, name):
    with pytest.raises(InputError, match=name):
        call()


def test_covariances_of_unequal_size_are_refused():
    # TypeError is jaxtyping's, which sees it first where annotations are checked.
    with pytest.raises((InputError, TypeError), match="codeword_covariance"):
        finite.random_codebook_distortion_qmc(np.eye(2), np.eye(3), 4)


@pytest.mark.parametrize(
    "variances", [[2.6, 2.1, 1.3, 1.2, 0.4, 0.2, 0.1, 0.01], [6.5, 0.5, 0.4, 0.2, 0.2, 0.1, 0.1, 0.05]]
)
def test_the_best_covariance_beats_water_filling_by_simulation(variances: list[float]) -> None:
    source = np.diag(variances)
    best = finite.best_codeword_covariance(source, 256)
    plain = gaussian.reproduction_covariance(source, 8.0)
    reached, reference = (
        finite.random_codebook_distortion_qmc(source, c, 256, seed=7) for c in (best, plain)
    )
    assert reached.value < reference.value - 3 * (reached.standard_error + reference.standard_error)


def test_the_best_covariance_of_an_isotropic_source_is_the_best_variance() -> None:
    best = finite.best_codeword_covariance(2.0 * np.eye(8), 256)
    assert np.diag(best) == pytest.approx(2.0 * finite.best_codeword_variance(8, 256).variance, rel=0.05)
