"""The entropy estimate covers the truth on sources whose entropy is known, and refuses what has none."""

import math
import time

import numpy as np
import pytest
from scipy import special

from codebound.errors import InputError
from codebound.theory.bounds import shannon_lower_bound
from codebound.theory.entropy import differential_entropy

GAUSSIAN_BITS = math.log2(2 * math.pi * math.e) / 2


def gaussian(rng, n, k):
    return rng.standard_normal((n, k)), k * GAUSSIAN_BITS


def laplace(rng, n, k):
    return rng.laplace(size=(n, k)), k * math.log2(2 * math.e)


def cube(rng, n, k):
    return rng.uniform(size=(n, k)), 0.0


def mixture(rng, n, k):
    """Twenty clusters, spread .5 around centres of spread 3; the truth by Monte Carlo from the density."""
    centres = 3 * rng.standard_normal((20, k))

    def draw(count):
        return centres[rng.integers(20, size=count)] + 0.5 * rng.standard_normal((count, k))

    x = draw(50_000)
    distance = (x**2).sum(1)[:, None] - 2 * x @ centres.T + (centres**2).sum(1)
    log_density = special.logsumexp(-2 * distance, axis=1) - math.log(20) - k / 2 * math.log(math.pi / 2)
    return draw(n), -log_density.mean() / math.log(2)


# Widest interval accepted, bits: without it an interval of any width would pass.
CASES = [
    (gaussian, 2, 0.3),
    (gaussian, 8, 1.0),
    (laplace, 8, 1.5),
    (mixture, 2, 0.5),
    (mixture, 8, 7.0),
    (cube, 2, 0.4),
    (cube, 8, 4.0),
]


@pytest.mark.parametrize(("source", "dim", "widest"), CASES)
def test_interval_covers_the_truth(source, dim, widest):
    """Four data sets each: a 95 % interval may miss one, and never by more than one more half-width."""
    missed = 0
    for seed in range(4):
        z, truth = source(np.random.default_rng([dim, seed]), 4000, dim)
        estimate = differential_entropy(z)
        assert estimate.low <= estimate.bits <= estimate.high
        assert estimate.high - estimate.low < widest
        missed += not estimate.low <= truth <= estimate.high
        slack = 2 * estimate.standard_error
        assert estimate.low - slack <= truth <= estimate.high + slack
    assert missed <= 1


def test_gaussian_correction_matters_in_many_dimensions():
    z, truth = gaussian(np.random.default_rng(0), 3000, 32)
    estimate = differential_entropy(z)
    # Uncorrected, the estimator is bits too high, which would make the distortion bound no bound.
    assert estimate.uncorrected_bits - truth > 3
    assert abs(estimate.bits - truth) < 0.5


def test_error_bar_is_the_spread_of_repeats():
    rng = np.random.default_rng(1)
    results = [differential_entropy(gaussian(rng, 1000, 4)[0]) for _ in range(40)]
    spread = np.std([r.bits for r in results], ddof=1)
    assert 0.6 < spread / results[0].standard_error < 1.4


def test_affine_maps_add_their_log_determinant():
    rng = np.random.default_rng(2)
    z, _ = gaussian(rng, 2000, 3)
    before = differential_entropy(z)
    scale = np.array([1e-6, 1.0, 1e5])
    mixing = rng.standard_normal((3, 3))
    after = differential_entropy(z @ mixing.T * scale + 7.0)
    shift = np.linalg.slogdet(mixing)[1] / math.log(2) + np.log2(scale).sum()
    # Not to rounding: rows are sorted before the shuffle, so the blocks and the ellipsoids' axes differ.
    assert after.uncorrected_bits - before.uncorrected_bits == pytest.approx(shift, abs=1e-6)


def test_one_column_and_float32():
    z = np.random.default_rng(3).standard_normal((3000, 1)).astype(np.float32)
    estimate = differential_entropy(z)
    assert estimate.low <= GAUSSIAN_BITS <= estimate.high


