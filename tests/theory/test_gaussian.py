"""R(D) of the Gaussian source: closed forms, the optimality conditions, and refusals."""

import math

import numpy as np
import pytest

from codebound.errors import InputError
from codebound.theory import gaussian

SPECTRA = [
    np.array([9.0, 4.0, 1.0, 0.25]),
    np.array([0.25, 9.0, 1.0, 4.0]),
    np.array([2.0]),
    np.array([1.0, 1.0, 1.0]),
    np.array([3.0, 0.0, 1e-9, 0.5, 0.0]),
    0.6 ** np.arange(12),
    np.random.default_rng(0).gamma(0.3, size=40),
]


def random_covariance(k: int, seed: int) -> np.ndarray:
    factor = np.random.default_rng(seed).standard_normal((k, k))
    return factor @ factor.T


def test_isotropic_closed_forms():
    assert gaussian.rate_per_dim(256, 8) == 1.0
    assert gaussian.distortion_rate(8, 8) == pytest.approx(2.0, rel=1e-15)
    assert gaussian.distortion_rate(0, 8, 3.0) == 24.0
    assert gaussian.rate_distortion(2.0, 8) == pytest.approx(8.0, rel=1e-15)
    assert gaussian.rate_distortion(8.0, 8) == 0.0
    assert gaussian.rate_distortion(9.0, 8) == 0.0
    assert gaussian.reproduction_variance(2.0, 8, 8) == pytest.approx(1.5, rel=1e-15)
    assert gaussian.gap_db(20.0, 2.0) == pytest.approx(10.0, rel=1e-15)


def test_water_filling_anchor():
    point = gaussian.water_filling(np.array([9.0, 4.0, 1.0, 0.25]), 4)
    # Three components active: θ³ = 9·4·1 / 2⁸.
    assert point.level == pytest.approx((36 / 256) ** (1 / 3), rel=1e-14)
    assert point.distortion == pytest.approx(1.81006, abs=5e-6)
    assert point.rates[3] == 0.0


