"""Revival: the healthy are left alone, the collapsed recover; and the sample that it draws from."""

import pytest
import torch
from torch import Tensor

from codebound import VectorQuantizer
from codebound.errors import InputError
from codebound.quantize import UpdateReport
from codebound.quantize.init import KMeans
from codebound.quantize.noise import mix
from codebound.quantize.revival import Never, Resample, Revival, Split
from codebound.quantize.sketch import EMPTY, Sketch
from codebound.quantize.update import CodebookState
from codebound.search import distortion, nearest

SALT = mix(torch.tensor(5))


def normal(rows: int, dim: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def train(quantizer: VectorQuantizer, steps: int, tokens: int = 512, seed: int = 1) -> list[UpdateReport]:
    generator = torch.Generator().manual_seed(seed)
    return [
        quantizer.update_(quantizer(torch.randn(tokens, quantizer.dim, generator=generator)))
        for _ in range(steps)
    ]


@pytest.mark.slow
def test_healthy_codewords_are_left_alone() -> None:
    """With 512 tokens a step for 1,024 codewords the peer holds 94 % of them for dead at every step."""
    quantizer = VectorQuantizer(8, 1024, init=KMeans(5))
    quantizer.init_(normal(8192))
    reports = train(quantizer, 600)
    late = [len(report.revived[0]) for report in reports[200:]]
    windows = 400 * 512 / (50 * 1024)
    assert sum(late) / windows < 0.01 * 1024
    assert reports[-1].window_usage[0] > 0.3  # of a window that has begun; see the next line
    assert max(report.window_usage[0] for report in reports[200:]) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("revival", "size", "steps"), [(Resample(), 1024, 800), (Split(), 256, 700)], ids=["resample", "split"]
)
def test_recovers_from_all_codewords_in_one_far_place(revival: Revival, size: int, steps: int) -> None:
    quantizer = VectorQuantizer(8, size, revival=revival)
    quantizer.codebook.reset_(torch.full((size, 8), 10.0))
    train(quantizer, steps)
    fresh, codewords = normal(20_000, seed=7), quantizer.codebook.table
    indices = nearest(fresh, codewords)
    assert len(indices.unique()) / size > 0.9
    kmeans = KMeans(20)(normal(50_000, seed=8), size, torch.Generator().manual_seed(0))
    assert float(distortion(fresh, codewords, indices)) < 1.03 * float(distortion(fresh, kmeans))


def test_without_revival_it_stays_collapsed() -> None:
    quantizer = VectorQuantizer(8, 64, revival=Never())
    quantizer.codebook.reset_(torch.full((64, 8), 10.0))
    reports = train(quantizer, 200, tokens=256)
    assert reports[-1].window_usage[0] < 0.1
    assert all(len(report.revived[0]) == 0 for report in reports)


def test_dead_is_relative_to_the_share() -> None:
    revival = Resample(threshold=0.1, window=10.0, candidates=3)
    counts = torch.tensor([100.0, 9.0, 11.0, 0.0, 380.0, 5.0, 0.0, 295.0]).double()  # share 100, limit 10
    assert revival.dead(counts).tolist() == [3, 6, 5]  # the emptiest first, no more than 3
    assert revival.dead(counts * 1000).tolist() == [3, 6, 5]


def test_resample_replaces_masses_too() -> None:
    state = CodebookState.fresh(normal(4, 2))
    state = state._replace(counts=torch.tensor([4.0, 0.0, 2.0, 2.0]))
    tokens = normal(3, 2, seed=4)
    counts = torch.tensor([40.0, 0.0, 20.0, 20.0]).double()
    revived = Resample().revive(state, counts, tokens, torch.Generator())
    assert revived.rows.tolist() == [1]
    assert torch.equal(revived.state.codewords[1], tokens[0])
    assert float(revived.state.counts[1]) == 2.0  # the mean
    assert torch.equal(revived.state.sums[1], 2.0 * tokens[0])
    kept = [0, 2, 3]
    for new, old in zip(revived.state, state, strict=True):
        assert torch.equal(new[kept], old[kept])


