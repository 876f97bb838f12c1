"""The search against float64 brute force, where float32 fails, and under every global flag."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from codebound import search
from codebound.errors import InputError
from codebound.search import assignment_sums, distortion, nearest


def brute_force(z: Tensor, codebook: Tensor) -> Tensor:
    """Nearest by differences in float64, which for float32 inputs is as good as exact."""
    codebook = codebook.double()
    rows = max(1, 4_000_000 // codebook.numel())
    found = [(part[:, None] - codebook).square().sum(-1).argmin(-1) for part in z.double().split(rows)]
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)


def normal(rows: int, dim: int) -> Tensor:
    return torch.randn(rows, dim)


def offset(rows: int, dim: int) -> Tensor:
    return 1.0 + 1e-3 * torch.randn(rows, dim)


def two_clusters(spread: float) -> Callable[[int, int], Tensor]:
    def draw(rows: int, dim: int) -> Tensor:
        return torch.randint(0, 2, (rows, 1)) * 2.0 - 1.0 + spread * torch.randn(rows, dim)

    return draw


SOURCES = {
    "normal": normal,
    "offset": offset,
    "two clusters 1e-2": two_clusters(1e-2),  # distances far above rounding, margins not
    "two clusters 1e-3": two_clusters(1e-3),
    "two clusters 1e-4": two_clusters(1e-4),
    "squares overflow": lambda rows, dim: 1e25 * torch.randn(rows, dim),
    "squares underflow": lambda rows, dim: 1e-25 * torch.randn(rows, dim),
}
# Rows, codewords, dimensions: odd sizes, one of each, and more codewords than one tile holds.
SIZES = [(0, 5, 3), (1, 1, 1), (7, 1, 4), (1, 2049, 8), (1001, 257, 5), (2000, 3001, 8), (600, 2048, 64)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_exact(source: str, sizes: tuple[int, int, int]) -> None:
    rows, codewords, dim = sizes
    z, codebook = SOURCES[source](rows, dim), SOURCES[source](codewords, dim)
    found = nearest(z, codebook)
    assert found.dtype == torch.int64
    assert torch.equal(found, brute_force(z, codebook))


def test_exact_far_from_tight_clusters() -> None:
    """Distances large, differences between them small."""
    z, codebook = torch.randn(4000, 8), two_clusters(1e-3)(1000, 8)
    assert torch.equal(nearest(z, codebook), brute_force(z, codebook))


@pytest.mark.parametrize("source", ["normal", "offset", "two clusters 1e-2"])
def test_exact_under_global_flags_which_are_restored(source: str) -> None:
    z, codebook = SOURCES[source](2000, 8), SOURCES[source](2500, 8)
    wanted = brute_force(z, codebook)
    torch.set_float32_matmul_precision("medium")
    try:
        assert torch.equal(nearest(z, codebook), wanted)
        assert torch.get_float32_matmul_precision() == "medium"
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(nearest(z, codebook), wanted)
            assert torch.is_autocast_enabled("cpu")
            assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    finally:
        torch.set_float32_matmul_precision("highest")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest(z, codebook), wanted)
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(("kernel", "small"), [("best_scores", 0), ("_nearest_small", 2**16)])
def test_products_run_at_full_precision(monkeypatch: pytest.MonkeyPatch, kernel: str, small: int) -> None:
    """Not every CPU computes differently under these flags; so what counts is what the products see."""
    seen = []
    inner = getattr(search, kernel)
    monkeypatch.setattr(search, "SMALL_SCORES", small)
    monkeypatch.setattr(search, "_fused", lambda z, k: None)

    def spy(*arguments: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        seen.append((torch.backends.mkldnn.matmul.fp32_precision, torch.is_autocast_enabled("cpu")))
        return inner(*arguments)

    monkeypatch.setattr(search, kernel, spy)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            nearest(torch.randn(5, 3), torch.randn(4, 3))
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen
    assert set(seen) <= {("ieee", False), ("none", False)}


@pytest.mark.parametrize("codewords", [10, 5000])
def test_a_tie_goes_to_the_lowest_index(codewords: int) -> None:
    z = torch.randint(-3, 4, (3000, 2)).float()  # on a grid: many distances are equal exactly
    codebook = torch.randint(-3, 4, (codewords, 2)) + 0.5
    codebook = torch.cat([codebook, codebook])
    assert torch.equal(nearest(z, codebook), brute_force(z, codebook))
    assert torch.equal(nearest(torch.zeros(4, 2), torch.ones(7, 2)), torch.zeros(4, dtype=torch.int64))


def test_float64_is_searched_in_float64() -> None:
    z, codebook = 1.0 + 1e-12 * torch.randn(500, 4).double(), 1.0 + 1e-12 * torch.randn(64, 4).double()
    squares = (z[:, None] - codebook).square().sum(-1)
    found = squares.gather(1, nearest(z, codebook).unsqueeze(1)).squeeze(1)
    # At 1e-12 beside 1 four digits are left; float32 would find nothing but chance.
    assert torch.allclose(found, squares.amin(1), rtol=1e-2, atol=0)


@pytest.mark.parametrize("codewords", [4, 700, 2500])
def test_many_codebooks_are_as_one_by_one(codewords: int) -> None:
    codebooks, own = torch.randn(5, codewords, 6), torch.randn(5, 333, 6)
    codebooks += torch.arange(5.0).view(5, 1, 1) * 10  # each far from the mean of all
    shared = own[0]
    assert torch.equal(nearest(shared, codebooks), torch.stack([nearest(shared, c) for c in codebooks]))
    singly = torch.stack([brute_force(z, c) for z, c in zip(own, codebooks, strict=True)])
    assert torch.equal(nearest(own, codebooks), singly)
    grid = nearest(own[:4].view(2, 2, 333, 6), codebooks[:4].view(2, 2, codewords, 6))
    assert torch.equal(grid.view(4, 333), singly[:4])


def test_any_leading_shape_and_strides() -> None:
    codebook = torch.randn(50, 4)
    z = torch.randn(3, 5, 7, 4)
    wanted = brute_force(z.view(-1, 4), codebook).view(3, 5, 7)
    assert torch.equal(nearest(z, codebook), wanted)
    assert torch.equal(nearest(z.transpose(0, 2), codebook), wanted.transpose(0, 2))
    assert nearest(z[0, 0, 0], codebook).shape == ()


def test_rows_that_are_not_finite_harm_no_others() -> None:
    z, codebook = torch.randn(100, 4), torch.randn(30, 4)
    wanted = nearest(z, codebook)
    z[3], z[50, 1], z[99, 2] = float("nan"), float("inf"), float("-inf")
    found = nearest(z, codebook)
    good = z.isfinite().all(-1)
    assert torch.equal(found[good], wanted[good])
    assert ((found >= 0) & (found < 30)).all()


def test_gradients_are_not_followed() -> None:
    z, codebook = torch.randn(9, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    assert not nearest(z, codebook).requires_grad


MEMORY = """
import resource, torch
from codebound.search import nearest
z, codebook = torch.randn(4096, 8), torch.randn(65536, 8)
nearest(z[:10], codebook[:10])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nearest(z, codebook)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_as_rows_times_codewords() -> None:
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(run.stdout) / 1024 < 100  # MB; the scores alone would be 1 GiB


