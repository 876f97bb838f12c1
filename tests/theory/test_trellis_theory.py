"""Closed forms of entropy-coded codes: the trellis beside simulation, the scalar one beside known values."""

import math

import numpy as np
import pytest
import torch

from codebound.errors import InputError
from codebound.quantize.lattice import nearest_in_e8
from codebound.quantize.viterbi import cheapest_paths
from codebound.theory.bounds import second_moment
from codebound.theory.gaussian import distortion_rate, gap_db
from codebound.theory.trellis import (
    GRANULAR,
    entropy_constrained_scalar,
    granular_gap_db,
    granular_moment,
    trellis_code,
    trellis_distortion,
)


def coded(x, step, states):
    """The levels of the best path through values `x` [T, B]."""
    u = x / step
    subset = torch.arange(4.0).view(1, 4, 1)
    levels = subset + 4 * ((u.unsqueeze(1) - subset) / 4).round()
    path, _ = cheapest_paths((u.unsqueeze(1) - levels).square(), states)
    return levels.gather(1, path.unsqueeze(1)).squeeze(1)


@pytest.mark.parametrize("states", [4, 8, 32, 128])
def test_granular_moments_by_simulation(states):
    # Free ends lower the error, so only the middle of each sequence counts. A level stands for 2 of 4 units.
    u = torch.rand(480, 512, generator=torch.Generator().manual_seed(states)) * 64
    error = (u - coded(u, 1.0, states)).square()[80:-80] / 4
    assert float(error.mean()) == pytest.approx(granular_moment(states), abs=0.0002)


def test_more_states_lose_less():
    gaps = [granular_gap_db(moment) for moment in GRANULAR.values()]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] > 0
    assert granular_gap_db(1 / 12) == pytest.approx(1.5329, abs=1e-4)  # of single values
    assert granular_gap_db(1 / (2 * math.pi * math.e)) == pytest.approx(0, abs=1e-12)
    assert granular_gap_db(granular_moment(256)) == pytest.approx(0.20, abs=0.01)


@pytest.mark.parametrize(("states", "rate"), [(8, 1.0), (8, 3.3), (32, 0.9)])
def test_closed_form_by_simulation(states, rate):
    variance = 2.5
    distortion = trellis_distortion(rate, states, variance)
    code = trellis_code(distortion, states, variance)
    assert code.rate_bits == pytest.approx(rate)
    assert gap_db(distortion, distortion_rate(rate, 1, variance)) == pytest.approx(
        granular_gap_db(granular_moment(states))
    )

    # The error that it makes away from the free ends, without the chance in the sample's own variance.
    x = torch.randn(480, 512, generator=torch.Generator().manual_seed(1)) * math.sqrt(variance)
    x *= math.sqrt(variance) / x[80:-80].square().mean().sqrt()
    levels = coded(x, code.step, states)
    error = float((x - code.gain * code.step * levels).square()[80:-80].mean())
    assert error == pytest.approx(distortion, rel=0.006)

    # What its levels cost when each is coded given its parity, in the distribution that the closed form names.
    values = torch.arange(-200, 201)
    weight = torch.exp(-((values * code.step) ** 2) / (2 * (variance + code.noise)))
    parity = torch.where(values % 2 == 0, weight[::2].sum(), weight[1::2].sum())
    bits = -(weight / parity).log2()
    assert float(bits[levels.long() + 200].mean()) == pytest.approx(rate, abs=0.01)


@pytest.mark.parametrize(("rate", "gap"), [(0.5, 0.916), (1.0, 1.440), (2.0, 1.531), (3.0, 1.533)])
def test_best_scalar_quantizer(rate, gap):
    code = entropy_constrained_scalar(rate)
    assert code.entropy_bits == pytest.approx(rate, abs=1e-6)
    assert gap_db(code.distortion, distortion_rate(rate, 1)) == pytest.approx(gap, abs=0.001)

    # Simulated: its cells have that error and that entropy.
    x = np.random.default_rng(0).standard_normal(400_000)
    cell = np.searchsorted(code.thresholds, x)
    share = np.bincount(cell, minlength=len(code.levels)) / len(x)
    entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
    assert ((x - code.levels[cell]) ** 2).mean() == pytest.approx(code.distortion, rel=0.01)
    assert entropy == pytest.approx(rate, abs=0.01)


def test_best_scalar_quantizer_scales():
    one, four = entropy_constrained_scalar(1.5), entropy_constrained_scalar(1.5, 4.0)
    assert four.distortion == pytest.approx(4 * one.distortion)
    assert four.levels == pytest.approx(2 * one.levels)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: granular_moment(12), "states is 12"),
        (lambda: trellis_code(1.0, 8), "distortion is 1.0"),
        (lambda: trellis_code(0.5, 8, 0.0), "variance"),
        (lambda: trellis_distortion(0.0, 8), "rate_bits is 0"),
        (lambda: granular_gap_db(0.0), "moment"),
        (lambda: entropy_constrained_scalar(0.0), "rate_bits"),
    ],
)
def test_bad_arguments(call, match):
    with pytest.raises(InputError, match=match):
        call()


def test_lattices_beside_trellises():
    # Whole periods of E8, whose cells have volume 1: the error per component is its second moment.
    x = 2 * torch.rand(100_000, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moment = float((x - nearest_in_e8(x)).square().mean())
    assert moment == pytest.approx(second_moment("E8", 8), rel=0.002)

    # Granular gains of .65 and 1.03 dB over scalars (Conway and Sloane); Leech's lattice is between 4 and 8 states.
    e8, leech = (granular_gap_db(second_moment(*name)) for name in (("E8", 8), ("Leech", 24)))
    assert (1.5329 - e8, 1.5329 - leech) == pytest.approx((0.65, 1.03), abs=0.005)
    assert GRANULAR[8] < second_moment("Leech", 24) < GRANULAR[4] < second_moment("E8", 8) < 1 / 12
