"""The linear-Gaussian source against its own definition, its samples, and its stated normalisations."""

import numpy as np
import pytest
import torch

from codebound.data.linear_gaussian import KINDS, RIDGE, LinearGaussian
from codebound.errors import InputError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_theory_agrees_with_a_dense_eigendecomposition_of_the_covariance(kind):
    source = LinearGaussian.draw(kind, seed=42)
    covariance = source.A @ source.Sigma @ source.A.T + 0.1**2 * np.eye(64)
    values, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(source.covariance, covariance, atol=1e-12)
    np.testing.assert_allclose(np.diag(source.latent_covariance), values[::-1][:8], rtol=1e-10)
    U = source.principal_axes
    np.testing.assert_allclose(U.T @ covariance @ U, source.latent_covariance, atol=1e-10)
    np.testing.assert_allclose(U @ U.T, vectors[:, -8:] @ vectors[:, -8:].T, atol=1e-8)
    assert source.residual == pytest.approx(values[:-8].sum(), rel=1e-10)
    assert (np.take_along_axis(U, np.abs(U).argmax(0)[None], 0) > 0).all()


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.7])
def test_normalised_kinds_have_unit_latent_variance_noise_included(noise):
    isotropic = LinearGaussian.draw("isotropic", noise=noise, seed=1)
    np.testing.assert_allclose(isotropic.latent_covariance, np.eye(8), atol=1e-12)
    anisotropic = LinearGaussian.draw("anisotropic", noise=noise, seed=1)
    assert anisotropic.latent_variance == pytest.approx(1, abs=1e-12)
    spectrum = np.diag(anisotropic.latent_covariance)
    assert spectrum[0] > 2 * spectrum[-1]
    assert anisotropic.noise == noise


def test_kinds_of_one_seed_differ_only_in_sigma_and_seeds_redraw_both():
    raw, anisotropic = (LinearGaussian.draw(kind, seed=3) for kind in ("raw", "anisotropic"))
    np.testing.assert_array_equal(raw.A, anisotropic.A)
    ratio = raw.Sigma / anisotropic.Sigma
    np.testing.assert_allclose(ratio, ratio[0, 0])
    assert np.linalg.eigvalsh(raw.Sigma)[0] >= RIDGE * (1 - 1e-9)
    other = LinearGaussian.draw("raw", seed=4)
    assert np.abs(other.A - raw.A).max() > 0.01
    assert np.abs(other.Sigma - raw.Sigma).max() > 0.01
    again = LinearGaussian.draw("raw", seed=3)
    assert again.A.tobytes() == raw.A.tobytes()
    assert again.Sigma.tobytes() == raw.Sigma.tobytes()


def test_axes_favour_no_direction():
    """LAPACK's QR alone would make the first entry of A negative every time."""
    first = np.array([LinearGaussian.draw("isotropic", dim=4, latent_dim=2, seed=s).A[0] for s in range(500)])
    assert np.abs(first.mean(0)).max() < 5 * np.sqrt(1 / 4 / 500)
    np.testing.assert_allclose((first**2).mean(0), 1 / 4, atol=0.05)


def test_raw_sigma_is_a_wishart_matrix_on_average():
    mean = np.mean([LinearGaussian.draw("raw", dim=8, seed=s).Sigma for s in range(2000)], axis=0)
    np.testing.assert_allclose(mean, (8 + RIDGE) * np.eye(8), atol=0.45)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_stated_mean_and_covariance(kind):
    source, n = LinearGaussian.draw(kind, dim=12, latent_dim=3, noise=0.3, seed=7), 200_000
    x = source.sample(n, generator=generator()).double().numpy()
    whitener = np.linalg.inv(np.linalg.cholesky(source.covariance))
    white = x @ whitener.T
    assert np.abs(white.mean(0)).max() < 5 / np.sqrt(n)
    assert np.abs(white.T @ white / n - np.eye(12)).max() < 6 * np.sqrt(2 / n)
    assert abs((white**4).mean() - 3) < 0.05  # Gaussian, not only the right covariance


