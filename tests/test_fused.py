"""The search in registers: the same indices as by products of matrices, on every kind of codebook."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from codebound import VectorQuantizer, fused, search


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled search from the first call on."""
    monkeypatch.setattr(search, "WORTH", 0)


def _by_products(z: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_fused", lambda z, k: None)
        return search.nearest(z, book)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("dim", [1, 8, 32])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 2), (5, 15), (64, 16), (301, 17), (100, 700)])
def test_indices_are_those_of_products(dim: int, n: int, k: int) -> None:
    generator = torch.Generator().manual_seed(n * k + dim)
    z, book = torch.randn(n, dim, generator=generator) + 3, torch.randn(k, dim, generator=generator)
    expected = _by_products(z, book)
    assert torch.equal(search.nearest(z, book), expected)
    assert torch.equal(search.nearest(z[:1], book), expected[:1])
    assert torch.equal(search.nearest(z.t().contiguous().t(), book), expected)  # not one row after the other


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1.0, 1e18, 1e37])
def test_ties_at_any_scale_go_to_the_lowest_index(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    z, book = torch.randn(300, 8, generator=generator), torch.randn(7, 8, generator=generator).repeat(9, 1)
    found = search.nearest(z * scale, book * scale)
    assert int(found.max()) < 7
    assert torch.equal(found, _by_products(z * scale, book * scale))


@pytest.mark.usefixtures("at_once")
def test_distances_that_rounding_hides_are_looked_at_again() -> None:
    generator = torch.Generator().manual_seed(1)
    z = 1000 + 1e-3 * torch.randn(500, 8, generator=generator)
    book = torch.cat([1000 + 1e-3 * torch.randn(40, 8, generator=generator), torch.full((1, 8), -1000.0)])
    exact = (z.double().unsqueeze(1) - book.double()).square().sum(-1).argmin(1)
    assert torch.equal(search.nearest(z, book), exact)


@pytest.mark.usefixtures("at_once")
def test_what_is_not_finite() -> None:
    generator = torch.Generator().manual_seed(2)
    z, book = torch.randn(50, 8, generator=generator), torch.randn(30, 8, generator=generator)
    z[3, 2], z[4, 0], book[0, 0], book[5, 1] = torch.nan, torch.inf, torch.nan, torch.inf
    found = search.nearest(z, book)
    assert torch.equal(found, _by_products(z, book))
    assert not {0, 5} & set(found.tolist()[5:])


@pytest.mark.usefixtures("at_once")
def test_several_codebooks_and_none_to_search() -> None:
    generator = torch.Generator().manual_seed(3)
    z, books = torch.randn(40, 8, generator=generator), torch.randn(3, 20, 8, generator=generator)
    assert torch.equal(search.nearest(z, books), _by_products(z, books))
    assert search.nearest(z[:0], books).shape == (3, 0)


@pytest.mark.parametrize("part", [1, 5000])
def test_codebooks_in_parts_change_nothing(part: int) -> None:
    generator = np.random.default_rng(4)
    z, book = (generator.standard_normal((n, 8), dtype=np.float32) for n in (100, 333))
    book[200] = book[3]
    codewords = fused.laid_out(book)
    whole, parts = (fused.best(z, codewords, 1e-6, 1e-6, size) for size in (fused.PART, part))
    for a, b in zip(whole, parts, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(("n", "dim", "k"), [(0, 3, 4), (1000, 8, 16), (5000, 32, 700)])
def test_sums_of_cells_are_the_same_to_the_last_bit(
    monkeypatch: pytest.MonkeyPatch, n: int, dim: int, k: int
) -> None:
    generator = torch.Generator().manual_seed(n)
    z, indices = torch.randn(n, dim, generator=generator), torch.randint(-1, k, (n,), generator=generator)
    expected = search.assignment_sums(z, indices, k)
    monkeypatch.setattr(search, "_searched", search.WORTH)
    for found, value in zip(search.assignment_sums(z, indices, k), expected, strict=True):
        assert torch.equal(found, value)


def test_a_layer_gives_the_same_before_and_after_it_is_worth_compiling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(5)
    z = torch.randn(256, 8, generator=generator)
    layer = VectorQuantizer(8, 64)
    layer.init_(z)
    before = layer(z)
    monkeypatch.setattr(search, "_searched", search.WORTH)
    after = layer(z)
    assert torch.equal(before.indices, after.indices)
    assert torch.equal(before.z_q, after.z_q)


def test_numba_is_not_needed_and_not_loaded_for_a_small_search() -> None:
    script = (
        "import sys, torch; sys.modules['numba'] = None; from codebound import search; search.WORTH = 0;"
        "z = torch.randn(100, 8); print(search.nearest(z, z).equal(torch.arange(100)))"
    )
    light = (
        "import sys, torch; from codebound import search; z = torch.randn(100, 8); search.nearest(z, z);"
        "print('numba' not in sys.modules)"
    )
    for program in (script, light):
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert run.stdout.strip() == "True", run.stderr
