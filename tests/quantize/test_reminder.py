"""A layer that trains half-used says so, once, and names what to call; others are silent."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from codebound import FSQ, Product, Projected, Residual, VectorQuantizer
from codebound.quantize import Quantizer, estimator, reminder
from codebound.quantize.revival import Never
from codebound.quantize.update import Frozen, Gradient

Make = Callable[[], Quantizer]
FEW, PATIENCE = 8, 20


@pytest.fixture(autouse=True)
def _less_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 200 <= reminder.PATIENCE <= 400
    monkeypatch.setattr(reminder, "PATIENCE", PATIENCE)


def batch() -> Tensor:
    return torch.randn(16, 4, generator=torch.Generator().manual_seed(0))


def said(
    quantizer: Quantizer, *, init: bool = False, forwards: int = 2 * PATIENCE + 1, every: int = 0
) -> list[str]:
    """The warnings of so many training forwards, with an `update_` after each `every` of them."""
    z = batch()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if init:
            quantizer.init_(z)
        for count in range(1, forwards + 1):
            result = quantizer(z)
            if every and count % every == 0:
                quantizer.update_(result)
    return [str(warning.message) for warning in caught]


MAKES: dict[str, Make] = {
    "vector": lambda: VectorQuantizer(4, FEW),
    "gradient": lambda: VectorQuantizer(4, FEW, update=Gradient()),
    "gradient with noise": lambda: VectorQuantizer(
        4, FEW, update=Gradient(), revival=Never(), estimator=estimator.NSVQ()
    ),
    "residual": lambda: Residual([VectorQuantizer(4, FEW) for _ in range(3)]),
    "product of projected": lambda: Product([Projected(VectorQuantizer(3, FEW), 2) for _ in range(2)]),
}


@pytest.mark.parametrize("name", MAKES)
def test_what_is_missing_is_named_once(name: str) -> None:
    (init,) = said(MAKES[name]())
    assert "without init_" in init
    (update,) = said(MAKES[name](), init=True)
    assert "without update_" in update
    assert "auto_update" in update


def test_who_heeds_the_first_hears_the_second() -> None:
    quantizer = VectorQuantizer(4, FEW)
    assert "init_" in said(quantizer, forwards=PATIENCE)[0]
    assert said(quantizer, init=True, forwards=PATIENCE, every=1) == []
    assert "update_" in said(quantizer, forwards=PATIENCE)[0]


def test_not_before_a_few_hundred_forwards() -> None:
    assert said(VectorQuantizer(4, FEW), forwards=PATIENCE - 1) == []
    assert said(VectorQuantizer(4, FEW), init=True, every=PATIENCE - 1) == []


def frozen() -> Quantizer:
    quantizer = VectorQuantizer(4, FEW)
    quantizer.codebook.freeze_()
    return quantizer


def without_gradients() -> Quantizer:
    return VectorQuantizer(4, FEW, update=Gradient()).requires_grad_(False)


SILENT: dict[str, Make] = {
    "frozen update": lambda: VectorQuantizer(4, FEW, update=Frozen()),
    "frozen": frozen,
    "without gradients": without_gradients,
    "eval": lambda: VectorQuantizer(4, FEW).eval(),
    "formula": lambda: FSQ([5, 5, 5, 5]),
}


@pytest.mark.parametrize("name", SILENT)
def test_other_uses_are_silent(name: str) -> None:
    assert said(SILENT[name]()) == []


def test_nothing_to_update_is_no_reason() -> None:
    assert said(VectorQuantizer(4, FEW, update=Gradient(), revival=Never()), init=True) == []


def test_forwards_without_gradient_are_no_training() -> None:
    with torch.no_grad():
        assert said(VectorQuantizer(4, FEW)) == []


def test_a_copy_speaks_for_itself() -> None:
    quantizer = Residual([VectorQuantizer(4, FEW) for _ in range(2)])
    twin = copy.deepcopy(quantizer)
    assert len(said(quantizer)) == 1
    assert len(said(twin)) == 1


@pytest.mark.untyped
def test_it_breaks_no_graph() -> None:
    quantizer = VectorQuantizer(4, FEW)
    torch._dynamo.reset()
    compiled = torch.compile(quantizer, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(3):
            compiled(batch())