@pytest.mark.parametrize("values", SPECTRA)
@pytest.mark.parametrize("rate", [0.0, 0.01, 1.0, 7.3, 60.0, 400.0])
def test_water_filling_meets_its_conditions(values, rate):
    point = gaussian.water_filling(values, rate)
    assert point.rate_bits == pytest.approx(rate, rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(point.distortions, np.minimum(values, point.level), rtol=1e-13)
    wet = values > point.level
    np.testing.assert_allclose(point.rates[wet], 0.5 * np.log2(values[wet] / point.level), rtol=1e-12)
    assert not point.rates[~wet].any()
    assert point.distortion == pytest.approx(point.distortions.sum(), rel=1e-14)


@pytest.mark.parametrize("values", SPECTRA)
def test_round_trip_between_rate_and_distortion(values):
    for share in (1e-6, 0.1, 0.5, 0.9, 0.999):
        distortion = share * values.sum()
        there = gaussian.water_filling_at_distortion(values, distortion)
        assert there.distortion == pytest.approx(distortion, rel=1e-12)
        back = gaussian.water_filling(values, there.rate_bits)
        assert back.level == pytest.approx(there.level, rel=1e-9)
        assert back.distortion == pytest.approx(distortion, rel=1e-9)
    beyond = gaussian.water_filling_at_distortion(values, 2 * values.sum())
    assert beyond.rate_bits == 0.0
    assert beyond.distortion == values.sum()


def test_no_other_allocation_of_rate_does_better():
    rng = np.random.default_rng(1)
    values = np.array([5.0, 2.0, 0.3, 0.01])
    best = gaussian.water_filling(values, 3.0).distortion
    for shares in rng.dirichlet(np.full(4, 0.5), size=2000):
        assert (values * 2.0 ** (-2 * 3.0 * shares)).sum() >= best - 1e-12


def test_curve_is_decreasing_convex_and_scales():
    values = SPECTRA[5]
    curve = np.array([gaussian.water_filling(values, rate).distortion for rate in np.linspace(0, 30, 200)])
    assert (np.diff(curve) < 0).all()
    assert (np.diff(curve, 2) > -1e-12).all()
    scaled = gaussian.water_filling(7.0 * values, 5.0)
    assert scaled.distortion == pytest.approx(7.0 * gaussian.water_filling(values, 5.0).distortion, rel=1e-13)


def test_isotropic_is_the_special_case_and_an_upper_bound():
    assert gaussian.water_filling(np.full(8, 1.7), 8).distortion == pytest.approx(
        gaussian.distortion_rate(8, 8, 1.7), rel=1e-14
    )
    for seed in range(10):
        values = gaussian.spectrum(random_covariance(8, seed))
        limit = gaussian.water_filling(values, 8).distortion
        assert limit < gaussian.distortion_rate(8, 8, float(values.mean()))


def test_anisotropic_gain_of_the_default_source():
    # Σ = BBᵀ at k = 8, 8 bits: the bound is .484 (sd .061) of the isotropic formula.
    ratios = []
    for seed in range(400):
        values = gaussian.spectrum(random_covariance(8, seed))
        isotropic = gaussian.distortion_rate(8, 8, float(values.mean()))
        ratios.append(gaussian.water_filling(values, 8).distortion / isotropic)
    assert np.mean(ratios) == pytest.approx(0.484, abs=0.012)
    assert np.std(ratios) == pytest.approx(0.061, abs=0.010)


def test_all_zero_spectrum_has_neither_rate_nor_distortion():
    point = gaussian.water_filling(np.zeros(3), 5.0)
    assert (point.distortion, point.rate_bits) == (0.0, 0.0)


def test_reproduction_covariance_shares_eigenvectors_and_removes_the_distortion():
    covariance = random_covariance(6, 3)
    reproduction = gaussian.reproduction_covariance(covariance, 5.0)
    values, vectors = np.linalg.eigh(covariance)
    point = gaussian.water_filling(values, 5.0)
    np.testing.assert_allclose(
        vectors.T @ reproduction @ vectors, np.diag(values - point.distortions), atol=1e-12
    )
    assert np.linalg.matrix_rank(reproduction, tol=1e-9) == (point.rates > 0).sum() < 6
    isotropic = gaussian.reproduction_covariance(2.0 * np.eye(8), 8)
    np.testing.assert_allclose(isotropic, 1.5 * np.eye(8), atol=1e-14)


def test_spectrum_is_descending_and_forgives_rounding_only():
    thin = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    values = gaussian.spectrum((thin @ thin.T).astype(np.float64))
    assert (np.diff(values) <= 0).all()
    assert values.min() >= 0
    with pytest.raises(InputError, match="eigenvalue -1"):
        gaussian.spectrum(np.diag([1.0, -1.0]))
    with pytest.raises(InputError, match="transpose"):
        gaussian.spectrum(np.array([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(InputError, match="NaN"):
        gaussian.spectrum(np.array([[math.nan]]))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: gaussian.rate_per_dim(0, 8), "codebook_size"),
        (lambda: gaussian.rate_per_dim(2, 0), "dim"),
        (lambda: gaussian.distortion_rate(-1.0, 8), "rate_bits"),
        (lambda: gaussian.distortion_rate(1.0, 8, -1.0), "variance"),
        (lambda: gaussian.rate_distortion(0.0, 8), "distortion"),
        (lambda: gaussian.water_filling(np.array([1.0, -1.0]), 1.0), "eigenvalues"),
        (lambda: gaussian.water_filling(np.array([1.0, math.inf]), 1.0), "eigenvalues"),
        (lambda: gaussian.water_filling(np.array([1.0]), math.nan), "rate_bits"),
        (lambda: gaussian.water_filling(np.array([1.0]), 1e5), "rate_bits"),
        (lambda: gaussian.water_filling_at_distortion(np.array([1.0]), 0.0), "distortion"),
        (lambda: gaussian.gap_db(1.0, 0.0), "limit"),
    ],
)
def test_refusals_name_the_argument(call, name):
    with pytest.raises(InputError, match=name):
        call()
