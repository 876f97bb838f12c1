"""Ties: the lowest index wins on every path of the search, whatever the batch and the scale."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from codebound import Residual, VectorQuantizer, exact, search, tiles
from codebound.quantize.assign import Cosine
from codebound.search import nearest

# How the search can be made to run: a small tile at once, tiles in the cache, the one for accelerators, and compiled.
PATHS = ["small", "tiles", "device", "fused"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(search, "SMALL_SCORES", 2**20 if request.param == "small" else 0)
    if request.param == "fused":
        monkeypatch.setattr(search, "WORTH", 0)
    else:
        monkeypatch.setattr(search, "_fused", lambda z, k: None)
    if request.param == "device":
        monkeypatch.setattr(tiles, "_tiles_cpu", tiles._tiles_device)
    return request.param


def exactly(z: Tensor, book: Tensor) -> Tensor:
    """The nearest in rational numbers, the first of equals."""
    codewords = [[Fraction(x) for x in row] for row in book.tolist()]
    found = []
    for row in z.tolist():
        squares = [sum((Fraction(x) - y) ** 2 for x, y in zip(row, c, strict=True)) for c in codewords]
        found.append(squares.index(min(squares)))
    return torch.tensor(found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_codewords_that_coincide(path: str, dtype: torch.dtype, offset: float) -> None:
    book = (torch.randn(7, 16, dtype=dtype) + offset).repeat(2, 1)
    z = torch.randn(4000, 16, dtype=dtype) + offset
    found = nearest(z, book)
    assert found.max() < 7
    assert torch.equal(found[:200], torch.cat([nearest(row, book) for row in z[:200].split(1)]))
    assert torch.equal(found, torch.cat([nearest(part, book) for part in z.split(97)]))
    both = nearest(z[:300], torch.stack([book, book.flip(0)]))
    assert torch.equal(both, torch.stack([nearest(z[:300], book), nearest(z[:300], book.flip(0))]))
    assert both.max() < 7


def test_the_same_numbers_in_another_order_are_as_far(path: str) -> None:
    """All permutations of a codeword are equally far from a vector on the diagonal; sums in float64 part them."""
    book = torch.randn(1, 9)[:, torch.stack([torch.randperm(9) for _ in range(40)])].squeeze(0)
    z = torch.randn(500, 1).expand(500, 9)
    assert nearest(z, book).eq(0).all()


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1.0, 1e15, 1e37])
@pytest.mark.parametrize(("dim", "size"), [(1, 5000), (3, 40)])
def test_at_any_scale(path: str, scale: float, dim: int, size: int) -> None:
    z, book = scale * torch.randn(2000, dim), scale * torch.randn(size, dim)
    squares = [(part.double()[:, None] - book.double()).square().sum(-1) for part in z.split(100)]
    assert torch.equal(nearest(z, book), torch.cat(squares).argmin(-1))


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
def test_float64_at_any_scale(scale: float) -> None:
    z, book = torch.randn(500, 3).double(), torch.randn(30, 3).double()
    exponent = 2.0 ** round(torch.tensor(scale, dtype=torch.float64).log2().item())
    assert torch.equal(nearest(z * exponent, book * exponent), nearest(z, book))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_closer_than_float64_can_tell(dtype: torch.dtype) -> None:
    """Codewords that mirror one another in a plane, vectors on it or off by the smallest step there is."""
    z, normal = torch.randn(60, 6, dtype=dtype), torch.randn(6, dtype=dtype)
    z[:, 0], normal[0] = 1e-9, 1.0
    z[::2, 0] = torch.nextafter(z[::2, 0], torch.tensor(0.0, dtype=dtype))
    book = 3 * torch.randn(8, 6, dtype=dtype)
    book = torch.cat([book, book])
    book[8:, 0] = 2e-9 - book[8:, 0]
    assert torch.equal(exact.settle(z, book), exactly(z, book))
    assert torch.equal(nearest(z, book), exactly(z, book))


def test_scores_in_twice_the_precision() -> None:
    z, c = torch.randn(50, 7).double(), torch.randn(50, 7).double()
    high, low = exact._score(z, c)
    for i in range(50):
        pairs = [(Fraction(a), Fraction(b)) for a, b in zip(z[i].tolist(), c[i].tolist(), strict=True)]
        wanted = sum(a * b - b * b / 2 for a, b in pairs)
        error = abs(Fraction(high[i].item()) + Fraction(low[i].item()) - wanted)
        assert error < Fraction(1, 2**98)


@pytest.mark.parametrize("assign", [None, Cosine()], ids=["nearest", "cosine"])
@pytest.mark.parametrize("seed", range(10))
def test_a_divided_batch_moves_the_codebook_the_same_way(seed: int, assign: Cosine | None) -> None:
    """From 30 distinct latents `init_` makes codewords that coincide, and every latent is tied."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(30, 16, generator=generator)[torch.randint(30, (1000,), generator=generator)]
    whole, parts = (VectorQuantizer(16, 100, **({"assign": assign} if assign else {})) for _ in range(2))
    for quantizer in (whole, parts):
        quantizer.init_(z)
    whole.update_(whole(z))
    parts.update_(*[parts(part) for part in z.split(37)])
    assert torch.equal(whole.codebook.table, parts.codebook.table)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e17])
def test_angles_at_any_scale(scale: float) -> None:
    z, book = torch.randn(300, 5), torch.randn(40, 5) * torch.rand(40, 1).exp()
    z, book = z * scale, book * scale
    angles = (
        torch.nn.functional.normalize(z.double(), eps=0)
        @ torch.nn.functional.normalize(book.double(), eps=0).T
    )
    quantizer = VectorQuantizer(5, 40, assign=Cosine()).eval()
    quantizer.codebook.reset_(book)
    assert torch.equal(quantizer.encode(z).squeeze(-1), angles.argmax(-1))


def test_a_beam_with_codewords_that_coincide() -> None:
    stages = [VectorQuantizer(8, 12, seed=seed) for seed in range(3)]
    for stage in stages:
        stage.codebook.reset_(torch.randn(4, 8).repeat(3, 1))
    beam = Residual(stages, beam_width=4).eval()
    z = torch.randn(500, 8)
    found = beam.encode(z)
    assert found.max() < 4
    assert torch.equal(found, torch.cat([beam.encode(part) for part in z.split(7)]))
    # The beam is as wide as all sums of the first two stages' codewords need.
    wide = Residual(stages, beam_width=16).eval()
    sums = [stage.codebook.table[:4] for stage in stages]
    every = (sums[0][:, None, None] + sums[1][:, None] + sums[2]).view(-1, 8)
    best = (z[:, None] - every).square().sum(-1).amin(1)
    torch.testing.assert_close((z - wide.decode(wide.encode(z))).square().sum(-1), best)