def test_assignment_sums_by_loops() -> None:
    z = torch.randn(3, 40, 2)
    indices = torch.randint(-1, 5, (3, 40))
    counts, sums = assignment_sums(z, indices, 6)
    assert counts.dtype == sums.dtype == torch.float64
    for run in range(3):
        for j in range(6):
            members = z[run][indices[run] == j].double()
            assert counts[run, j] == len(members)
            assert torch.allclose(sums[run, j], members.sum(0), rtol=0, atol=1e-12)
    shared = assignment_sums(z[1], indices, 6)
    single = assignment_sums(z[1], indices[2], 6)
    assert torch.equal(shared[0][2], single[0])
    assert torch.equal(shared[1][2], single[1])


def test_assignment_sums_of_nothing() -> None:
    for rows in (0, 4):
        counts, sums = assignment_sums(torch.randn(rows, 2), torch.full((rows,), -1), 3)
        assert torch.equal(counts, torch.zeros(3).double())
        assert torch.equal(sums, torch.zeros(3, 2).double())


def test_distortion() -> None:
    z, codebooks = torch.randn(200, 3), torch.randn(4, 10, 3)
    squares = (z.double()[None, :, None] - codebooks.double()[:, None]).square().sum(-1)
    assert torch.allclose(distortion(z, codebooks), squares.amin(-1).mean(-1), rtol=1e-6)
    indices = torch.randint(0, 10, (4, 200))
    wanted = squares.gather(-1, indices.unsqueeze(-1)).squeeze(-1).mean(-1)
    assert torch.allclose(distortion(z, codebooks, indices), wanted, rtol=1e-6)
    assert distortion(z, codebooks[0]).shape == ()


