"""Codewords that are held: all or some, under whatever would move them."""

import copy

import pytest
import torch
from torch import Tensor
from zoo import EVERY, RESAMPLE, SPLIT

from codebound import VectorQuantizer
from codebound.errors import InputError
from codebound.quantize import FSQ, Product, Projected, Quantizer, Residual, load, save
from codebound.quantize.form import Linear, Unit
from codebound.quantize.revival import Never
from codebound.quantize.update import Gradient

OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.5),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
}
UPDATES = {
    "ema": {"revival": RESAMPLE},
    "ema, split": {"revival": SPLIT},
    "ema, unit": {"form": Unit(), "revival": RESAMPLE},
    "gradient": {"update": Gradient(), "revival": RESAMPLE},
    "gradient, unit": {"update": Gradient(), "form": Unit(), "revival": SPLIT},
}


def latents(rows: int = 400, dim: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def train(quantizer: Quantizer, optimizer: torch.optim.Optimizer | None, steps: int = 8) -> None:
    """Steps on narrower and narrower batches, so that codewords die, too."""
    for step in range(steps):
        z = latents(200, quantizer.dim, seed=step) / (1 + step)
        result = quantizer(z.requires_grad_())
        if optimizer is not None:
            optimizer.zero_grad(
                set_to_none=False
            )  # a gradient of zeros lets moments and decay move a parameter
            (result.loss + result.z_q.square().sum()).backward()
            optimizer.step()
        quantizer.update_(result)


def ready(**choices) -> VectorQuantizer:
    quantizer = VectorQuantizer(4, 12, **choices)
    quantizer.init_(latents())
    return quantizer


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("form", [{}, {"form": Linear(), "revival": Never()}], ids=["table", "linear"])
def test_a_frozen_codebook_stays_under_what_an_optimizer_remembers(name: str, form: dict) -> None:
    quantizer = ready(update=Gradient(), **form)
    optimizer = OPTIMIZERS[name](quantizer.parameters())
    train(quantizer, optimizer)
    quantizer.freeze_()
    before = quantizer.codewords().clone()
    train(quantizer, optimizer)
    assert torch.equal(quantizer.codewords(), before)
    quantizer.unfreeze_()
    train(quantizer, optimizer)
    assert not torch.equal(quantizer.codewords(), before)


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_held_rows_stay_and_the_others_move(name: str, optimizer: str) -> None:
    quantizer = ready(**UPDATES[name])
    trained = list(quantizer.parameters())
    stepper = OPTIMIZERS[optimizer](trained) if trained else None
    train(quantizer, stepper)
    quantizer.freeze_([1, 5])
    quantizer.freeze_(rows=torch.arange(12) == 7)
    rows, before = [1, 5, 7], quantizer.codewords().detach().clone()

    # After every step, and in the forward, not only at the end of all.
    for _ in range(8):
        train(quantizer, stepper, 2)
        assert torch.equal(quantizer.codewords()[rows], before[rows])
        assert torch.equal(quantizer.decode(torch.tensor([[1], [5], [7]])), before[rows])
    moved = (quantizer.codewords() != before).any(-1)
    assert moved.sum() == 9

    # They go on from where they were held.
    quantizer.unfreeze_([5])
    assert torch.equal(quantizer.codewords()[rows], before[rows])
    train(quantizer, stepper)
    assert torch.equal(quantizer.codewords()[[1, 7]], before[[1, 7]])
    assert not torch.equal(quantizer.codewords()[5], before[5])
    quantizer.unfreeze_()
    assert "codebook.held_rows" not in quantizer.state_dict()


def test_masses_and_sums_of_held_rows_belong_to_where_they_are() -> None:
    quantizer = ready()
    quantizer.freeze_([0, 3])
    train(quantizer, None)
    book = quantizer.codebook
    assert torch.equal(book.sums[[0, 3]], (book.table * book.counts.unsqueeze(-1))[[0, 3]])


def test_held_rows_are_not_revived() -> None:
    quantizer = ready(revival=RESAMPLE)
    quantizer.set_codewords_(torch.cat([torch.full((2, 4), 1e3), latents(10)]))  # the first two are never hit
    quantizer.freeze_([0])
    revived = [quantizer.update_(quantizer(latents(200, seed=i))).revived[0] for i in range(3)]
    rows = torch.cat(revived).tolist()
    assert 1 in rows
    assert 0 not in rows
    assert torch.equal(quantizer.codewords()[0], torch.full((4,), 1e3))


@pytest.mark.parametrize("revival", [RESAMPLE, SPLIT], ids=["resample", "split"])
def test_no_gradient_wanted_is_no_move(revival) -> None:
    quantizer = ready(update=Gradient(), revival=revival)
    quantizer.requires_grad_(False)
    before = quantizer.codewords().clone()
    for step in range(10):
        report = quantizer.update_(quantizer(latents(100, seed=step) / (1 + step)))
        assert len(report.revived[0]) == 0
    assert torch.equal(quantizer.codewords(), before)


def test_init_leaves_what_is_held() -> None:
    quantizer = VectorQuantizer(4, 12)
    zero = torch.cat([torch.zeros(1, 4), latents(11)])
    quantizer.set_codewords_(zero)
    quantizer.freeze_([0])
    quantizer.init_(latents(seed=1))
    assert torch.equal(quantizer.codewords()[0], zero[0])
    assert not torch.equal(quantizer.codewords()[1:], zero[1:])
    quantizer.freeze_()
    before = quantizer.codewords().clone()
    quantizer.init_(latents(seed=2))
    assert torch.equal(quantizer.codewords(), before)


@pytest.mark.parametrize("choices", [{}, {"update": Gradient()}], ids=["ema", "gradient"])
def test_held_rows_travel_with_the_state(choices: dict, tmp_path) -> None:
    quantizer = ready(**choices)
    free = copy.deepcopy(quantizer)
    quantizer.freeze_([2, 9])
    before = quantizer.codewords().detach().clone()
    save(quantizer, tmp_path / "q.safetensors")
    loaded = load(tmp_path / "q.safetensors").train()
    assert isinstance(loaded, VectorQuantizer)
    for one in (loaded, copy.deepcopy(quantizer)):
        train(one, torch.optim.Adam(one.parameters(), lr=0.1) if choices else None)
        assert torch.equal(one.codewords()[[2, 9]], before[[2, 9]])

    # A whole state without held rows lets them go; a part of one does not.
    loaded.load_state_dict({"codebook.counts": torch.ones(12)}, strict=False)
    assert loaded.codebook.held_rows is not None
    loaded.load_state_dict(free.state_dict())
    assert loaded.codebook.held_rows is None


@pytest.mark.parametrize("name", EVERY)
def test_every_quantizer_freezes(name: str) -> None:
    quantizer = EVERY[name]()
    z = latents(300, quantizer.dim)
    torch.manual_seed(0)
    quantizer.init_(z)
    quantizer.freeze_()
    before = {k: v.clone() for k, v in quantizer.state_dict().items() if k.endswith((".table", ".map"))}
    for _ in range(4):
        quantizer.update_(quantizer(z * 0.5))
    assert all(torch.equal(quantizer.state_dict()[k], value) for k, value in before.items())
    quantizer.unfreeze_()
    books = [book for book in quantizer.codebooks() if book is not None]
    assert not any(bool(book.frozen) for book in books)


def stages() -> list[VectorQuantizer]:
    return [VectorQuantizer(4, 12, seed=i, revival=RESAMPLE) for i in range(3)]


@pytest.mark.parametrize("held", [0, 1, 2])
@pytest.mark.parametrize("how", ["eval", "inner eval", "freeze_"])
@pytest.mark.parametrize("kind", ["residual", "product"])
def test_a_report_has_a_place_for_every_codebook(kind: str, how: str, held: int) -> None:
    # Three codebooks, one of which does not move.
    books = stages()
    members = [Projected(book, 4, frozen=True, seed=i) for i, book in enumerate(books)]
    quantizer = Residual(members) if kind == "residual" else Product(members)
    quantizer.init_(latents(600, quantizer.dim))
    if how == "freeze_":
        members[held].freeze_()
    else:
        (members[held] if how == "eval" else books[held]).eval()

    # What the report says of a codebook is what happened to it.
    before = [book.codewords().clone() for book in books]
    for step in range(4):
        report = quantizer.update_(quantizer(latents(50, quantizer.dim, seed=step) * 0.1))
        assert len(report.revived) == len(report.window_usage) == len(report.window_perplexity) == 3
        assert len(report.revived[held]) == 0
        if how != "freeze_":
            assert report.window_usage[held] != report.window_usage[held]  # NaN: nothing was counted
    assert torch.equal(books[held].codewords(), before[held])
    for place in {0, 1, 2} - {held}:
        assert not torch.equal(books[place].codewords(), before[place])


def test_rows_of_a_composition_are_named_for_each_codebook() -> None:
    quantizer = Residual([VectorQuantizer(4, 12), FSQ([3] * 4), VectorQuantizer(4, 9)])
    quantizer.init_(latents())
    quantizer.freeze_(rows=[[1, 2], None, torch.tensor([8])])
    books = [book for book in quantizer.codebooks() if book is not None]
    before = [book.codewords().clone() for book in books]
    train(quantizer, None)
    for book, old, rows in zip(books, before, ([1, 2], [8]), strict=True):
        assert torch.equal(book.codewords()[rows], old[rows])
        assert not torch.equal(book.codewords(), old)


@pytest.mark.untyped  # some are no rows by the annotations, either
@pytest.mark.parametrize("rows", [[12], [-1], [0.5], torch.ones(11, dtype=torch.bool), True, [[1], [2]], "1"])
def test_rows_that_there_are_not(rows) -> None:
    quantizer = ready()
    for method in (quantizer.freeze_, quantizer.unfreeze_):
        with pytest.raises(InputError, match="rows must be"):
            method(rows)


@pytest.mark.parametrize(
    "make", [lambda: FSQ([5, 5]), lambda: Residual([FSQ([5, 5]), VectorQuantizer(2, 4)])]
)
def test_a_formula_has_no_rows_to_hold(make) -> None:
    quantizer = make()
    with pytest.raises(InputError, match="formula"):
        quantizer.freeze_([0] if isinstance(quantizer, FSQ) else [[0], None])
    with pytest.raises(InputError, match="form=Linear"):
        ready(update=Gradient(), form=Linear(), revival=Never()).freeze_([0])


def test_a_place_deep_inside_rests_alone() -> None:
    heads = [Residual(stages()), Residual(stages())]
    quantizer = Product(heads)
    quantizer.init_(latents(600, 8))
    heads[1].stages[1].eval()
    books = [book for book in quantizer.codebooks() if book is not None]
    before = [book.codewords().clone() for book in books]
    report = quantizer.update_(quantizer(latents(100, 8, seed=1) * 0.1))
    assert [usage == usage for usage in report.window_usage] == [True, True, True, True, False, True]
    moved = [not torch.equal(a, b.codewords()) for a, b in zip(before, books, strict=True)]
    assert moved == [True, True, True, True, False, True]
