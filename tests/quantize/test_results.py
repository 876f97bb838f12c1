"""Which results `update_` takes: those of this quantizer's own forwards since its last step, each once."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from zoo import EVERY

from codebound import Product, Residual, VectorQuantizer
from codebound.errors import InputError
from codebound.quantize import Quantized, Quantizer
from codebound.quantize.contract.case import difference, state


def normal(rows: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def begun(name: str) -> Quantizer:
    quantizer = EVERY[name]()
    quantizer.init_(normal(300, quantizer.dim))
    return quantizer.train()


def refused(quantizer: Quantizer, *results: Quantized) -> str:
    """What `update_` says; nothing may have moved."""
    before = state(quantizer)
    with pytest.raises(InputError) as caught:
        quantizer.update_(*results)
    assert difference(state(quantizer), before) is None
    return str(caught.value)


@torch.no_grad()  # a graph can't be copied
@pytest.mark.parametrize("name", EVERY)
def test_a_result_moves_its_own_quantizer_and_once(name: str) -> None:
    quantizer, other = begun(name), begun(name)
    z = normal(40, quantizer.dim, seed=1)
    first, second = quantizer(z), quantizer(z)
    assert "once" in refused(quantizer, first, first)
    assert "another" in refused(quantizer, other(z))
    assert "another" in refused(quantizer, first, copy.deepcopy(quantizer)(z))

    # Two forwards of equal input are two results, and their copies are as good as they are.
    assert quantizer.update_(first, pickle.loads(pickle.dumps(second))).tokens == 80
    assert "1 update_ ago" in refused(quantizer, first)
    assert "1 update_ ago" in refused(quantizer, copy.deepcopy(second))
    assert quantizer.update_(quantizer(z)).tokens == 40


@pytest.mark.parametrize("name", EVERY)
def test_a_loaded_state_is_another_start(name: str) -> None:
    quantizer = begun(name)
    result = quantizer(normal(40, quantizer.dim))
    quantizer.load_state_dict(quantizer.state_dict())
    assert "load_state_dict" in refused(quantizer, result)


@pytest.mark.parametrize("start", ["init_", "reset_"])
@pytest.mark.parametrize("wrap", [lambda vq: vq, lambda vq: Residual([vq]), lambda vq: Product([vq])])
def test_an_older_start(start: str, wrap: Callable[[VectorQuantizer], Quantizer]) -> None:
    vq = VectorQuantizer(4, 8)
    quantizer, z = wrap(vq), normal(60, 4)
    quantizer.init_(z)
    result = quantizer(z)
    if start == "init_":
        quantizer.init_(z)
    else:
        vq.codebook.reset_(z[:8])
    assert start in refused(quantizer, result)


def test_one_stage_that_began_anew_spoils_the_result_for_all() -> None:
    quantizer = Residual([VectorQuantizer(4, 8), VectorQuantizer(4, 8)])
    quantizer.init_(normal(60, 4))
    result = quantizer(normal(60, 4))
    last = quantizer.stages[1]
    assert isinstance(last, VectorQuantizer)
    last.codebook.reset_(normal(8, 4, seed=2))
    assert "reset_" in refused(quantizer, result)


@pytest.mark.untyped
def test_results_of_a_compiled_forward_are_stamped_anew_at_every_step() -> None:
    quantizer = VectorQuantizer(4, 8)
    quantizer.init_(normal(60, 4))
    torch._dynamo.reset()
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    for seed in range(3):
        result = compiled(normal(60, 4, seed))
        quantizer.update_(result)
        assert "1 update_ ago" in refused(quantizer, result)


@pytest.mark.untyped
def test_inference_mode() -> None:
    quantizer = VectorQuantizer(4, 8)
    quantizer.init_(normal(60, 4))
    with torch.inference_mode():
        result = quantizer(normal(60, 4))
    quantizer.update_(result)
    assert "1 update_ ago" in refused(quantizer, result)