@pytest.mark.parametrize(
    ("z", "codebook", "named"),
    [
        ((3, 4), (5, 3), "z"),
        ((3, 4), (0, 4), "codebook"),
        ((3, 4), (4,), "codebook"),
        ((2, 3, 4), (3, 5, 4), "codebooks"),
    ],
)
@pytest.mark.untyped  # with the jaxtyping hook the annotations refuse them first
def test_shapes_that_do_not_fit(z: tuple[int, ...], codebook: tuple[int, ...], named: str) -> None:
    with pytest.raises(InputError, match=named):
        nearest(torch.zeros(z), torch.zeros(codebook))


@pytest.mark.untyped
def test_the_compiler_sees_one_node() -> None:
    z, codebook = torch.randn(50, 4), torch.randn(9, 4)
    compiled = torch.compile(nearest, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(z, codebook), nearest(z, codebook))


FLAGS = [
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "torch.backends.fp32_precision = 'tf32'",
    "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
    "torch.set_float32_matmul_precision('medium')",
]


# In processes of their own: once a flag of the newer interface is set, the older one is closed for good.
# They are copies of one in which nothing has been computed yet, so that the libraries are loaded once.
UNDER_FLAGS = """
import json, os, sys, traceback
import torch
from codebound.search import nearest

def check(flag):
    exec(flag)
    before = torch.backends.mkldnn.matmul.fp32_precision
    z = 1 + 1e-3 * torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    expected = torch.cdist(z.double(), z[:64].double()).argmin(-1)
    assert torch.equal(nearest(z, z[:64]), expected)
    assert torch.backends.mkldnn.matmul.fp32_precision == before

statuses = {}
for flag in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            check(flag)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    statuses[flag] = os.waitpid(child, 0)[1]
print(json.dumps(statuses))
"""


def test_exact_under_each_precision_interface() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNDER_FLAGS, *FLAGS], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == dict.fromkeys(FLAGS, 0), done.stderr


@pytest.mark.parametrize("size", [8, 3000])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_codeword_that_is_not_finite_is_never_chosen(size: int, value: float) -> None:
    z, codebook = torch.randn(500, 4), torch.randn(size, 4)
    codebook[[0, 5], 1] = value
    rest = [j for j in range(size) if j not in (0, 5)]
    assert torch.equal(nearest(z, codebook), torch.tensor(rest)[brute_force(z, codebook[rest])])
    both = nearest(z, torch.stack([codebook, codebook.nan_to_num(0.0, 9.0, 9.0)]))
    assert torch.equal(both[0], nearest(z, codebook))
    assert nearest(z, torch.full((3, 4), value)).eq(0).all()


def test_distortion_of_half_precision_and_of_bad_indices() -> None:
    z, codebook = torch.full((10, 4), 300.0).half(), torch.zeros(8, 4).half()
    assert float(distortion(z, codebook)) == pytest.approx(360_000)
    for bad in (-1, 8):
        with pytest.raises(InputError, match="0 … 7"):
            distortion(z, codebook, torch.full((10,), bad))


@pytest.mark.untyped
def test_complex_numbers_have_no_nearest() -> None:
    with pytest.raises(InputError, match="real"):
        nearest(torch.randn(3, 2).to(torch.complex64), torch.randn(4, 2))


def test_no_dimensions_have_no_nearest() -> None:
    with pytest.raises(InputError, match="d ≥ 1"):
        nearest(torch.zeros(3, 0), torch.zeros(4, 0))


@pytest.mark.parametrize("runs", [1, 3, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 300, 40_000])
def test_many_codebooks_each_with_its_own_vectors_are_searched_as_one_by_one(
    runs: int, dtype, n: int
) -> None:
    """The uncertified search takes small ones together; the indices are those of each alone but for rounding."""
    if n * runs > 200_000:
        n = 5_000
    generator = torch.Generator().manual_seed(runs)
    z = torch.randn(runs, n, 3, generator=generator, dtype=dtype) + 5
    books = torch.randn(runs, 32, 3, generator=generator, dtype=dtype) + 5
    found = nearest(z, books, certify=False)
    assert found.shape == (runs, n)
    for i in range(runs):
        wanted = nearest(z[i], books[i])
        other = found[i] != wanted
        assert other.double().mean() < 1e-3
        chosen, best = ((z[i] - books[i][j]).square().sum(-1) for j in (found[i], wanted))
        torch.testing.assert_close(chosen, best, rtol=1e-4, atol=1e-5)
    assert nearest(z[:, :0], books, certify=False).shape == (runs, 0)