def test_same_seed_same_result_and_row_order_is_irrelevant():
    z, _ = mixture(np.random.default_rng(4), 2000, 3)
    first = differential_entropy(z, seed=5)
    assert first == differential_entropy(z, seed=5)
    assert first == differential_entropy(z[::-1].copy(), seed=5)
    assert first.trend_bits != differential_entropy(z, seed=6).trend_bits


def test_feeds_the_shannon_bound():
    z, _ = gaussian(np.random.default_rng(6), 4000, 4)
    estimate = differential_entropy(z)
    low, high = (shannon_lower_bound(h, 4, 8.0) for h in (estimate.low, estimate.high))
    assert low < 4 * 2**-4 < high < 1.2 * low


def test_large_samples_are_drawn_from():
    z = np.random.default_rng(7).standard_normal((30_000, 2))
    assert differential_entropy(z, max_samples=2000).samples == 2000


def test_a_few_repeated_rows_are_dropped():
    z = np.random.default_rng(8).standard_normal((2000, 3))
    z[:10] = z[10:20]
    estimate = differential_entropy(z)
    assert estimate.dropped_duplicates == 10
    assert estimate.samples == 1990
    assert math.isfinite(estimate.bits)


def test_refuses_discrete_data():
    rng = np.random.default_rng(9)
    z = rng.standard_normal((2000, 3))
    z[:30] = z[30:60]
    with pytest.raises(InputError, match=r"repeats 30 of its 2000 rows.*discrete"):
        differential_entropy(z)
    # No two rows equal, but 8-bit columns.
    pixels = rng.integers(0, 256, size=(2000, 16)).astype(float)
    with pytest.raises(InputError, match=r"distinct values.*column 0.*discrete"):
        differential_entropy(pixels)
    # A rectified column has an atom at zero.
    rectified = np.concatenate([z[100:], np.maximum(z[100:, :1] - 0.5, 0)], axis=1)
    with pytest.raises(InputError, match="column 3"):
        differential_entropy(rectified)


def test_refuses_singular_data_naming_the_rank():
    rng = np.random.default_rng(10)
    z = rng.standard_normal((1000, 3))
    with pytest.raises(InputError, match=r"singular .rank 3 of 5."):
        differential_entropy(z @ rng.standard_normal((3, 5)))
    with pytest.raises(InputError, match="rank 3"):
        differential_entropy(np.concatenate([z, np.ones((1000, 1))], axis=1))


def test_refuses_bad_arguments():
    z = np.random.default_rng(11).standard_normal((200, 2))
    with pytest.raises(InputError, match=r"shape \(20, 2\)"):
        differential_entropy(z[:20])
    with pytest.raises(InputError, match="neighbours"):
        differential_entropy(z, neighbours=0)
    with pytest.raises(InputError, match="max_samples"):
        differential_entropy(z, max_samples=10)
    z[3, 1] = math.nan
    with pytest.raises(InputError, match="1 values that are not finite"):
        differential_entropy(z)


@pytest.mark.untyped  # with the jaxtyping hook the annotation refuses it first
def test_refuses_what_is_no_matrix():
    with pytest.raises(InputError, match=r"z has shape \(50,\)"):
        differential_entropy(np.random.default_rng(0).standard_normal(50))


def test_refuses_a_negative_seed():
    with pytest.raises(InputError, match="seed is -1"):
        differential_entropy(np.random.default_rng(0).standard_normal((50, 2)), seed=-1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e200, 1e-200, [1.0, 1e-200], 1.7e308])
def test_refuses_a_scale_whose_squares_are_no_floats(scale):
    z = np.random.default_rng(0).uniform(-1, 1, (50, 2)) * scale
    with pytest.raises(InputError, match="scale of z is out of range"):
        differential_entropy(z)
    assert math.isfinite(differential_entropy(z / scale * 1e140).bits)


def test_ten_thousand_rows_of_eight_take_seconds():
    z, _ = gaussian(np.random.default_rng(12), 10_000, 8)
    started = time.process_time()
    differential_entropy(z)
    assert time.process_time() - started < 10
