"""Casts, averaged copies, and old files."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from zoo import EVERY

from codebound import FSQ, Projected, VectorQuantizer
from codebound.errors import InputError
from codebound.quantize import Quantizer


def normal(rows: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def begun(quantizer: Quantizer) -> Quantizer:
    quantizer.init_(normal(300, quantizer.dim))
    return quantizer.eval()


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow), torch.float64]
)
@pytest.mark.parametrize("name", EVERY)
def test_a_decoder_that_was_cast_along_takes_what_decode_gives(name: str, dtype: torch.dtype) -> None:
    quantizer = begun(EVERY[name]()).to(dtype)
    decoder = nn.Linear(quantizer.dim, 3).to(dtype)
    result = quantizer(normal(40, quantizer.dim).to(dtype))
    decoded = quantizer.decode(result.indices)
    assert torch.equal(decoder(decoded), decoder(result.z_q))


def test_the_cast_is_undone_by_the_next_and_copied_with_the_module() -> None:
    quantizer = begun(VectorQuantizer(4, 8))
    codewords = quantizer.codebook.codewords().clone()
    indices = torch.arange(8).unsqueeze(-1)
    half = quantizer.bfloat16()
    assert half.decode(indices).dtype == torch.bfloat16
    assert torch.equal(half.float().decode(indices), codewords)  # the codewords were never cast
    assert half.to("meta").dtype == torch.float32


def test_decode_in_a_type_of_choice() -> None:
    quantizer = begun(Projected(FSQ([5, 4]), 6))
    indices = quantizer.encode(normal(9, 6))
    assert quantizer.decode(indices).dtype == torch.float32
    assert quantizer.decode(indices, dtype=torch.float16).dtype == torch.float16
    assert quantizer.bfloat16().decode(indices, dtype=torch.float32).dtype == torch.float32


@pytest.mark.untyped
@pytest.mark.parametrize("wrong", [torch.int64, "float32"])
def test_decode_refuses_other_types(wrong) -> None:
    with pytest.raises(InputError, match="dtype must be a floating-point"):
        begun(VectorQuantizer(4, 8)).decode(torch.zeros(3, 1, dtype=torch.int64), dtype=wrong)


@pytest.mark.parametrize("average", [None, pytest.param(get_ema_multi_avg_fn(0.5), marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", EVERY)
def test_averaged_models_with_buffers(name: str, average) -> None:
    quantizer = EVERY[name]()
    begun(quantizer).train()
    averaged = AveragedModel(quantizer, use_buffers=True, multi_avg_fn=average)
    for seed in range(4):
        quantizer.update_(quantizer(normal(60, quantizer.dim, seed)))
        averaged.update_parameters(quantizer)
    z_q = averaged.eval()(normal(20, quantizer.dim)).z_q
    assert bool(z_q.isfinite().all())


def test_the_average_of_a_table() -> None:
    quantizer = VectorQuantizer(4, 8)
    begun(quantizer).train()
    averaged = AveragedModel(quantizer, use_buffers=True)
    tables = []
    for seed in range(3):
        quantizer.update_(quantizer(normal(60, 4, seed)))
        averaged.update_parameters(quantizer)
        tables.append(quantizer.codebook.table.clone())
    assert torch.allclose(averaged.module.codebook.table, torch.stack(tables).mean(0), atol=1e-6)
    with pytest.raises(InputError, match="another"):  # an average is another quantizer, too
        quantizer.update_(averaged.train()(normal(60, 4)))


def test_flags_of_older_files_were_bools() -> None:
    old, new = VectorQuantizer(4, 8), VectorQuantizer(4, 8)
    begun(old)
    old.codebook.freeze_()
    state = {name: tensor.clone() for name, tensor in old.state_dict().items()}
    for flag in ("codebook.initialised", "codebook.frozen"):
        state[flag] = state[flag].bool()
    new.load_state_dict(state)
    assert bool(new.codebook.initialised & new.codebook.frozen)
    assert not any(buffer.dtype == torch.bool for buffer in new.buffers())