def pca(x: np.ndarray, k: int) -> np.ndarray:
    return np.linalg.eigh(x.T @ x)[1][:, -k:]


def sine_of_largest_angle(U: np.ndarray, V: np.ndarray) -> float:
    return float(np.linalg.norm(V - U @ (U.T @ V), ord=2))


def test_pca_of_samples_recovers_the_subspace():
    source, n = LinearGaussian.draw("isotropic", seed=42), 10_000
    estimate = pca(source.sample(n, generator=generator(1)).double().numpy(), 8)
    # Perturbation theory: the d-k noise directions leak in as a (d-k)xk Gaussian of this scale.
    leak = source.noise / (1 - source.noise**2) / np.sqrt(n)
    largest = leak * (np.sqrt(64 - 8) + np.sqrt(8))
    assert 0.5 * largest < sine_of_largest_angle(source.principal_axes, estimate) < 1.3 * largest


@pytest.mark.parametrize("kind", KINDS)
def test_dropping_all_but_the_principal_axes_costs_the_stated_residual_and_pca_does_as_well(kind):
    source = LinearGaussian.draw(kind, seed=42)
    x = source.sample(20_000, generator=generator(1)).double().numpy()
    for U, slack in ((source.principal_axes, 0.006), (pca(x, 8), 0.01)):
        dropped = ((x - x @ U @ U.T) ** 2).sum(1).mean()
        assert dropped == pytest.approx(source.residual, rel=slack)


def test_the_same_generator_seed_gives_the_same_bits_and_another_does_not():
    source = LinearGaussian.draw("raw", seed=42)
    first, again = (source.sample(1000, generator=generator(5)) for _ in range(2))
    assert first.dtype == torch.float32
    assert first.shape == (1000, 64)
    assert torch.equal(first, again)
    assert not torch.equal(first, source.sample(1000, generator=generator(6)))


def test_singular_sigma_without_noise_and_a_full_rank_subspace_are_fine():
    flat = LinearGaussian(np.eye(4, 2), np.diag([1.0, 0.0]), 0.0)
    x = flat.sample(100, generator=generator())
    assert x[:, 0].std() > 0.5
    assert torch.count_nonzero(x[:, 1:]) == 0
    whole = LinearGaussian.draw("isotropic", dim=5, latent_dim=5, seed=0)
    np.testing.assert_allclose(whole.covariance, np.eye(5), atol=1e-12)
    assert whole.residual == 0


def test_arrays_are_read_only():
    source = LinearGaussian.draw("raw", seed=0)
    with pytest.raises(ValueError, match="read-only"):
        source.A[0, 0] = 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "isotropc"}, "did you mean 'isotropic'"),
        ({"kind": "zzz"}, "accepted: raw, anisotropic, isotropic"),
        ({"dim": 4, "latent_dim": 5}, "latent_dim is 5 with dim 4"),
        ({"latent_dim": 0}, "latent_dim is 0"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"kind": "isotropic", "noise": 1.0}, "below 1 accepted"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        LinearGaussian.draw(**{"kind": "raw", "seed": 0, **arguments})


@pytest.mark.parametrize(
    ("A", "sigma", "message"),
    [
        (np.ones((4, 2)), np.eye(2), "orthonormal"),
        (np.eye(4, 2), np.array([[1.0, 2.0], [2.0, 1.0]]), "negative eigenvalue"),
        (np.eye(4, 2), np.array([[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
    ],
)
def test_direct_construction_is_checked(A, sigma, message):
    with pytest.raises(InputError, match=message):
        LinearGaussian(A, sigma, 0.1)


def test_zero_samples_are_refused():
    with pytest.raises(InputError, match="n is 0"):
        LinearGaussian.draw("raw", seed=0).sample(0, generator=generator())
