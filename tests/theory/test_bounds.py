"""Shannon's lower bound, the high-rate asymptote and the table of codes."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from codebound.errors import InputError
from codebound.theory.bounds import LATTICES, best_known, second_moment, shannon_lower_bound, zador_high_rate
from codebound.theory.converse import converse


@pytest.mark.parametrize("dim", [1, 3, 8])
def test_shannon_is_met_by_the_isotropic_gaussian(dim):
    variance, rate = 1.7, 2.5 * dim
    entropy = dim / 2 * math.log2(2 * math.pi * math.e * variance)
    assert shannon_lower_bound(entropy, dim, rate) == pytest.approx(dim * variance * 2 ** (-2 * 2.5))


def test_shannon_for_a_uniform_cube():
    # Entropy 0: a scalar quantizer with 2^b cells has k / 12 * 4^-b, above the bound by pi e / 6.
    assert 3 / 12 * 4**-2 / shannon_lower_bound(0, 3, 6) == pytest.approx(math.pi * math.e / 6)


def test_high_rate_anchors():
    assert zador_high_rate(8, 256) == pytest.approx(2.70, abs=0.005)
    assert zador_high_rate(8, 256, packing="E8") == pytest.approx(2.75, abs=0.005)
    assert zador_high_rate(1, 10) == pytest.approx(math.sqrt(3) * math.pi / 200)  # Panter and Dite
    assert zador_high_rate(8, 256, 3.0) == pytest.approx(3 * zador_high_rate(8, 256))
    # Not a bound: a known code is below it.
    assert best_known(8, 256).distortion < zador_high_rate(8, 256)


def test_gaussian_norm_against_quadrature():
    k = 2
    power = k / (k + 2)
    density = lambda r: 2 * math.pi * r * (math.exp(-r * r / 2) / (2 * math.pi)) ** power  # noqa: E731
    norm = integrate.quad(density, 0, 40)[0] ** (1 / power)
    assert zador_high_rate(k, 100) == pytest.approx(k * second_moment("sphere", k) * norm / 100)


def test_scalar_asymptote_is_reached_by_lloyd_max():
    assert best_known(1, 256).distortion == pytest.approx(zador_high_rate(1, 256), rel=0.02)


def test_second_moments():
    assert second_moment("sphere", 1) == pytest.approx(1 / 12)
    assert second_moment("sphere", 2) == pytest.approx(1 / (4 * math.pi))
    for name, (dim, moment) in LATTICES.items():
        # Between the sphere's and the cube's; above the limit of all, 1 / (2 pi e).
        assert second_moment("sphere", dim) <= second_moment(name, dim) * (1 + 1e-12)
        assert 1 / (2 * math.pi * math.e) < moment <= 1 / 12
    rounded = {name: round(moment, 6) for name, (_, moment) in LATTICES.items()}
    assert (rounded["A2"], rounded["E8"]) == (0.080188, 0.071682)
    assert second_moment("E8", 16) == second_moment("E8", 8)


def test_second_moment_of_d4_by_simulation():
    # D4: integer points of even sum, volume 2. Decode as Conway and Sloane 1982 do.
    points = np.random.default_rng(0).uniform(0, 2, (200_000, 4))
    nearest = np.round(points)
    worst = np.abs(points - nearest).argmax(1)
    rows = np.arange(len(points))
    other = nearest.copy()
    other[rows, worst] += np.where(points[rows, worst] > nearest[rows, worst], 1, -1)
    even = nearest.sum(1) % 2 == 0
    error = ((points - np.where(even[:, None], nearest, other)) ** 2).sum(1)
    moment = error.mean() / 4 / math.sqrt(2)
    assert moment == pytest.approx(second_moment("D4", 4), abs=4 * error.std() / math.sqrt(200_000) / 4)


def e8_code():
    axes = [
        np.eye(8)[i] * a + np.eye(8)[j] * b
        for i, j in itertools.combinations(range(8), 2)
        for a, b in itertools.product((-1, 1), repeat=2)
    ]
    halves = [np.array(s) / 2 for s in itertools.product((-1, 1), repeat=8) if np.prod(s) > 0]
    return np.concatenate([1.72 * np.array(axes + halves), 1.2 * np.eye(8), -1.2 * np.eye(8)])


def measured(codebook, samples, seed):
    rng = np.random.default_rng(seed)
    errors = []
    for _ in range(samples // 20_000):
        z = rng.standard_normal((20_000, codebook.shape[1]))
        errors.append((z**2).sum(1) + ((codebook**2).sum(1) - 2 * z @ codebook.T).min(1))
    error = np.concatenate(errors)
    return error.mean(), error.std() / math.sqrt(len(error))


def test_e8_code_is_what_the_table_says():
    mean, spread = measured(e8_code(), 200_000, 0)
    assert mean == pytest.approx(best_known(8, 256).distortion, abs=4 * spread)


def test_product_and_pair_codes_are_what_the_table_says():
    for dim, size in [(2, 4), (5, 2)]:
        signs = np.array(list(itertools.product((-1, 1), repeat=size.bit_length() - 1)))
        codebook = np.zeros((size, dim))
        codebook[:, : signs.shape[1]] = math.sqrt(2 / math.pi) * signs
        mean, spread = measured(codebook, 400_000, 1)
        assert mean == pytest.approx(best_known(dim, size).distortion, abs=4 * spread)


@pytest.mark.parametrize(("dim", "size"), [(3, 8), (4, 16), (6, 64), (8, 256), (10, 1024), (12, 4096)])
def test_table_lies_between_converse_and_product_code(dim, size):
    assert converse(dim, size).certified < best_known(dim, size).distortion < dim * (1 - 2 / math.pi)


def test_best_known():
    assert best_known(1, 2).distortion == pytest.approx(1 - 2 / math.pi)
    assert best_known(1, 4, 2.0).distortion == pytest.approx(2 * 0.117481847829, rel=1e-9)
    assert best_known(3, 1, 2.0).distortion == 6.0
    assert best_known(8, 256, 2.0).distortion == pytest.approx(5.055)
    assert "E8" in best_known(8, 256).code
    assert best_known(8, 257) is None


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: shannon_lower_bound(math.nan, 2, 1), "entropy_bits"),
        (lambda: shannon_lower_bound(1.0, 2, -1), "rate_bits"),
        (lambda: shannon_lower_bound(1.0, 0, 1), "dim"),
        (lambda: zador_high_rate(8, 256, packing="E9"), "packing is 'E9'.*'E8'"),
        (lambda: zador_high_rate(9, 256, packing="E8"), "multiples of 8"),
        (lambda: best_known(2, 4, -1.0), "variance"),
    ],
)
def test_bad_arguments(call, match):
    with pytest.raises(InputError, match=match):
        call()


def test_lower_bounds_are_ordered_for_a_known_source():
    # Laplace vectors: the bound for their entropy is below the Gaussian's of equal variance.
    entropy = 4 * float(stats.laplace().entropy()) / math.log(2)
    assert shannon_lower_bound(entropy, 4, 4) < 4 * 2.0 * 2**-2
