"""Samples of the integer prior: distributed as it says, the same alone or in any batch, and never out of range."""

import math

import numpy as np
import pytest
import torch

from codebound.errors import InputError
from codebound.generators import neighbours
from codebound.generators.neighbours import grid_bits, sample_grids
from codebound.priors.fitting import FitSettings, cross_entropy, fit_prior

SMALL = FitSettings(steps=300, batch_size=128, width=4, hidden=16)


@pytest.fixture(scope="module")
def prior():
    """Of rows in which a 0 is mostly followed by a 1, and a 1 by a 2, of 3."""
    rng = np.random.default_rng(0)
    grid = np.empty((64, 8, 1), dtype=np.int64)
    grid[:, 0, 0] = rng.integers(3, size=64)
    for column in range(1, 8):
        grid[:, column, 0] = np.where(
            rng.random(64) < 0.9, (grid[:, column - 1, 0] + 1) % 3, rng.integers(3, size=64)
        )
    return fit_prior([grid], (3,), SMALL)


def test_samples_are_distributed_as_the_prior_says(prior):
    # All grids of 1×2: their shares among samples, and the probabilities that the integer networks give them.
    samples = sample_grids(prior, 4000, (1, 2), seed=3).numpy()
    for one in range(3):
        for other in range(3):
            grid = np.array([[[one], [other]]])
            expected = 2 ** -(2 * float(cross_entropy(prior, [grid])[0]))
            share = float((samples == grid).all((1, 2, 3)).mean())
            assert share == pytest.approx(expected, abs=4 * math.sqrt(expected / 4000) + 1e-3)


def test_a_sample_depends_on_seed_and_number_alone(prior, monkeypatch):
    whole = sample_grids(prior, 9, (4, 5), seed=1)
    assert whole.shape == (9, 4, 5, 1)
    assert torch.equal(sample_grids(prior, 3, (4, 5), seed=1, first=6), whole[6:])
    assert not torch.equal(sample_grids(prior, 9, (4, 5), seed=2), whole)
    monkeypatch.setattr(neighbours, "BATCH", 4)
    assert torch.equal(sample_grids(prior, 9, (4, 5), seed=1), whole)


def test_temperature_sharpens_and_0_takes_the_likeliest(prior):
    # 1 × 2: shares among samples beside the networks' probabilities to the power of 1 / T, index by index.
    samples = sample_grids(prior, 4000, (1, 2), temperature=0.5, seed=3).numpy()[:, 0, :, 0]
    chances = np.array(
        [[2 ** -float(grid_bits(prior, torch.tensor([[[[a], [b]]]]))[0]) for b in range(3)] for a in range(3)]
    )
    first = chances.sum(1) ** 2 / (chances.sum(1) ** 2).sum()
    second = chances**2 / (chances**2).sum(1, keepdims=True)
    for a in range(3):
        for b in range(3):
            share, expected = float((samples == (a, b)).all(1).mean()), first[a] * second[a, b]
            assert share == pytest.approx(expected, abs=4 * math.sqrt(expected / 4000) + 2e-3)
    coldest = sample_grids(prior, 3, (4, 5), temperature=0.0, seed=1)
    assert torch.equal(coldest, sample_grids(prior, 3, (4, 5), temperature=0.0, seed=2))
    assert torch.equal(coldest, sample_grids(prior, 3, (4, 5), temperature=1e-9, seed=2))
    assert (coldest == coldest[0]).all()


def test_bits_of_each_grid_are_those_of_all(prior):
    samples = sample_grids(prior, 6, (4, 5), seed=0)
    whole = float(cross_entropy(prior, list(samples.numpy()))[0]) * 6 * 20
    assert float(grid_bits(prior, samples).sum()) == pytest.approx(whole, rel=1e-12)
    assert grid_bits(prior, samples[:0]).shape == (0,)


def test_samples_follow_what_was_learned(prior):
    samples = sample_grids(prior, 50, (8, 8), seed=0)[..., 0]
    follows = samples[:, :, 1:] == (samples[:, :, :-1] + 1) % 3
    assert 0.75 < float(follows.double().mean()) < 1


def test_two_digits_and_two_levels_stay_in_range():
    sizes = (600, 5)  # 600 is two digits whose largest pairs are no index
    rng = np.random.default_rng(0)
    grids = [np.stack([rng.integers(590, 600, (4, 4)), rng.integers(5, size=(4, 4))], -1) for _ in range(8)]
    samples = sample_grids(fit_prior(grids, sizes, SMALL), 50, (4, 4), seed=0)
    assert samples.shape == (50, 4, 4, 2)
    assert int(samples[..., 0].max()) < 600
    assert int(samples[..., 1].max()) < 5
    assert float((samples[..., 0] >= 576).double().mean()) > 0.5  # the high digit of 590 … 599


def test_nothing_and_bad_numbers(prior):
    assert sample_grids(prior, 0, (4, 5)).shape == (0, 4, 5, 1)
    with pytest.raises(InputError, match="grid=0x5"):
        sample_grids(prior, 1, (0, 5))
    with pytest.raises(InputError, match="count"):
        sample_grids(prior, -1, (4, 5))
    with pytest.raises(InputError, match="seed"):
        sample_grids(prior, 1, (4, 5), seed=-1)
    with pytest.raises(InputError, match="temperature"):
        sample_grids(prior, 1, (4, 5), temperature=-1.0)
