"""Low-rank sources: exact covariance, known entropy, bounds that hold."""

import numpy as np
import pytest
import torch

from codebound.data import low_rank
from codebound.data.low_rank import LowRank
from codebound.errors import InputError
from codebound.studies.estimators.sources import lower_bound
from codebound.theory.gaussian import water_filling

SPECTRUM = np.geomspace(4, 0.25, 6)


def source(kind: str = "gaussian", **more) -> LowRank:
    return LowRank.draw(kind, 10, SPECTRUM, seed=3, **more)


@pytest.mark.parametrize("kind", ["gaussian", "mixture", "laplace"])
def test_the_covariance_is_the_one_asked_for(kind: str) -> None:
    model = source(kind)
    y = model.coordinates(200_000, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(np.cov(y.T), np.diag(SPECTRUM), atol=0.06)
    if kind == "mixture":
        exact = model.centres.T @ model.centres / len(model.centres) + model.spread @ model.spread.T
        np.testing.assert_allclose(exact, np.diag(SPECTRUM), atol=1e-12)


def test_samples_lie_in_the_subspace_but_for_the_noise() -> None:
    stream = torch.Generator().manual_seed(0)
    model = source()
    x = model.sample(1000, stream).numpy()
    np.testing.assert_allclose(x @ model.axes @ model.axes.T, x, atol=1e-12)
    noisy = source(noise=0.5)
    x = noisy.sample(50_000, stream).numpy()
    found = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    np.testing.assert_allclose(found, noisy.eigenvalues, rtol=0.04)
    assert noisy.eigenvalues[-1] == 0.25


def test_one_wide_cluster_has_the_entropy_of_a_gaussian(monkeypatch) -> None:
    """Clusters that overlap into one are nearly Gaussian; narrow ones have less entropy; none has more."""
    monkeypatch.setattr(low_rank, "_ENTROPY_SAMPLES", 20_000)
    bounds = {w: source("mixture", width=w).entropy_bits(6) for w in (20.0, 1.0, 0.1)}
    gaussian = source().entropy_bits(6)
    assert bounds[20.0] == pytest.approx(gaussian, abs=0.04)
    assert bounds[0.1] < bounds[1.0] < gaussian + 0.04
    # Far apart: log2 of the number of clusters, plus one cluster's entropy.
    tight = source("mixture", width=1e-3)
    own = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * tight.spread @ tight.spread.T)[1] / np.log(2)
    assert tight.entropy_bits(6) == pytest.approx(np.log2(24) + own, abs=0.05)


def test_laplace_entropy_in_closed_form() -> None:
    y = source("laplace").coordinates(200_000, torch.Generator().manual_seed(0)).numpy()
    b = np.sqrt(SPECTRUM / 2)
    surprisal = (np.abs(y) / b + np.log(2 * b)) / np.log(2)
    for k in range(1, 7):
        assert source("laplace").entropy_bits(k) == pytest.approx(surprisal[:, :k].sum(1).mean(), abs=0.02)


@pytest.mark.parametrize("rate", [2, 5, 9])
def test_the_lower_bound_is_below_water_filling_and_meets_it_at_high_rate(rate: int) -> None:
    filled = water_filling(SPECTRUM, rate).distortion
    bound = lower_bound(source(), rate)
    assert 0 < bound <= filled * (1 + 1e-12)
    if rate == 9:
        assert bound == pytest.approx(filled, rel=1e-9)  # all coordinates active: the bound is tight


def test_the_same_seed_the_same_source_and_another_another() -> None:
    a, b, c = source("mixture"), source("mixture"), LowRank.draw("mixture", 10, SPECTRUM, seed=4)
    np.testing.assert_array_equal(a.centres, b.centres)
    assert not np.allclose(a.centres, c.centres)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "cauchy"}, r"'cauchy'; accepted: gaussian, mixture, laplace"),
        ({"dim": 5}, r"6 variances; 1 to dim=5"),
        ({"noise": -1.0}, r"noise is -1.0"),
        ({"kind": "mixture", "components": 6}, r"more than rank=6 components"),
        ({"kind": "mixture", "width": 0.0}, r"positive width"),
        ({"spectrum": np.array([1.0, 0.0])}, r"positive and finite"),
    ],
)
def test_bad_input_is_refused_by_name(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LowRank.draw(**{"kind": "gaussian", "dim": 10, "spectrum": SPECTRUM, "seed": 0, **values})
    with pytest.raises(InputError, match="n is 0"):
        source().sample(0, torch.Generator())
