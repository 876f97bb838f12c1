"""The converse is a bound: every test tries to break one part of its proof or of its arithmetic."""

import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from codebound.errors import InputError
from codebound.theory.bounds import best_known
from codebound.theory.converse import converse

# (dim, codebook_size): least certified value, so that a regression in tightness shows.
FLOOR = {
    (1, 2): 0.3628,
    (2, 4): 0.7262,
    (3, 8): 1.0452,
    (4, 16): 1.3383,
    (6, 64): 1.9185,
    (8, 256): 2.4785,
    (10, 1024): 3.0262,
    (12, 4096): 3.5658,
    (16, 65536): 4.6300,
}


@pytest.mark.parametrize(("dim", "size"), FLOOR)
def test_is_tight_and_below_the_best_known_code(dim, size):
    result = converse(dim, size)
    assert FLOOR[dim, size] <= result.certified <= result.grid
    assert result.winner == "linear program"
    assert result.certified == result.linear_program > result.shannon
    assert result.shannon == pytest.approx(dim / 4)
    known = best_known(dim, size)
    if known is not None:
        assert result.certified < known.distortion


def test_anchor_eight_dimensions():
    assert converse(8, 256).grid == pytest.approx(2.479, abs=0.005)


def expected_gain(result, norms):
    """E (tau(|x|) - |x - c|^2)_+ by plain quadrature, sharing no code with the certificate.

    Given r, the cosine of the angle is 2 Beta((k-1)/2, (k-1)/2) - 1.
    """
    edges, tau, k = result.edges, result.thresholds, result.dim
    nodes, weights = np.polynomial.legendre.leggauss(3)
    width = np.diff(edges)[:, None]
    radius = (edges[:-1, None] + width * (nodes + 1) / 2).ravel()
    mass = (width * weights / 2).ravel() * stats.chi(k).pdf(radius)
    threshold = np.repeat(tau, 3)
    angle = stats.beta((k - 1) / 2, (k - 1) / 2)
    probability = (np.arange(4000) + 0.5) / 4000
    cosine = 2 * angle.ppf(probability) - 1
    totals = []
    for norm in norms:
        distance = radius[:, None] ** 2 + norm**2 - 2 * radius[:, None] * norm * cosine
        totals.append(mass @ np.maximum(threshold[:, None] - distance, 0.0).mean(1))
    return np.array(totals)


@pytest.mark.parametrize(("dim", "size"), [(2, 4), (4, 16), (6, 40), (8, 3)])
def test_multiplier_dominates_every_codeword(dim, size):
    """Dual feasibility at random norms, and at those where it is tightest."""
    result = converse(dim, size)
    rng = np.random.default_rng(0)
    heavy = result.codeword_norms[result.codeword_measure > 0.05 * size]
    norms = np.concatenate([rng.uniform(0, result.edges[-1], 12), heavy[:4]])
    gains = expected_gain(result, norms)
    assert (gains <= result.multiplier * (1 + 1e-5)).all()
    # Complementary slackness: where the program puts codewords the constraint is active.
    assert gains[12:].max() > 0.99 * result.multiplier


@pytest.mark.parametrize(("dim", "size"), [(1, 2), (2, 4), (8, 256), (16, 65536)])
def test_multiplier_dominates_a_fine_grid(dim, size):
    """The same on 5,000 random norms with the closed form, itself checked above and below."""
    from codebound.theory.converse import _gain

    result = converse(dim, size)
    norms = np.random.default_rng(1).uniform(0, result.edges[-1] + 3, 5_000)
    edges = result.edges
    # Two-point Gauss in each cell; the integrand is smooth there but for the edge of the ball.
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    total = np.zeros(len(norms))
    for sign in (-1, 1):
        radius = middle + sign * half / math.sqrt(3)
        mass = half * np.exp(stats.chi(dim).logpdf(radius))
        for part in np.array_split(np.arange(len(norms)), 5):
            total[part] += mass @ _gain(radius[:, None], norms[part], result.thresholds[:, None], dim)
    assert total.max() <= result.multiplier * (1 + 1e-6)
    assert total.max() > 0.995 * result.multiplier


@pytest.mark.parametrize(("dim", "size"), [(2, 4), (8, 256), (8, 3)])
def test_value_is_what_the_certificate_says(dim, size):
    result = converse(dim, size)
    mass = np.diff(stats.chi(dim).cdf(result.edges))
    assert result.linear_program == pytest.approx(
        mass @ result.thresholds - size * result.multiplier, abs=1e-9
    )