def test_split_shares_the_mass_of_the_busiest() -> None:
    state = CodebookState.fresh(normal(6, 2))
    masses = torch.tensor([8.0, 0.0, 2.0, 0.0, 4.0, 2.0])
    state = state._replace(counts=masses, sums=masses.unsqueeze(-1) * state.codewords)
    counts = torch.tensor([80.0, 0.0, 20.0, 0.0, 40.0, 20.0]).double()
    revived = Split().revive(state, counts, torch.empty(0, 2), torch.Generator().manual_seed(0))
    assert sorted(revived.rows.tolist()) == [0, 1, 3, 4]  # the busy move as well
    new = revived.state
    assert float(new.counts.sum()) == 16.0
    assert new.counts.tolist() == [4.0, 4.0, 2.0, 2.0, 2.0, 2.0]
    assert torch.allclose(new.codewords[[0, 1]].mean(0), state.codewords[0], atol=1e-6)
    assert torch.allclose(new.sums, new.codewords * new.counts.unsqueeze(-1))


def test_split_never_splits_the_dead() -> None:
    state = CodebookState.fresh(normal(6, 2))
    counts = torch.tensor([0.0, 0.0, 0.0, 90.0, 0.0, 0.0]).double()
    revived = Split().revive(state, counts, torch.empty(0, 2), torch.Generator().manual_seed(0))
    assert revived.rows.tolist() == [0, 3]


def test_revived_codewords_are_not_undone_by_the_next_update() -> None:
    quantizer = VectorQuantizer(2, 4, revival=Resample(window=8.0))
    quantizer.codebook.reset_(torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0], [-50.0, 0.0]]))
    (report,) = train(quantizer, 1, tokens=64)
    assert sorted(report.revived[0].tolist()) == [1, 2, 3]
    for _ in range(3):
        train(quantizer, 1, tokens=4)
        assert float(quantizer.codebook.table.abs().max()) < 6


@pytest.mark.parametrize(
    "wrong", [{"threshold": 0.0}, {"threshold": 1.0}, {"window": 0.0}, {"candidates": 0}], ids=str
)
def test_settings_out_of_range(wrong: dict) -> None:
    for kind in (Resample, Split):
        with pytest.raises(InputError, match=next(iter(wrong))):
            kind(**wrong)


def sketch_of(z: Tensor, size: int, valid: Tensor | None = None) -> Sketch:
    return Sketch.of(z, torch.ones(len(z), dtype=torch.bool) if valid is None else valid, size, SALT)


@pytest.mark.parametrize("size", [0, 1, 7, 60, 200])
def test_sketch_does_not_depend_on_the_division(size: int) -> None:
    z = normal(100)
    z[30:80] = z[3]  # many equal ones, as padding
    whole = sketch_of(z, size)
    for cuts in ([50, 50], [1, 99], [0, 33, 67]):
        merged = None
        for part in z.split(cuts):
            sketch = sketch_of(part, size)
            merged = sketch if merged is None else merged.merge(sketch)
        assert merged is not None
        assert torch.equal(merged.keys, whole.keys)
        assert torch.equal(merged.filled(), whole.filled())
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    assert torch.equal(sketch_of(z[order], size).filled(), whole.filled())


def test_sketch_holds_distinct_valid_tokens_and_nothing_else() -> None:
    z, valid = normal(100), torch.arange(100) % 2 == 0
    z[10:90] = 1.0
    filled = sketch_of(z, 500, valid).filled()
    distinct = z[valid].unique(dim=0)
    assert len(filled) == len(distinct) == 11
    assert torch.equal(filled.sort(dim=0).values, distinct.sort(dim=0).values)
    assert len(sketch_of(z[:0], 5).filled()) == 0
    assert (sketch_of(z[:2], 5).keys[2:] == EMPTY).all()


def test_sketch_is_a_fair_sample() -> None:
    z = torch.arange(1000.0).unsqueeze(1)
    means = [float(Sketch.of(z, z[:, 0] >= 0, 50, mix(torch.tensor(s))).vectors.mean()) for s in range(100)]
    # The mean of 50 out of 1,000 has deviation 40.8·√.95; of 100 such, 4.
    assert abs(sum(means) / 100 - 499.5) < 14


def test_sketch_tells_tokens_apart_by_any_dimension() -> None:
    z = torch.zeros(64, 64)
    z.fill_diagonal_(1.0)
    assert len(sketch_of(z, 64).filled()) == 64
