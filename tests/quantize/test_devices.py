"""State that is not there: modules made without numbers, other default devices and types, devices without float64."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from quantize.zoo import EVERY
from torch import Tensor
from torch.overrides import TorchFunctionMode

from codebound import exact, search
from codebound.errors import InputError
from codebound.quantize import Quantizer

# One of each way to keep state: tables, maps, codes that are formulas, compositions, noise.
KINDS = [
    "default",
    "ema, split",
    "gumbel, soft",
    "blahut_arimoto",
    "simvq",
    "unit, ema",
    "fsq 8555",
    "lfq",
    "bsq",
    "residual, dropout",
    "residual, beam",
    "residual FSQ",
    "product",
    "scaled",
    "projected",
    "projected, orthogonal",
    "random projection",
]


def latents(quantizer: Quantizer, rows: int = 300) -> Tensor:
    return torch.randn(rows, quantizer.dim, generator=torch.Generator("cpu").manual_seed(5), device="cpu")


def trained(name: str) -> Quantizer:
    """Moved by some updates, so that every buffer holds something of its own."""
    quantizer = EVERY[name]()
    quantizer.init_(latents(quantizer))
    for _ in range(4):
        quantizer.update_(quantizer(latents(quantizer)))
    return quantizer


def expect_same(found: Quantizer, wanted: Quantizer) -> None:
    """The same in eval and in a step of training."""
    z = latents(wanted, 50)
    assert torch.equal(found.eval().encode(z), wanted.eval().encode(z))
    assert torch.equal(found.decode(found.encode(z)), wanted.decode(wanted.encode(z)))
    results = [quantizer.train()(z) for quantizer in (found, wanted)]
    assert torch.equal(results[0].z_q, results[1].z_q)
    reports = [quantizer.update_(result) for quantizer, result in zip((found, wanted), results, strict=True)]
    assert reports[0].window_usage == pytest.approx(reports[1].window_usage, nan_ok=True)
    for key, value in wanted.state_dict().items():
        assert torch.equal(found.state_dict()[key], value), key


@pytest.mark.parametrize("name", KINDS)
def test_made_on_meta_and_loaded(name: str) -> None:
    source = trained(name)
    with torch.device("meta"):
        quantizer = EVERY[name]()
    quantizer.to_empty(device="cpu")
    for buffer in quantizer.buffers():  # what `to_empty` leaves there is anything
        buffer.view(torch.uint8).fill_(77) if buffer.ndim else buffer.fill_(77)
    quantizer.load_state_dict(source.state_dict(), strict=True)
    if not any("window" in key for key in source.state_dict()):  # a window that no file holds begins anew
        for module in (source, quantizer):
            for part in module.modules():
                if hasattr(part, "window_counts"):
                    part.window_counts.zero_()
    expect_same(quantizer, source)


@pytest.mark.parametrize("name", KINDS)
def test_made_on_meta_and_given_the_tensors_of_a_file(name: str) -> None:
    source = trained(name).eval()
    with torch.device("meta"):
        quantizer = EVERY[name]().eval()
    quantizer.load_state_dict(copy.deepcopy(source.state_dict()), strict=True, assign=True)
    z = latents(source, 50)
    assert torch.equal(quantizer.encode(z), source.encode(z))
    assert torch.equal(quantizer.decode(quantizer.encode(z)), source.decode(source.encode(z)))


def test_counts_that_no_file_holds_survive_to_empty() -> None:
    quantizer = trained("fsq 8555")
    before = quantizer.window_counts.clone()
    assert before.sum() == 1200
    assert torch.equal(quantizer.to_empty(device="cpu").window_counts, before)
    with torch.device("meta"):
        quantizer = EVERY["fsq 8555"]()
    assert quantizer.to_empty(device="cpu").window_counts.eq(0).all()


@pytest.mark.parametrize("name", ["default", "residual, dropout", "product", "projected"])
def test_learning_without_numbers_is_refused(name: str) -> None:
    quantizer = trained(name)
    z = latents(quantizer)
    meta = copy.deepcopy(quantizer).to("meta")
    with pytest.raises(InputError, match="meta"):
        meta.init_(z.to("meta"))
    with pytest.raises(InputError, match="meta"):
        meta.update_(meta(z.to("meta")))


@pytest.mark.parametrize("name", KINDS)
def test_where_new_tensors_go_changes_nothing(name: str) -> None:
    """With `meta` as the default device whatever is made without naming one has no numbers."""
    wanted = trained(name)
    quantizer = EVERY[name]()
    with torch.device("meta"):
        quantizer.init_(latents(quantizer))
        for _ in range(4):
            quantizer.update_(quantizer(latents(quantizer)))
    expect_same(quantizer, wanted)


@pytest.mark.parametrize("name", KINDS)
def test_float64_by_default_changes_nothing(name: str) -> None:
    wanted = trained(name)
    torch.set_default_dtype(torch.float64)
    try:
        quantizer = EVERY[name]()
        z = latents(quantizer).float()
        assert all(p.dtype == torch.float32 for p in quantizer.parameters())
        quantizer.load_state_dict(EVERY[name]().state_dict())
    finally:
        torch.set_default_dtype(torch.float32)
    for key, value in EVERY[name]().state_dict().items():
        assert torch.equal(quantizer.state_dict()[key], value), key
        assert quantizer.state_dict()[key].dtype == value.dtype, key
    quantizer.load_state_dict(wanted.state_dict())
    torch.set_default_dtype(torch.float64)
    try:
        found = quantizer.eval().encode(z)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, wanted.eval().encode(z))


class WithoutFloat64(TorchFunctionMode):
    """Stands for a device that has none: whatever makes such numbers fails, as `.to("mps")` does."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for value in found if isinstance(found, tuple | list) else [found]:
            if isinstance(value, Tensor) and value.dtype == torch.float64:
                raise TypeError(f"this device has no float64: {func}")
        return found


