"""Lloyd-Max against tables and quadrature; Lloyd and LBG against anchors and their own invariants."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from codebound import search
from codebound.errors import InputError
from codebound.theory import lloyd as reference
from codebound.theory.lloyd import lbg, lloyd, lloyd_max


def gaussian_samples(n: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("levels", "distortion", "entropy"),
    # Max 1960, table 1; its entry for 16 levels is 4e-6 below the exact value.
    [
        (1, 1.0, 0.0),
        (2, 0.3634, 1.0),
        (3, 0.1902, 1.536),
        (4, 0.1175, 1.911),
        (8, 0.03454, 2.825),
        (16, 0.009497, 3.765),
    ],
)
def test_lloyd_max_table(levels, distortion, entropy):
    quantizer = lloyd_max(levels)
    assert quantizer.distortion == pytest.approx(distortion, rel=5e-4)
    assert quantizer.entropy_bits == pytest.approx(entropy, abs=6e-4)


def test_two_levels_in_closed_form():
    quantizer = lloyd_max(2, 4.0)
    np.testing.assert_allclose(quantizer.levels, 2 * math.sqrt(2 / math.pi) * np.array([-1, 1]), rtol=1e-13)
    assert quantizer.distortion == pytest.approx(4 * (1 - 2 / math.pi), rel=1e-13)


@pytest.mark.parametrize("levels", [5, 16, 64])
def test_lloyd_max_by_quadrature(levels):
    quantizer = lloyd_max(levels, 2.0)
    edges = np.concatenate([[-15], quantizer.thresholds, [15]])

    def density(x):
        return stats.norm.pdf(x, scale=math.sqrt(2))

    distortion = 0.0
    for low, high, level in zip(edges[:-1], edges[1:], quantizer.levels, strict=True):
        mass = integrate.quad(density, low, high, epsabs=1e-13)[0]
        first = integrate.quad(lambda x: x * density(x), low, high, epsabs=1e-13)[0]
        assert first / mass == pytest.approx(level, abs=1e-7)
        distortion += integrate.quad(lambda x, c=level: (x - c) ** 2 * density(x), low, high, epsabs=1e-13)[0]
    assert quantizer.distortion == pytest.approx(distortion, rel=1e-8)
    np.testing.assert_allclose(
        quantizer.thresholds, (quantizer.levels[:-1] + quantizer.levels[1:]) / 2, rtol=1e-12, atol=1e-12
    )


def test_lloyd_max_tends_to_panter_dite():
    for levels, rel in ((256, 0.01), (4096, 0.001)):
        asymptote = math.pi * math.sqrt(3) / (2 * levels**2)
        assert lloyd_max(levels).distortion == pytest.approx(asymptote, rel=rel)


def test_lloyd_on_ten_thousand_samples():
    z, fresh = gaussian_samples(10_000, 8, 0), gaussian_samples(100_000, 8, 1)
    result = lloyd(z, z[:256], iterations=300)
    assert bool(result.converged)
    assert float(result.distortion) == pytest.approx(2.30, abs=0.02)
    assert float(search.distortion(fresh, result.codebook)) == pytest.approx(2.67, abs=0.01)


@pytest.mark.parametrize("empty", ["split", "keep"])
def test_distortion_never_rises_and_belongs_to_the_codebook(empty):
    z = gaussian_samples(3000, 4, 2)
    result = lloyd(z, 0.01 * z[:200] + 1.0, iterations=60, tolerance=0.0, empty=empty)
    assert (result.history.diff() <= 0).all()
    assert result.history[-1] == result.distortion
    assert len(result.history) == result.iterations + 1
    # An independent brute force in float64.
    exact = torch.cdist(z.double(), result.codebook.double()).square().min(1).values.mean()
    assert float(result.distortion) == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_the_distortion_keeps_its_digits_far_from_the_origin_and_where_it_is_small(offset):
    z = gaussian_samples(500, 3, 5) * 1e-2 + offset
    result = lloyd(z, z[:400], iterations=3, tolerance=0.0)
    exact = torch.cdist(z.double(), result.codebook.double()).square().min(1).values.mean()
    assert float(result.distortion) == pytest.approx(float(exact), rel=1e-5)


def test_fixed_point_has_codewords_at_their_means():
    z = gaussian_samples(2000, 3, 3)
    result = lloyd(z, z[:32], iterations=500, tolerance=0.0)
    counts, sums = search.assignment_sums(z, search.nearest(z, result.codebook), 32)
    torch.testing.assert_close(result.codebook.double(), sums / counts[:, None], atol=1e-5, rtol=1e-5)
    assert bool(result.converged)


def test_agrees_with_an_independent_k_means():
    cluster = pytest.importorskip("sklearn.cluster")
    z = gaussian_samples(4000, 5, 4)
    theirs = cluster.KMeans(24, init=z[:24].numpy(), n_init=1, max_iter=300, tol=0).fit(z.numpy())
    ours = lloyd(z, z[:24], iterations=300, tolerance=0.0)
    assert float(ours.distortion) == pytest.approx(theirs.inertia_ / 4000, rel=1e-5)


def test_one_dimension_approaches_lloyd_max():
    z = gaussian_samples(200_000, 1, 5)
    result = lloyd(z, torch.linspace(-1, 1, 8)[:, None], iterations=500, tolerance=1e-9)
    assert float(result.distortion) == pytest.approx(lloyd_max(8).distortion, rel=0.01)
    np.testing.assert_allclose(np.sort(result.codebook[:, 0].numpy()), lloyd_max(8).levels, atol=0.03)


def test_empty_cells_are_split_and_all_codewords_get_used():
    centres = 20 * gaussian_samples(16, 4, 6)
    z = (centres.repeat(50, 1) + 0.1 * gaussian_samples(800, 4, 7)).contiguous()
    # All but one codeword far away and empty.
    start = torch.cat([z[:1], torch.full((15, 4), 1e3) + gaussian_samples(15, 4, 8)])
    split = lloyd(z, start)
    keep = lloyd(z, start, empty="keep")
    assert len(search.nearest(z, split.codebook).unique()) == 16
    assert float(split.distortion) < 0.5 * float(keep.distortion)
    assert len(search.nearest(z, keep.codebook).unique()) < 16
    again = lloyd(z, start)
    assert torch.equal(split.codebook, again.codebook)


@pytest.mark.parametrize(("n", "dim", "k"), [(3000, 3, 100), (2000, 1, 60), (500, 8, 200)])
def test_looking_only_at_codewords_that_can_win_changes_nothing(n, dim, k, monkeypatch):
    z = gaussian_samples(n, dim, 5)
    whole = lloyd(z, z[:k].clone(), iterations=30)
    monkeypatch.setattr(reference, "LARGE", 0)
    assert torch.allclose(lloyd(z, z[:k].clone(), iterations=30).history, whole.history, rtol=1e-12)
    monkeypatch.setattr(reference, "_reassigned", lambda *_: pytest.fail("was called"))
    with pytest.raises(pytest.fail.Exception):  # the shortcut was on
        lloyd(z, z[:k].clone(), iterations=30)


def test_batched_runs_equal_single_ones():
    z = gaussian_samples(1500, 3, 9)
    starts = torch.stack([z[:16], z[100:116], 0.001 * z[:16]])
    together = lloyd(z, starts, iterations=15, tolerance=0.0)
    own = lloyd(z.expand(3, -1, -1), starts, iterations=15, tolerance=0.0)
    for m in range(3):
        alone = lloyd(z, starts[m], iterations=15, tolerance=0.0)
        torch.testing.assert_close(together.codebook[m], alone.codebook)
        torch.testing.assert_close(own.codebook[m], alone.codebook)
        torch.testing.assert_close(together.history[:, m], alone.history)


def test_far_from_the_origin_nothing_changes():
    z = gaussian_samples(2000, 3, 10).double()
    here = lloyd(z, z[:16], iterations=20, tolerance=0.0)
    there = lloyd(z + 1e5, z[:16] + 1e5, iterations=20, tolerance=0.0)
    assert float(there.distortion) == pytest.approx(float(here.distortion), rel=1e-6)


@pytest.mark.parametrize("size", [1, 2, 16, 24])
def test_lbg_sizes(size):
    z = gaussian_samples(4000, 2, 11)
    result = lbg(z, size)
    assert result.codebook.shape == (size, 2)
    assert len(search.nearest(z, result.codebook).unique()) == size
    if size == 1:
        torch.testing.assert_close(result.codebook[0], z.mean(0))
    if size == 16:
        # Best known at (2, 4) is .7254 for n = 4; n = 16 lies between Shannon's 2/16 and a random code's.
        assert 0.125 < float(result.distortion) < 0.27


def test_lbg_is_no_worse_than_data_samples():
    z = gaussian_samples(5000, 8, 12)
    assert float(lbg(z, 64).distortion) < 1.01 * float(lloyd(z, z[:64]).distortion)


def test_degenerate_samples_terminate():
    result = lloyd(torch.ones(50, 2), gaussian_samples(8, 2, 13))
    assert float(result.distortion) == 0.0
    assert bool(result.converged)
    assert torch.isfinite(lbg(torch.ones(50, 2), 4).codebook).all()


def test_each_empty_codeword_gets_its_own_cell_and_one_too_many_stays():
    z = torch.tensor([[0.0, 0.0], [0.0, 4.0], [10.0, 0.0], [11.0, 0.0]])
    codebook = torch.tensor([[99.0, 99.0], [10.5, 0.0], [88.0, 88.0], [0.0, 2.0], [77.0, 77.0]])
    refilled = reference._refill(
        z, codebook, torch.tensor([3, 3, 1, 1]), torch.tensor([0.0, 2.0, 0.0, 2.0, 0.0])
    )
    expected = torch.tensor([[0.0, 4.0], [10.5, 0.0], [11.0, 0.0], [0.0, 2.0], [77.0, 77.0]])
    torch.testing.assert_close(refilled, expected)


def test_offspring_come_worst_cell_first():
    z = torch.tensor([[0.0, 0.0], [0.0, 4.0], [10.0, 0.0], [11.0, 0.0]])
    codebook = torch.tensor([[10.5, 0.0], [0.0, 2.0]])
    indices = torch.tensor([1, 1, 0, 0])
    offspring, errors = reference._offspring(z, codebook, indices, torch.tensor([2.0, 2.0]))
    torch.testing.assert_close(offspring, torch.tensor([[0.0, 4.0], [11.0, 0.0]]))
    torch.testing.assert_close(errors, torch.tensor([8.0, 0.5], dtype=torch.float64))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: lloyd_max(0), "levels"),
        (lambda: lloyd_max(5000), "levels"),
        (lambda: lloyd_max(4, 0.0), "variance"),
        (lambda: lloyd(torch.ones(0, 2), torch.ones(4, 2)), "z"),
        (lambda: lloyd(torch.tensor([[math.nan, 1.0]]), torch.ones(4, 2)), "z"),
        (lambda: lloyd(torch.ones(5, 2), torch.ones(4, 2), iterations=0), "iterations"),
        (lambda: lbg(torch.ones(5, 2), 6), "codebook_size"),
        (lambda: lbg(torch.ones(5, 2), 0), "codebook_size"),
    ],
)
def test_refusals_name_the_argument(call, name):
    with pytest.raises(InputError, match=name):
        call()
