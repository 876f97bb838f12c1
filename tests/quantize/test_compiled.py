"""The compiled search finds what the one in PyTorch finds, level for level."""

import sys

import numpy as np
import pytest
import torch

from codebound import Trellis
from codebound.codec import vector_blocks
from codebound.codec.vectors import compress_vectors, decompress_vectors
from codebound.coding.errors import DamagedFile
from codebound.quantize import bit_trellis_search, trellis_search, viterbi
from codebound.quantize.bit_trellis_table import gaussian_table

pytest.importorskip("numba")


def both(monkeypatch, work):
    """What `work` gives with the compiled search, and without."""
    monkeypatch.setattr(viterbi, "WORTH", 0)
    fast = work()
    for module in (viterbi, trellis_search, bit_trellis_search, vector_blocks):
        monkeypatch.setattr(module, "compiled_for", lambda tensor, work: None)
    return fast, work()


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("states", [4, 8, 64, 1024])
@pytest.mark.parametrize("whole", [False, True])
def test_paths_are_the_same(monkeypatch, states, whole):
    """Also where costs are equal, as those of whole numbers often are, and where steps are left out."""
    steps, lanes = (90, 7) if states == 1024 else (150, 131)
    metrics = draw(steps, 4, lanes).square()
    metrics = metrics.round() if whole else metrics
    generator = torch.Generator().manual_seed(1)
    start, end = (torch.randint(-1, states, (lanes,), generator=generator) for _ in range(2))
    given = (None, torch.rand(steps, lanes, generator=generator) < 0.8)
    fast, plain = both(
        monkeypatch, lambda: [viterbi.cheapest_paths(metrics, states, start, end, active) for active in given]
    )
    assert all(
        torch.equal(a, b)
        for one, other in zip(fast, plain, strict=True)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize(("rate", "shape"), [(28.0, (3, 700)), (3.0, (3, 700)), (28.0, (9,)), (28.0, (2, 0))])
def test_levels_are_the_same(monkeypatch, rate, shape):
    """With levels fitted below a bit and without, over several pieces, with tokens that are none, and far outliers."""
    z = draw(*shape, 8) * torch.tensor([4.0, 3, 2, 2, 1, 1, 1, 0.5])
    if len(shape) > 1 and shape[1]:
        z[0, 5] = 1e6
    quantizer = Trellis(8, rate=rate).eval()
    quantizer.init_(draw(2000, 8) * torch.tensor([4.0, 3, 2, 2, 1, 1, 1, 0.5]))
    assert bool((quantizer.slope > 0).any()) == (rate < 8)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.9
    fast, plain = both(monkeypatch, lambda: [quantizer.encode(z, mask=given) for given in (None, mask)])
    assert all(torch.equal(a, b) for a, b in zip(fast, plain, strict=True))


@pytest.mark.parametrize(("bits", "state_bits"), [(1, 4), (2, 8), (3, 9)])
@pytest.mark.parametrize("whole", [False, True])
def test_symbols_are_the_same(monkeypatch, bits, state_bits, whole):
    table, rows = gaussian_table(bits, state_bits, 0), draw(70, 90)
    table, rows = ((4 * x).round() if whole else x for x in (table, rows))
    fast, plain = both(monkeypatch, lambda: bit_trellis_search.best_symbols(rows, table, bits))
    assert torch.equal(fast, plain)


def test_files_are_the_same(monkeypatch):
    z = draw(3000, 4)
    quantizer = Trellis(4, rate=8.0, transform=None).eval()
    fast, plain = both(monkeypatch, lambda: compress_vectors(z, quantizer, block=1000))
    assert fast == plain


def test_files_decode_the_same_and_levels_that_are_no_path_are_refused(monkeypatch):
    z = draw(3000, 4)
    data = compress_vectors(z, Trellis(4, rate=8.0, transform=None).eval(), block=1000)
    fast, plain = both(monkeypatch, lambda: decompress_vectors(data))
    assert torch.equal(fast, plain)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_stream_that_ends_early_is_damage(monkeypatch, compiled):
    monkeypatch.setattr(viterbi, "WORTH", 0 if compiled else 1 << 62)
    if not compiled:
        monkeypatch.setattr(vector_blocks, "compiled_for", lambda tensor, work: None)
    bins, levels = np.zeros(3, dtype=np.int64), np.arange(6, dtype=np.int64)
    bins[2], alone = 1, np.array([False, False, True])
    # Two tokens of two components and a scalar, all levels even: state 0 stays where z1 is 0.
    scalars, nothing = 2 * levels[:2] + 2, levels[:0]
    whole = vector_blocks._walked([4 * levels[:4], nothing, scalars, nothing], bins, alone, 2, 8)
    assert whole.tolist() == [[0, 4, 2], [8, 12, 4]]
    for short in (
        [4 * levels[:3], nothing, scalars, nothing],
        [4 * levels[:4], nothing, scalars[:1], nothing],
    ):
        with pytest.raises(DamagedFile, match="no path"):
            vector_blocks._walked(short, bins, alone, 2, 8)


def test_it_is_loaded_for_much_work_only_and_before_it(monkeypatch):
    """A small file should not wait for Numba, which takes longer to load than the searches."""
    monkeypatch.delitem(sys.modules, viterbi.COMPILED, raising=False)
    monkeypatch.setattr(viterbi, "_worked", 0)
    z = draw(1000, 8)
    quantizer = Trellis(8, rate=16.0).eval()
    quantizer.init_(z)
    compress_vectors(z, quantizer)
    assert viterbi.COMPILED not in sys.modules
    viterbi.announce(viterbi.WORTH)
    assert viterbi.compiled_for(z, 0) is not None
