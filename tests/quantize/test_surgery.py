"""Codewords from outside: copied in, set, added, left out."""

import math

import pytest
import torch
from torch import Tensor
from zoo import EVERY, RESAMPLE

from codebound import VectorQuantizer
from codebound.errors import InputError
from codebound.quantize import (
    FSQ,
    LFQ,
    Codebook,
    Product,
    Projected,
    Quantizer,
    Residual,
    Scaled,
    from_spec,
    load,
    save,
    to_spec,
)
from codebound.quantize.assign import Soft
from codebound.quantize.form import Linear, Unit
from codebound.quantize.revival import Never
from codebound.quantize.update import EMA, BlahutArimoto, Gradient

MASSES = {"ema": {}, "soft": {"assign": Soft(steps=4), "update": BlahutArimoto(jitter=0.0)}}


def latents(rows: int = 400, dim: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def ready(size: int = 12, **choices) -> VectorQuantizer:
    quantizer = VectorQuantizer(4, size, **choices)
    quantizer.init_(latents())
    for step in range(3):
        quantizer.update_(quantizer(latents(seed=step)))
    return quantizer


def mine(size: int = 12) -> Tensor:
    return 3.0 * latents(size, seed=9)


WAYS = {
    "load_state_dict": lambda q: q.load_state_dict({"codebook.table": mine()}, strict=False),
    "load with counts": lambda q: q.load_state_dict(
        {"codebook.table": mine(), "codebook.counts": torch.ones(12)}, strict=False
    ),
    "copy_": lambda q: q.codebook.table.copy_(mine()),
    "data": lambda q: q.codebook.table.data.copy_(mine()),
    "set_codewords_": lambda q: q.set_codewords_(mine()),
    "set_codewords_ with counts": lambda q: q.set_codewords_(mine(), counts=torch.full((12,), 40.0)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("choices", MASSES)
def test_foreign_codewords_are_gone_on_from(way: str, choices: str) -> None:
    quantizer = ready(**MASSES[choices])
    WAYS[way](quantizer)
    for _ in range(3):
        quantizer.update_(quantizer(mine()))  # tokens that they fit exactly
    assert torch.allclose(quantizer.codewords(), mine(), atol=1e-3)


def test_a_copied_row_keeps_its_mass_and_no_other_is_touched() -> None:
    quantizer, twin = ready(update=EMA(0.9)), ready(update=EMA(0.9))
    mass = quantizer.codebook.counts[3].clone()
    quantizer.codebook.table[3] = 7.0
    z = torch.cat([torch.full((5, 4), 7.5), latents(50)])
    result = quantizer(z)
    assert (result.indices[:5] == 3).all()
    quantizer.update_(result)
    twin.update_(twin(z))

    # One step of the moving average from where it was put.
    hits = int((result.indices == 3).sum())
    n = 0.9 * mass + 0.1 * hits
    m = 0.9 * mass * 7.0 + 0.1 * z[(result.indices == 3).squeeze(-1)].sum(0)
    assert torch.allclose(quantizer.codewords()[3], m / n, rtol=1e-3)
    same = (quantizer(z).indices[5:] == twin(z).indices[5:]).float().mean()
    assert same > 0.8
    untouched = [k for k in range(12) if int((result.indices == k).sum()) == 0 and k != 3]
    assert torch.equal(quantizer.codebook.sums[untouched], twin.codebook.sums[untouched])


def test_a_loaded_state_goes_on_as_it_was_saved() -> None:
    quantizer = ready()
    loaded = VectorQuantizer(4, 12)
    loaded.load_state_dict(quantizer.state_dict())
    for one in (quantizer, loaded):
        one.update_(one(latents(seed=5)))
    assert all(
        torch.equal(a, b)
        for a, b in zip(quantizer.state_dict().values(), loaded.state_dict().values(), strict=True)
    )


def test_set_codewords_begins_anew() -> None:
    quantizer = VectorQuantizer(4, 12)
    quantizer.set_codewords_(mine(), counts=torch.arange(1.0, 13.0))
    assert torch.equal(quantizer.codewords(), mine())
    assert torch.equal(quantizer.codebook.sums, mine() * torch.arange(1.0, 13.0).unsqueeze(-1))
    quantizer.update_(quantizer(latents()))  # no init_ is needed
    with pytest.raises(
        InputError, match=r"codewords must have shape \[12, 4\] \(resize_ changes K\); got \[3, 4\]"
    ):
        quantizer.set_codewords_(mine(3))
    with pytest.raises(InputError, match="codewords must be finite"):
        quantizer.set_codewords_(mine().fill_(math.nan))
    with pytest.raises(InputError, match="counts must be 12 positive, finite numbers"):
        quantizer.set_codewords_(mine(), counts=torch.zeros(12))


def books(quantizer: Quantizer) -> list[Codebook]:
    return [book for book in quantizer.codebooks() if book is not None]


def listed(codewords) -> list[Tensor | None]:
    every = [codewords] if isinstance(codewords, Tensor) else codewords
    return [None if one is None else one.detach().clone() for one in every]


@pytest.mark.parametrize("name", EVERY)
def test_codewords_of_every_quantizer_can_be_set_again(name: str) -> None:
    quantizer = EVERY[name]()
    z = latents(300, quantizer.dim)
    quantizer.init_(z)
    if quantizer.codebooks() == (None,):
        return
    quantizer.eval()
    before, indices = listed(quantizer.codewords()), quantizer.encode(z)
    quantizer.set_codewords_(quantizer.codewords())
    pairs = zip(before, listed(quantizer.codewords()), strict=True)
    assert all(
        torch.allclose(a, b, atol=1e-6) if a is not None and b is not None else a is b for a, b in pairs
    )
    assert (quantizer.encode(z) == indices).float().mean() > 0.99


def test_nothing_is_set_where_one_entry_is_wrong() -> None:
    quantizer = Residual([VectorQuantizer(4, 12), VectorQuantizer(4, 6)])
    quantizer.init_(latents())
    before = listed(quantizer.codewords())
    with pytest.raises(InputError, match="codewords must have shape"):
        quantizer.set_codewords_([mine(), mine(5)])
    with pytest.raises(InputError, match="an entry for each of 2 codebooks; got 1 entries"):
        quantizer.set_codewords_([mine()])
    assert all(
        a is not None and torch.equal(a, book.codewords())
        for a, book in zip(before, books(quantizer), strict=True)
    )


def distortion(quantizer: Quantizer, z: Tensor) -> float:
    return float((quantizer.eval()(z).z_q - z).square().sum(-1).mean())


CHOICES = {
    "ema": {"revival": RESAMPLE},
    "gradient": {"update": Gradient()},
    "unit": {"form": Unit()},
    "linear": {"update": Gradient(), "form": Linear(), "revival": Never()},
}


@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("size", [13, 20, 24, 100])
def test_grown_codebooks_keep_their_codewords(choices: str, size: int) -> None:
    quantizer = ready(**CHOICES[choices])
    before, book = quantizer.codewords().detach().clone(), quantizer.codebook
    counts, sums = book.counts.clone(), book.sums.clone()
    (moves,) = quantizer.resize_(size)
    assert quantizer.codebook_sizes == (size,)
    assert torch.equal(quantizer.codewords()[:12], before)
    assert torch.equal(moves.source[:12], torch.arange(12))
    assert moves.fresh.tolist() == list(range(12, size))

    # Added ones stand beside theirs.
    off = (quantizer.codewords()[12:] - before[moves.source[12:]]).norm(dim=-1)
    assert (off > 0).all()
    assert (off < 0.2 * before.std()).all()

    # Masses are divided among them, and none is lost; sums are where the codewords are.
    assert torch.allclose(torch.zeros(12).index_add(0, moves.source, book.counts), counts)
    if not quantizer.update.trains:
        assert torch.allclose(book.sums, book.table * book.counts.unsqueeze(-1), rtol=1e-3)
        whole = [row for row in range(12) if int((moves.source == row).sum()) == 1]
        assert torch.equal(book.sums[whole], sums[whole])
    quantizer.update_(quantizer(latents()))


def test_the_busiest_is_split_and_then_its_halves() -> None:
    quantizer = ready(4)
    quantizer.codebook.counts.copy_(torch.tensor([1.0, 16.0, 3.0, 6.0]))
    (moves,) = quantizer.resize_(9)
    # 16 → 8 + 8; both → 4 + 4 each; 6 → 3 + 3; then the first of the fours.
    assert torch.bincount(moves.source).tolist() == [1, 5, 1, 2]
    assert quantizer.codebook.counts[moves.source == 1].sort().values.tolist() == [2, 2, 4, 4, 4]


def test_a_grown_codebook_is_better_after_a_few_steps() -> None:
    quantizer, larger, z = ready(update=EMA(0.9)), ready(update=EMA(0.9)), latents(2000, seed=7)
    larger.resize_(24)
    for one in (quantizer, larger):
        for step in range(30):
            one.update_(one(latents(2000, seed=step)))
    assert distortion(larger, z) < 0.8 * distortion(quantizer, z)


def test_shrunk_codebooks_keep_the_most_used() -> None:
    quantizer = ready()
    quantizer.codebook.counts.copy_(torch.tensor([5.0, 1, 9, 2, 8, 3, 7, 4, 6, 10, 0.5, 0.1]))
    quantizer.codebook.sums.copy_(quantizer.codebook.table * quantizer.codebook.counts.unsqueeze(-1))
    before = quantizer.codewords().clone()
    quantizer.freeze_([11])
    (moves,) = quantizer.resize_(5)
    assert moves.source.tolist() == [2, 4, 6, 9, 11]  # the four busiest and the one that is held, in order
    assert len(moves.fresh) == 0
    assert torch.equal(quantizer.codewords(), before[moves.source])
    assert quantizer.codebook.counts.tolist() == [9, 8, 7, 10, pytest.approx(0.1)]
    for step in range(5):
        quantizer.update_(quantizer(latents(seed=step)))
    assert torch.equal(quantizer.codewords()[4], before[11])
    quantizer.freeze_([0, 1, 2])
    with pytest.raises(InputError, match=r"at least 4 \(so many rows are held\); got 3"):
        quantizer.resize_(3)


def test_usage_of_a_trained_codebook_is_its_hits_of_this_window_and_the_last() -> None:
    quantizer = VectorQuantizer(4, 12, update=Gradient(), revival=Never(window=10.0))
    quantizer.init_(latents())
    hits = torch.zeros(12)
    for step in range(2):  # the window of 120 tokens ends with the first
        result = quantizer(latents(130 if step == 0 else 20, seed=step))
        hits += torch.bincount(result.indices.flatten(), minlength=12)
        quantizer.update_(result)
    assert torch.equal(quantizer.codebook.usage(), hits)
    (moves,) = quantizer.resize_(6)
    assert moves.source.tolist() == hits.argsort(descending=True, stable=True)[:6].sort().values.tolist()


@pytest.mark.parametrize("size", [7, 12, 20])
@pytest.mark.parametrize(
    "make", [torch.optim.Adam, torch.optim.Adafactor, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)]
)
def test_an_optimizers_moments_go_with_the_rows(make, size: int) -> None:
    quantizer = ready(update=Gradient())
    optimizer = make(quantizer.parameters())
    table = quantizer.codebook.table

    def step() -> None:
        optimizer.zero_grad()
        result = quantizer(latents(200, seed=3))
        result.loss.backward()
        optimizer.step()
        quantizer.update_(result)

    step()
    before = {k: v.clone() for k, v in optimizer.state[table].items() if isinstance(v, Tensor)}
    (moves,) = quantizer.resize_(size, optimizer=optimizer)
    assert quantizer.codebook.table is table
    rows = 0
    for name, moment in optimizer.state[table].items():
        if isinstance(moment, Tensor) and before[name].shape[:1] == (12,):
            kept = torch.isin(torch.arange(size), moves.fresh, invert=True)
            assert torch.equal(moment[kept], before[name][moves.source[kept]])
            assert (moment[moves.fresh] == 0).all()
            rows += 1
    assert rows >= 1
    step()

    # New codewords have no past.
    quantizer.set_codewords_(mine(size), optimizer=optimizer)
    moments = [m for m in optimizer.state[table].values() if isinstance(m, Tensor) and m.shape[:1] == (size,)]
    assert all((moment == 0).all() for moment in moments)
    step()


@pytest.mark.parametrize("size", [7, 20])
def test_training_goes_on_while_a_former_graph_is_still_there(size: int) -> None:
    quantizer = ready(update=Gradient())
    results = [quantizer(latents()), quantizer(latents())]
    results[0].loss.backward()
    quantizer.resize_(size)
    quantizer(latents()).loss.backward()
    assert quantizer.codebook.table.grad is not None
    assert quantizer.codebook.table.grad.shape == (size, 4)


def test_sizes_are_right_everywhere_afterwards(tmp_path) -> None:
    book = VectorQuantizer(4, 12)
    quantizer = Product(
        [
            Residual([book, book, Scaled(VectorQuantizer(4, 6), 0.5)], share=True),
            Projected(FSQ([3, 3]), 4),
            LFQ(2),
        ]
    )
    quantizer.init_(latents(dim=10))
    assert quantizer.codebook_sizes == (12, 12, 6, 9, 4)
    moves = quantizer.resize_([20, 4, None, None])
    assert [len(m.source) for m in moves] == [20, 4, 0, 0]
    assert quantizer.codebook_sizes == (20, 20, 4, 9, 4)
    assert from_spec(to_spec(quantizer)).codebook_sizes == quantizer.codebook_sizes
    for step in range(3):
        quantizer.update_(quantizer(latents(dim=10, seed=step)))
    save(quantizer, tmp_path / "q.safetensors")
    loaded, z = load(tmp_path / "q.safetensors"), latents(dim=10)
    assert torch.equal(loaded.encode(z), quantizer.eval().encode(z))

    # A stage that is resized itself is no secret to what holds it.
    book.resize_(5)
    assert quantizer.codebook_sizes == (5, 5, 4, 9, 4)
    assert quantizer.eval().encode(z)[:, :2].max() == 4


def test_results_from_before_are_refused() -> None:
    quantizer = ready()
    result = quantizer(latents())
    quantizer.resize_(20)
    with pytest.raises(InputError):
        quantizer.update_(result)


@pytest.mark.untyped  # some are no sizes by the annotations, either
@pytest.mark.parametrize("size", [1, 0, 2.5, True, None])
def test_sizes_that_no_codebook_has(size) -> None:
    with pytest.raises(InputError, match="codebook_size must be"):
        ready().codebook.resize_(size)


@pytest.mark.parametrize("make", [lambda: FSQ([5, 5]), lambda: LFQ(4), lambda: Projected(FSQ([5, 5]), 4)])
def test_formulas_are_refused_by_name(make) -> None:
    quantizer = make()
    with pytest.raises(InputError, match="resize_ needs a table of codewords"):
        quantizer.resize_(8)
    with pytest.raises(InputError, match="set_codewords_ needs a table of codewords"):
        quantizer.set_codewords_(mine())
