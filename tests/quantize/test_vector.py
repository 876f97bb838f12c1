"""What only the vector quantizer promises: precision of its state, reports, errors, the default's quality."""

import copy

import pytest
import torch
from torch import Tensor

from codebound import VectorQuantizer, __version__
from codebound.errors import InputError
from codebound.quantize.update import Gradient
from codebound.search import nearest


def normal(rows: int, dim: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def ready(**settings) -> VectorQuantizer:
    quantizer = VectorQuantizer(8, 16, **settings)
    quantizer.init_(normal(200))
    return quantizer


def test_version() -> None:
    assert __version__[0].isdigit()


@pytest.mark.parametrize("settings", [{}, {"update": Gradient()}], ids=str)
def test_state_stays_float32_in_half_precision(settings: dict) -> None:
    quantizer = ready(**settings)
    wanted = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    for cast in ("half", "bfloat16", "double"):
        model = getattr(torch.nn.Sequential(copy.deepcopy(quantizer)), cast)()
        for name, tensor in model[0].state_dict().items():
            assert tensor.dtype == wanted[name].dtype
            assert torch.equal(tensor, wanted[name])
        moved = model.to("cpu", torch.bfloat16)[0]
        assert moved.codebook.table.dtype == torch.float32
        assert isinstance(moved.codebook.table, torch.nn.Parameter) == quantizer.update.trains
        result = moved(normal(10).bfloat16())
        assert result.z_q.dtype == torch.bfloat16
        moved.update_(result)


def test_report() -> None:
    quantizer = ready()
    z = normal(100, seed=1)
    z[3, 2] = float("nan")
    mask = torch.arange(100) >= 2
    result = quantizer(z, mask=mask)
    report = quantizer.update_(result)
    assert (report.tokens, report.non_finite) == (97, 1)
    assert report.revived[0].shape == (0,)
    p = torch.bincount(result.indices[result.indices >= 0], minlength=16) / 97
    assert report.window_usage[0] == pytest.approx(float((p > 0).float().mean()))
    assert report.window_perplexity[0] == pytest.approx(float(torch.special.entr(p).sum().exp()), rel=1e-5)


def test_values_and_losses_by_hand() -> None:
    quantizer = VectorQuantizer(1, 2, update=Gradient(), loss_weights={"commitment": 0.5})
    quantizer.codebook.reset_(torch.tensor([[0.0], [10.0]]))
    result = quantizer(torch.tensor([[1.0], [7.0]]))
    assert result.indices.tolist() == [[0], [1]]
    assert result.z_q.tolist() == [[0.0], [10.0]]
    assert {name: value.item() for name, value in result.losses.items()} == {
        "commitment": 5.0,
        "codebook": 5.0,
    }
    assert result.loss.item() == 7.5  # ½·5 + 1·5


def test_loss_is_summed_over_dimensions_and_averaged_over_tokens() -> None:
    quantizer, z = ready(), normal(50, seed=2)
    chosen = quantizer.codebook.table[nearest(z, quantizer.codebook.table)]
    wanted = (z - chosen).square().sum(-1).mean()
    assert torch.allclose(quantizer(z).losses["commitment"], wanted)
    assert torch.allclose(quantizer(z).loss, 0.25 * wanted)


def test_same_seed_same_layer() -> None:
    tables = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(tables))  # of no consequence
        quantizer = VectorQuantizer(8, 16, seed=seed)
        quantizer.init_(normal(200))
        tables.append(quantizer.codebook.table)
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


def test_init_uses_only_finite_tokens() -> None:
    z = normal(200)
    z[::10] = float("nan")
    quantizer, clean = VectorQuantizer(8, 16), VectorQuantizer(8, 16)
    quantizer.init_(z)
    clean.init_(z[z.isfinite().all(-1)])
    assert torch.equal(quantizer.codebook.table, clean.codebook.table)
    with pytest.raises(InputError, match="finite"):
        quantizer.init_(torch.full((10, 8), float("nan")))


def test_reset_refuses_bad_codewords() -> None:
    quantizer = ready()
    with pytest.raises(InputError, match="shape"):
        quantizer.codebook.reset_(torch.zeros(15, 8))
    with pytest.raises(InputError, match="finite"):
        quantizer.codebook.reset_(torch.full((16, 8), float("inf")))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"dim": 0, "codebook_size": 4}, "dim"),
        ({"dim": 4, "codebook_size": 1}, "codebook_size"),
        ({"dim": 4, "codebook_size": 4, "loss_weights": {"beta": 1.0}}, "loss_weights"),
    ],
)
def test_arguments_out_of_range(arguments: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        VectorQuantizer(**arguments)


def test_checkpointing_and_double_forwards_update_once() -> None:
    """The state after one update does not know how often forward ran."""
    once, often, z = ready(), ready(), normal(64, seed=5)
    once.update_(once(z))
    for _ in range(3):
        result = often(z)
    often.update_(result)
    assert torch.equal(once.codebook.table, often.codebook.table)