def test_the_inequality_holds_pointwise_for_arbitrary_codes():
    """min d >= tau - sum (tau - d)_+, averaged over samples, for bad codes and good ones alike."""
    rng = np.random.default_rng(2)
    for dim, size in [(2, 4), (8, 16)]:
        result = converse(dim, size)
        samples = rng.standard_normal((5000, dim))
        radius = np.linalg.norm(samples, axis=1)
        cell = np.searchsorted(result.edges, radius) - 1
        inside = (cell >= 0) & (cell < len(result.thresholds))
        tau = np.where(inside, result.thresholds[np.clip(cell, 0, len(result.thresholds) - 1)], 0.0)
        for scale in (0.0, 0.5, 1.0):
            codebook = scale * rng.standard_normal((size, dim))
            distance = ((samples[:, None] - codebook) ** 2).sum(-1)
            right = tau - np.maximum(tau[:, None] - distance, 0).sum(1)
            assert (distance.min(1) >= right - 1e-12).all()
            assert result.certified < distance.min(1).mean()


def lloyd(samples, size, steps=60):
    codebook = samples[:size].copy()
    for _ in range(steps):
        index = ((samples**2).sum(1)[:, None] - 2 * samples @ codebook.T + (codebook**2).sum(1)).argmin(1)
        for j in range(size):
            if (index == j).any():
                codebook[j] = samples[index == j].mean(0)
    return codebook


@pytest.mark.parametrize(("dim", "size"), [(1, 3), (2, 4), (2, 7), (3, 8), (4, 16), (5, 2)])
def test_no_trained_codebook_goes_below(dim, size):
    rng = np.random.default_rng(3)
    codebook = lloyd(rng.standard_normal((10_000, dim)), size)
    fresh = rng.standard_normal((100_000, dim))
    error = ((fresh**2).sum(1)[:, None] - 2 * fresh @ codebook.T + (codebook**2).sum(1)).min(1)
    certified = converse(dim, size).certified
    spread = error.std() / math.sqrt(len(error))
    assert certified < error.mean() + 3 * spread
    # Within 6 %: a bound that is far too low would pass every other test here.
    assert certified > 0.94 * error.mean()


def test_gain_and_fraction_against_quadrature():
    from codebound.theory.converse import _caps, _gain

    rng = np.random.default_rng(4)
    for dim in (1, 2, 3, 8, 16):
        for _ in range(5):
            radius, norm, within = rng.uniform(0.1, 4, 3)
            integral, _ = integrate.quad(
                lambda t, r=radius, c=norm, k=dim: float(_caps(r, c, t, k)[3]),
                0,
                within,
                points=[t for t in ((radius - norm) ** 2, (radius + norm) ** 2) if t < within] or None,
                limit=200,
            )
            assert _gain(radius, norm, within, dim) == pytest.approx(integral, abs=1e-7)
    # Fraction in 3 dimensions is linear in the cosine (Archimedes).
    assert _caps(1.0, 1.0, 1.0, 3)[3] == pytest.approx(0.25)
    assert _caps(np.float64(2.0), 0.0, 3.9, 5)[3] == 0
    assert _caps(np.float64(2.0), 0.0, 4.1, 5)[3] == 1


def test_one_dimension_is_below_lloyd_max():
    for size, exact in [(2, 0.363380227632), (4, 0.117481847829)]:
        certified = converse(1, size).certified
        assert 0.97 * exact < certified < exact


def test_two_codewords_have_a_closed_form():
    # Best pair: +-sqrt(2/pi) e, distortion k - 2/pi.
    for dim in (2, 20):
        certified = converse(dim, 2).certified
        assert dim - 2 / math.pi - 0.004 < certified < dim - 2 / math.pi


def test_one_codeword_leaves_the_variance():
    assert converse(5, 1, 2.0).certified == 10.0


def test_scales_with_variance():
    unit, scaled = converse(4, 16), converse(4, 16, 2.5)
    for name in ("certified", "linear_program", "shannon", "grid", "multiplier"):
        assert getattr(scaled, name) == pytest.approx(2.5 * getattr(unit, name), rel=1e-12)
    np.testing.assert_allclose(scaled.edges, math.sqrt(2.5) * unit.edges)
    mass = np.diff(special.gammainc(2, scaled.edges**2 / 2.5 / 2))
    assert mass @ scaled.thresholds - 16 * scaled.multiplier == pytest.approx(scaled.linear_program)


def test_falls_with_the_codebook_and_never_below_shannon():
    values = [converse(3, n).certified for n in (1, 2, 5, 13)]
    assert (np.diff(values) < 0).all()
    high_rate = converse(2, 10**9)
    assert high_rate.winner == "Shannon"
    assert high_rate.certified == high_rate.shannon == pytest.approx(2e-9)
    assert math.isnan(high_rate.grid)
    assert converse(64, 2**64).certified > 16.0


def test_result_is_shared_and_cannot_be_written():
    result = converse(4, 16)
    assert converse(4, 16) is result
    with pytest.raises(ValueError, match="read-only"):
        result.thresholds[0] = 1.0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((0, 4), "dim is 0"),
        ((2, 0), "codebook_size is 0"),
        ((2, 10**400), r"codebook_size is 2\^1329"),
        ((2, 4, 0.0), "variance"),
        ((2, 4, math.nan), "variance"),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(InputError, match=match):
        converse(*arguments)