@contextmanager
def without_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def settle(z: Tensor, book: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction(), monkeypatch.context() as host:  # on the CPU, which has
            host.setattr(exact, "WITHOUT_FLOAT64", set())
            return exact.settle(z, book)

    with monkeypatch.context() as patched, WithoutFloat64():
        patched.setattr(search, "settle", settle)
        patched.setattr(exact, "WITHOUT_FLOAT64", {"cpu"})
        yield


# Blahut–Arimoto's slopes are for the report alone, and computed on the CPU.
@pytest.mark.parametrize("name", [name for name in KINDS if name != "blahut_arimoto"])
def test_a_device_without_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = trained(name)
    quantizer = copy.deepcopy(wanted)
    assert not [key for key, value in quantizer.state_dict().items() if value.dtype == torch.float64]
    z = latents(quantizer)
    with without_float64(monkeypatch):
        found = quantizer(z)
        quantizer.update_(found)
        indices = quantizer.eval().encode(z)
        quantizer.decode(indices)
    result = wanted(z)
    wanted.update_(result)
    torch.testing.assert_close(found.z_q, result.z_q)
    for key, value in wanted.state_dict().items():
        torch.testing.assert_close(quantizer.state_dict()[key], value, rtol=1e-5, atol=1e-6, msg=key)


def test_an_old_checkpoint_with_counts_in_float64_loads() -> None:
    quantizer = trained("default")
    state = {k: v.double() if "window" in k else v for k, v in quantizer.state_dict().items()}
    other = EVERY["default"]()
    other.load_state_dict(state)
    assert torch.equal(other.codebook.window_counts, quantizer.codebook.window_counts)
    assert other.codebook.window_counts.dtype == torch.int64


def test_ties_where_there_is_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settled on the CPU, in float64: the lowest index wins there, too."""
    book, z = torch.randn(7, 8).repeat(2, 1), torch.randn(200, 8)
    with without_float64(monkeypatch):
        assert search.nearest(z, book).max() < 7
