"""What only the vector quantizer promises: precision of its state, reports, errors, the default's quality."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from codebound import VectorQuantizer, __version__
from codebound.errors import InputError
from codebound.quantize import Residual
from codebound.quantize.init import KMeans
from codebound.quantize.update import EMA, Gradient
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


def test_a_token_too_long_to_square_is_left_out() -> None:
    vq = VectorQuantizer(4, 16)
    z = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    vq.init_(z)
    z[3, 1] = 2e19
    q = vq(z)
    assert int(q.indices[3]) == -1
    assert vq.update_(q).non_finite == 1
    assert bool(vq.codebook.distortion.isfinite())
    assert bool(vq.codebook.table.isfinite().all())


def test_results_of_another_quantizer_move_nothing() -> None:
    z = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    small, large = VectorQuantizer(4, 8), VectorQuantizer(4, 16)
    pair = Residual([VectorQuantizer(4, 8), VectorQuantizer(4, 8)])
    other = Residual([VectorQuantizer(4, 8), VectorQuantizer(4, 16)])
    for each in (small, large, pair, other):
        each.init_(z)
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    with pytest.raises(InputError, match=r"\[8, 8\] codewords; got \[8, 16\]"):
        pair.update_(other(z))
    with pytest.raises(InputError, match=r"\[8, 8\] codewords; got \[8\]"):
        pair.update_(small(z))
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    with pytest.raises(InputError, match=r"\[8\] codewords; got \[16\]"):
        small.update_(large(z))
    wide = VectorQuantizer(5, 8)
    wide.init_(torch.randn(64, 5))
    with pytest.raises(InputError, match="dim=5; this has dim=4"):
        small.update_(wide(torch.randn(64, 5)))


@pytest.mark.untyped
def test_given_indices_are_checked() -> None:
    vq = VectorQuantizer(4, 8)
    z = torch.randn(6, 4)
    z[2] = torch.nan
    good = torch.tensor([[0], [1], [-1], [3], [4], [7]])
    assert vq.quantize_as(z, good).indices.tolist() == good.tolist()
    for bad in (torch.full((6, 1), 8), torch.full((6, 1), -1)):
        with pytest.raises(InputError, match="indices must be in 0 … 7"):
            vq.quantize_as(z, bad)
    with pytest.raises(InputError, match=r"shape \[6, 1\]"):
        vq.quantize_as(z, good[:3])


@pytest.mark.untyped
def test_indices_may_be_of_any_integer_type() -> None:
    vq, indices = VectorQuantizer(4, 8), torch.tensor([[0], [7]])
    assert torch.equal(vq.decode(indices.to(torch.uint8)), vq.decode(indices))


@pytest.mark.untyped
@pytest.mark.parametrize(
    "arguments",
    [
        {"dim": 4.0},
        {"codebook_size": "8"},
        {"seed": 1.5},
        {"assign": "nearest"},
        {"update": EMA},
        {"init": "kmeans"},
        {"revival": 3},
        {"estimator": None},
        {"form": None},
    ],
)
def test_what_is_no_choice_is_refused_by_name(arguments: dict) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        VectorQuantizer(**{"dim": 4, "codebook_size": 8, **arguments})


@pytest.mark.untyped
def test_arrays_are_not_tensors() -> None:
    with pytest.raises(InputError, match="ndarray"):
        VectorQuantizer(4, 8)(np.zeros((3, 4), dtype=np.float32))


@pytest.mark.parametrize("scale", [1e-30, 1e-13, 1e13, 1e20])
def test_k_means_begins_alike_in_any_unit(scale: float) -> None:
    z = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    plain, scaled = (KMeans()(x, 16, torch.Generator().manual_seed(0)) for x in (z, z * scale))
    assert torch.allclose(scaled / scale, plain, rtol=1e-3, atol=1e-4)
