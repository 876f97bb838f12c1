"""Initialisations, seedings and lattice codes."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from codebound import VectorQuantizer
from codebound.errors import InputError
from codebound.quantize import seeding
from codebound.quantize.init import (
    Best,
    Init,
    KMeans,
    Lattice,
    Normal,
    RateDistortion,
    Sample,
    Synthetic,
    Uniform,
    Xavier,
)
from codebound.quantize.lattice import e8_code, nearest_in_d, nearest_in_e8
from codebound.quantize.seeding import kmeans_parallel, kmeans_plus_plus
from codebound.search import distortion

INITS: list[Init] = [
    Uniform(),
    Normal(0.5),
    Xavier(),
    Sample(),
    KMeans(),
    KMeans(0, "k-means||"),
    KMeans(1, "sample"),
    RateDistortion("isotropic"),
    RateDistortion("water_filling"),
    RateDistortion("finite"),
    Synthetic(samples_per_codeword=20),
    Lattice(samples_per_codeword=20),
]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(rows: int, dim: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(rows, dim, generator=rng(seed))


@pytest.mark.parametrize("init", INITS, ids=str)
@pytest.mark.parametrize(("dim", "codebook_size"), [(8, 64), (1, 5), (3, 17)])
def test_shape_finite_and_deterministic(init: Init, dim: int, codebook_size: int) -> None:
    z = 3.0 + 0.5 * normal(200, dim)
    before = z.clone()
    codewords = init(z, codebook_size, rng(1))
    assert codewords.shape == (codebook_size, dim)
    assert codewords.dtype == torch.float32
    assert codewords.isfinite().all()
    assert torch.equal(codewords, init(z, codebook_size, rng(1)))
    assert torch.equal(z, before)


@pytest.mark.parametrize("init", INITS[3:], ids=str)
def test_data_driven_ones_move_with_the_data(init: Init) -> None:
    """A shift and a scale of the batch shift and scale the codewords."""
    z = normal(400)
    codewords, moved = init(z, 32, rng(1)), init(z * 4.0 + 16.0, 32, rng(1))
    assert torch.allclose(moved.mean(0), 4.0 * codewords.mean(0) + 16.0, atol=0.8)
    assert float(moved.std()) == pytest.approx(4.0 * float(codewords.std()), rel=0.1)


def test_ranges_of_those_that_look_at_no_data() -> None:
    z = normal(10)
    assert 0.9 / 256 < float(Uniform()(z, 256, rng()).abs().max()) <= 1 / 256
    assert float(Normal(0.5)(z, 5000, rng()).std()) == pytest.approx(0.5, rel=0.02)
    bound = (6.0 / (256 + 8)) ** 0.5
    assert 0.95 * bound < float(Xavier()(z, 256, rng()).abs().max()) <= bound


def test_sample_gives_different_rows() -> None:
    z = normal(64)
    codewords = Sample()(z, 64, rng())
    assert torch.equal(codewords.sort(dim=0).values, z.sort(dim=0).values)  # each row once
    assert not torch.equal(codewords, z)


@pytest.mark.parametrize("seeds_by", ["k-means++", "k-means||", "sample"])
def test_kmeans_improves_its_seeds(seeds_by) -> None:
    z = normal(1000)
    seeds, refined = KMeans(0, seeds_by)(z, 64, rng(2)), KMeans(50, seeds_by)(z, 64, rng(2))
    assert float(distortion(z, refined)) < 0.9 * float(distortion(z, seeds))


def test_kmeans_parallel_is_as_good_after_lloyd() -> None:
    centres = normal(30, seed=7) * 5
    z = centres[torch.arange(3000) % 30] + 0.3 * normal(3000, seed=8)
    plus, parallel = (
        sum(float(distortion(z, KMeans(50, seeds_by)(z, 60, rng(s)))) for s in range(5))
        for seeds_by in ("k-means++", "k-means||")
    )
    assert parallel < 1.03 * plus


def test_seeding_survives_few_distinct_rows() -> None:
    z = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(50, 1)
    for seed in (kmeans_plus_plus, kmeans_parallel):
        seeds = seed(z, 8, rng())
        assert seeds.shape == (8, 2)
        assert len(seeds.unique(dim=0)) == 2


@pytest.mark.slow
def test_rounds_draw_as_one_by_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # 5 points on a line, 3 seeds: which set is drawn, over 2,000 draws of either kind.
    z = torch.tensor([[0.0], [1.0], [3.0], [3.5], [9.0]])
    monkeypatch.setattr(seeding, "FIRST", 1)
    monkeypatch.setattr(seeding, "GROWTH", 2)
    counts = []
    for limit in (0, 2**24):
        monkeypatch.setattr(seeding, "ONE_BY_ONE", limit)
        drawn = [tuple(sorted(kmeans_plus_plus(z, 3, rng(s)).flatten().tolist())) for s in range(2_000)]
        counts.append(Counter(drawn))
    for members in counts[0] | counts[1]:  # five standard deviations of the difference of two counts
        rounds, single = counts[0][members], counts[1][members]
        assert abs(rounds - single) < 5 * (rounds + single) ** 0.5


def test_rounds_are_as_good_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    z = normal(8000)
    errors = []
    for limit in (0, 2**24):
        monkeypatch.setattr(seeding, "ONE_BY_ONE", limit)
        seeds = [kmeans_plus_plus(z, 800, rng(s)) for s in range(5)]
        assert all(len(each.unique(dim=0)) == 800 for each in seeds)
        errors.append([float(distortion(z, each)) for each in seeds])
    assert np.mean(errors[0]) == pytest.approx(np.mean(errors[1]), rel=0.01)


def test_rate_distortion_variances() -> None:
    scale = torch.tensor([3.0, 2.0, 1.0, 0.5])
    z = normal(100_000, 4) * scale
    sampled = {
        rule: RateDistortion(rule)(z, 65_536, rng(3)).var(0) for rule in ("isotropic", "water_filling")
    }
    mean_variance = float(scale.square().mean())
    # 16 bits: σ²(1 − 2^(−2·16/4)); every axis the same
    assert torch.allclose(sampled["isotropic"], torch.full((4,), mean_variance * (1 - 2**-8)), rtol=0.03)
    level = float(scale.square().prod()) ** 0.25 * 2**-8  # all axes above the water at this rate
    assert torch.allclose(sampled["water_filling"], scale.square() - level, rtol=0.03)


def test_water_filling_leaves_drowned_axes_empty() -> None:
    z = normal(2000, 4) * torch.tensor([3.0, 2.0, 1.0, 0.5])
    axes = RateDistortion("water_filling")(z, 16, rng()).var(0)  # D(R) = 1.81 at 4 bits, level .75
    assert float(axes[3]) < 0.02
    assert float(axes[0]) > 3


def test_e8_code_has_the_best_distortion_known() -> None:
    code = e8_code()
    assert code.shape == (256, 8)
    z = normal(1_000_000, seed=5)
    assert float(distortion(z, code)) == pytest.approx(2.5275, abs=0.004)


def test_nearest_lattice_points_against_brute_force() -> None:
    x = 2 * normal(300, 8, seed=6)
    # A coordinate outside floor and ceiling could move by 2, keep the parity and come nearer: these are all.
    corners = torch.cartesian_prod(*[torch.arange(2.0)] * 8)

    def least(shift: float) -> Tensor:
        points = (x - shift).floor().unsqueeze(1) + corners
        squares = (x.unsqueeze(1) - shift - points).square().sum(-1)
        return torch.where(points.sum(-1) % 2 == 0, squares, torch.inf).amin(-1)

    assert torch.allclose((x - nearest_in_d(x)).square().sum(-1), least(0.0), atol=1e-5)
    assert torch.allclose(
        (x - nearest_in_e8(x)).square().sum(-1), torch.minimum(least(0.0), least(0.5)), atol=1e-5
    )
    assert (nearest_in_d(x).sum(-1) % 2 == 0).all()
    doubled = 2 * nearest_in_e8(x)
    assert torch.equal(doubled, doubled.round())
    assert ((nearest_in_e8(x).sum(-1) % 2).abs() < 1e-4).all()
    assert torch.equal(nearest_in_d(torch.tensor([[0.4], [1.6]])), torch.tensor([[0.0], [2.0]]))


def test_lattice_is_near_the_e8_code() -> None:
    codewords = Lattice()(normal(10_000), 256, rng())
    assert float(distortion(normal(200_000, seed=9), codewords)) < 2.54


SOURCE_CENTRES = 3 * normal(20, seed=11)


def mixture(rows: int, seed: int) -> Tensor:
    return SOURCE_CENTRES[torch.arange(rows) % 20] + 0.3 * normal(rows, seed=seed)


@pytest.mark.parametrize("source", ["gaussian", "mixture"])
def test_best_is_as_good_as_its_best_candidate(source: str) -> None:
    draw = (lambda rows, seed: normal(rows, seed=seed)) if source == "gaussian" else mixture
    candidates = (KMeans(), KMeans(1, "sample"), Synthetic(), Lattice(20))
    scores = torch.zeros(len(candidates) + 1)
    for seed in range(3):
        z, fresh = draw(1000, 2 * seed), draw(20_000, 2 * seed + 1)
        for i, init in enumerate((*candidates, Best(candidates))):
            scores[i] += distortion(fresh, init(z, 256, rng(seed)))
    assert float(scores[-1]) < 1.01 * float(scores[:-1].min())
    assert float(scores[:-1].max()) > 1.1 * float(scores[:-1].min())  # there was something to choose


def test_best_skips_what_a_size_does_not_allow() -> None:
    z = 2.0 + 0.0 * normal(100, 2)  # one point: no lattice of 16 points is hit
    with pytest.raises(InputError, match="lattice"):
        Lattice()(z, 16, rng())
    assert Best((Lattice(), KMeans()))(z, 16, rng()).shape == (16, 2)
    with pytest.raises(InputError, match="no candidate"):
        Best((Lattice(),))(z, 16, rng())


@pytest.mark.parametrize("init", [Sample(), KMeans(), Best()], ids=str)
def test_too_few_rows(init: Init) -> None:
    with pytest.raises(InputError, match="at least"):
        init(normal(15), 16, rng())
    with pytest.raises(InputError, match="at least"):
        VectorQuantizer(8, 16, init=init).init_(normal(15))


@pytest.mark.parametrize("init", [RateDistortion(), Synthetic(), Lattice()], ids=str)
def test_one_row_has_no_covariance(init: Init) -> None:
    with pytest.raises(InputError, match="at least 2 rows"):
        init(normal(1), 16, rng())


def test_settings_out_of_range() -> None:
    with pytest.raises(InputError, match="candidates"):
        Best(())
    with pytest.raises(InputError, match="held_out"):
        Best(held_out=1.0)
