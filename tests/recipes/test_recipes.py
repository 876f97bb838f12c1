"""Every recipe builds, keeps the contract and learns; its settings are the paper's."""

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from codebound import check_quantizer, recipes
from codebound.errors import InputError
from codebound.quantize import (
    BSQ,
    FSQ,
    Pooled,
    Product,
    Projected,
    Quantizer,
    Residual,
    VectorQuantizer,
    codebook_parameters,
    from_spec,
    to_spec,
)
from codebound.quantize.assign import Cosine
from codebound.quantize.contract import CHECKS
from codebound.quantize.form import Linear, Unit
from codebound.quantize.init import KMeans
from codebound.quantize.revival import Never, Resample
from codebound.quantize.update import EMA, Frozen, Gradient
from codebound.recipes import papers

SMALL: dict[str, Callable[[], Quantizer]] = {
    "vqvae2017": lambda: recipes.vqvae2017(8, 16),
    "vqvae2017, ema": lambda: recipes.vqvae2017(8, 16, ema=True),
    "vit_vqgan": lambda: recipes.vit_vqgan(12, 32, code_dim=6),
    "llamagen": lambda: recipes.llamagen(12, 32, code_dim=4),
    "titok": lambda: recipes.titok(12, 32, code_dim=6),
    "open_magvit2": lambda: recipes.open_magvit2(6),
    "var": lambda: recipes.var(2, 16, sizes=[1, (2, 1), (3, 2)]),
    "snac": lambda: recipes.snac(6, codebook_size=16, code_dim=3),
    "mimi": lambda: recipes.mimi(10, stages=3, codebook_size=16, code_dim=4),
    "encodec": lambda: recipes.encodec(1.5, dim=6),
    "dac": lambda: recipes.dac(12, stages=3, codebook_size=16, code_dim=4),
    "simvq": lambda: recipes.simvq(6, 64),
    "fsq": lambda: recipes.fsq(8),
    "fsq, projected": lambda: recipes.fsq(8, dim=9),
    "fsq, levels": lambda: recipes.fsq(levels=[5, 4]),
    "bsq": lambda: recipes.bsq(12, 6),
    "ectcq": lambda: recipes.ectcq(3, 4.0, states=4),
    "ectcq, dither": lambda: recipes.ectcq(3, 4.0, states=4, surrogate="dither", rate_weight=0.01),
    "best_rq": lambda: recipes.best_rq(12, 16, code_dim=4),
}
ELSEWHERE = {"compiles", "exports", "two_ranks", "refuses_wrong_input"}  # as in tests/quantize/test_zoo.py
QUICK = [check.__name__ for check in CHECKS if check.__name__ not in ELSEWHERE]


LARGE = {"snac", "encodec", "mimi", "var", "dac"}  # many members: seconds each


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else []) for name in SMALL]
)
def test_contract(name: str) -> None:
    check_quantizer(SMALL[name], checks=QUICK)
    assert to_spec(from_spec(to_spec(SMALL[name]()))) == to_spec(SMALL[name]())


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_some_steps_of_an_autoencoder_lower_its_error(name: str) -> None:
    """With an encoder, a decoder and a codebook group of its own, as a training loop would."""
    quantizer = SMALL[name]().train()
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(16, quantizer.dim), nn.Linear(quantizer.dim, 16)
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(4, 16, generator=generator)

    def batch(tokens: int = 512) -> Tensor:
        return torch.randn(tokens, 4, generator=generator) @ mixing

    held_out = batch(2000)
    with torch.no_grad():
        quantizer.init_(encoder(batch(2048)))
    books = codebook_parameters(quantizer)
    others = [
        p for p in nn.ModuleList([encoder, decoder, quantizer]).parameters() if all(p is not b for b in books)
    ]
    groups = [{"params": others}, {"params": books, "lr": 3e-3}] if books else [{"params": others}]
    optimizer = torch.optim.Adam(groups, lr=1e-2)

    def error(x: Tensor) -> Tensor:
        return (decoder(quantizer.eval()(encoder(x)).z_q) - x).square().mean()

    before = float(error(held_out).detach())
    for _ in range(150):
        x = batch()
        result = quantizer.train()(encoder(x))
        loss = (decoder(result.z_q) - x).square().mean() + 0.1 * result.loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        report = quantizer.update_(result)
        assert report.tokens == 512
    assert float(error(held_out).detach()) < (0.7 if "best_rq" not in name else 0.95) * before


def test_every_recipe_is_here() -> None:
    functions = [
        name
        for name, value in vars(papers).items()
        if inspect.isfunction(value) and value.__module__ == papers.__name__ and not name.startswith("_")
    ]
    assert set(functions) == {name.split(",")[0] for name in SMALL}
    assert {name for name in recipes.__all__ if name.islower()} == set(functions)


# The papers' settings


def test_vqvae2017_is_the_papers() -> None:
    plain, ema = recipes.vqvae2017(), recipes.vqvae2017(ema=True)
    assert (plain.dim, plain.codebook_size) == (64, 512)
    assert plain.loss_weights == {"commitment": 0.25, "codebook": 1.0}
    assert plain.update == Gradient()
    assert ema.update == EMA(decay=0.99)
    assert plain.revival == Never()


def test_vit_vqgan_is_the_papers() -> None:
    quantizer = recipes.vit_vqgan()
    inner = quantizer.inner
    assert isinstance(inner, VectorQuantizer)
    assert (quantizer.dim, inner.dim, inner.codebook_size) == (768, 32, 8192)
    assert quantizer.normalise
    assert inner.form == Unit()
    assert inner.loss_weights == {"commitment": 0.25, "codebook": 1.0}
    z = torch.randn(3, 768, generator=torch.Generator().manual_seed(0))
    inside = inner.decode(quantizer.encode(z))
    assert torch.allclose(inside.norm(dim=-1), torch.ones(3))  # both sides on the sphere


@pytest.mark.parametrize(
    ("make", "dim", "code_dim", "size"), [(recipes.llamagen, 256, 8, 16384), (recipes.titok, 1024, 12, 4096)]
)
def test_other_codes_on_the_sphere_are_the_papers(make, dim: int, code_dim: int, size: int) -> None:
    quantizer = make()
    inner = quantizer.inner
    assert (quantizer.dim, inner.dim, inner.codebook_size) == (dim, code_dim, size)
    assert (quantizer.normalise, inner.form, inner.update) == (True, Unit(), Gradient())
    # β = 0.25 and 1 of means over the code's dimensions.
    assert inner.loss_weights["commitment"] * code_dim == pytest.approx(0.25)
    assert inner.loss_weights["codebook"] * code_dim == pytest.approx(1.0)


def test_open_magvit2_is_the_papers() -> None:
    quantizer = recipes.open_magvit2()
    assert quantizer.codebook_sizes == (2**18,)
    assert (quantizer.dim, quantizer.entropy_weight, quantizer.diversity) == (18, 0.1, 1.0)
    assert (quantizer.commitment_weight * 18, quantizer.temperature) == (pytest.approx(0.25), 0.01)


def test_var_is_the_papers() -> None:
    quantizer = recipes.var()
    assert quantizer.codebook_sizes == (4096,) * 680
    assert [h for h, _ in quantizer.sizes] == [1, 2, 3, 4, 5, 6, 8, 10, 13, 16]
    assert quantizer.dim == 16 * 16 * 32
    assert (quantizer.blends, quantizer.blend) == (4, 0.5)
    assert quantizer.inner.loss_weights["commitment"] * 32 == pytest.approx(0.25)
    assert quantizer.inner.loss_weights["codebook"] * 32 == pytest.approx(1.0)


def test_snac_is_the_papers() -> None:
    quantizer = recipes.snac()
    assert quantizer.dim == 4 * 768
    assert quantizer.codebook_sizes == (4096,) * (1 + 2 + 4)
    assert len(codebook_parameters(quantizer)) == 3  # a codebook for each resolution
    with pytest.raises(InputError, match="divide the largest"):
        recipes.snac(strides=(4, 3, 1))


def test_snac_is_its_algorithm() -> None:
    """Means over 4, 2 and 1 frames, each quantized and repeated, each on what the coarser left."""
    quantizer = SMALL["snac"]().eval()
    frames = torch.randn(5, 12, 6, generator=torch.Generator().manual_seed(0))
    z = frames.unflatten(1, (-1, 4)).flatten(-2)
    quantizer.init_(z)
    assert isinstance(quantizer, Residual)
    rest, total, indices = frames.movedim(1, 2), torch.zeros(5, 6, 12), []
    for stride, stage in zip((4, 2, 1), quantizer.stages, strict=True):
        places = stage.inner if isinstance(stage, Pooled) else stage
        assert isinstance(places, Product)
        code = places.parts[0]
        mean = nn.functional.avg_pool1d(rest, stride, stride).movedim(1, 2)
        indices.append(code.encode(mean)[..., 0])
        part = code.decode(indices[-1].unsqueeze(-1)).repeat_interleave(stride, dim=1).movedim(1, 2)
        rest, total = rest - part, total + part
    result = quantizer(z)
    ours = result.indices.split([1, 2, 4], dim=-1)
    for mine, theirs in zip(ours, indices, strict=True):
        assert torch.equal(mine.flatten(1), theirs)
    assert torch.allclose(result.z_q.unflatten(-1, (4, 6)).flatten(1, 2), total.movedim(1, 2), atol=1e-5)


def test_mimi_is_the_papers() -> None:
    quantizer = recipes.mimi()
    assert quantizer.codebook_sizes == (2048,) * 8
    both = quantizer.inner
    assert isinstance(both, Product)
    semantic, acoustic = both.parts
    assert isinstance(semantic, VectorQuantizer)
    assert isinstance(acoustic, Residual)
    assert (quantizer.dim, semantic.dim, len(acoustic.stages)) == (512, 256, 7)
    assert (semantic.update, semantic.revival) == (EMA(decay=0.99), Resample(threshold=0.1))
    with pytest.raises(InputError, match="stages must be at least 2"):
        recipes.mimi(stages=1)


def test_mimi_is_a_sum_of_two_quantizers_side_by_side() -> None:
    """Each with maps of its own, neither on what the other left (authors' code)."""
    quantizer = SMALL["mimi"]().eval()
    z = torch.randn(300, 10, generator=torch.Generator().manual_seed(0))
    quantizer.init_(z)
    assert isinstance(quantizer, Projected)
    assert isinstance(quantizer.inner, Product)
    total = quantizer.bias_out.expand(300, -1)
    indices = []
    for part, at in zip(quantizer.inner.parts, (slice(0, 4), slice(4, 8)), strict=True):
        inside = z @ quantizer.weight_in[at].T + quantizer.bias_in[at]
        indices.append(part.encode(inside))
        total = total + part.decode(indices[-1]) @ quantizer.weight_out[:, at].T
    result = quantizer(z)
    assert torch.equal(result.indices, torch.cat(indices, dim=1))
    assert torch.allclose(result.z_q, total, atol=1e-5)


@pytest.mark.parametrize(("bandwidth", "stages"), [(1.5, 2), (3.0, 4), (6.0, 8), (12.0, 16), (24.0, 32)])
def test_encodec_is_the_papers(bandwidth: float, stages: int) -> None:
    quantizer = recipes.encodec(bandwidth)
    assert quantizer.codebook_sizes == (1024,) * stages
    assert stages * 10 * 75 == bandwidth * 1000  # bits a frame, frames a second
    first = quantizer.stages[0]
    assert isinstance(first, VectorQuantizer)
    assert (first.dim, first.update, first.init) == (128, EMA(decay=0.99), KMeans(iterations=50))
    assert isinstance(first.revival, Resample)
    # λ_w = 1 of a mean over stages and dimensions.
    assert first.loss_weights["commitment"] * stages * 128 == pytest.approx(1.0)
    with pytest.raises(InputError, match="bandwidth"):
        recipes.encodec(bandwidth + 0.1)


def test_encodec_refuses_no_stage() -> None:
    for bandwidth in (0.0, -1.5):
        with pytest.raises(InputError, match="bandwidth"):
            recipes.encodec(bandwidth)


def test_dac_is_the_papers() -> None:
    quantizer = recipes.dac()
    assert quantizer.codebook_sizes == (1024,) * 9
    assert 7.7 < 9 * 10 * 44_100 / 512 / 1000 < 8  # kbps: a frame of 512 samples
    assert quantizer.depth_dropout == 0.5
    assert quantizer.estimator is None
    for stage in quantizer.stages:
        assert isinstance(stage, Projected)
        inner = stage.inner
        assert isinstance(inner, VectorQuantizer)
        assert (inner.dim, inner.assign, inner.update) == (8, Cosine(), Gradient())
        assert inner.loss_weights == {"commitment": 0.25 / 8, "codebook": 1.0 / 8}
    assert isinstance(quantizer, Residual)


def test_simvq_is_the_papers() -> None:
    quantizer = recipes.simvq()
    assert (quantizer.dim, quantizer.codebook_size, quantizer.form) == (128, 65536, Linear())
    assert quantizer.loss_weights == {"commitment": 0.25, "codebook": 1.0}
    quantizer.init_(torch.randn(10, 128, generator=torch.Generator().manual_seed(0)))
    assert float(quantizer.codebook.table.std()) == pytest.approx(128**-0.5, rel=0.01)
    assert [name for name, _ in quantizer.named_parameters()] == ["codebook.map"]  # the table is frozen
    assert torch.equal(quantizer.codebook.codewords(), quantizer.codebook.table)  # W begins as I


@pytest.mark.parametrize(("bits", "codes"), [(8, 240), (10, 1000), (12, 4375), (14, 15_360), (16, 64_000)])
def test_fsq_is_table_1(bits: int, codes: int) -> None:
    quantizer = recipes.fsq(bits)
    assert isinstance(quantizer, FSQ)
    assert quantizer.codebook_sizes == (codes,)
    assert abs(codes / 2**bits - 1) < 0.1
    with pytest.raises(InputError, match="bits"):
        recipes.fsq(bits + 1)


def test_bsq_is_the_papers() -> None:
    quantizer = recipes.bsq()
    inner = quantizer.inner
    assert isinstance(inner, BSQ)
    assert (quantizer.dim, inner.bits) == (768, 18)
    assert float(inner.decode(torch.zeros(1, 1, dtype=torch.int64)).norm()) == pytest.approx(1.0)
    assert recipes.bsq(bits=36).codebook_sizes == (2**36,)


def test_best_rq_is_the_papers() -> None:
    quantizer = recipes.best_rq()
    inner = quantizer.inner
    assert isinstance(inner, VectorQuantizer)
    assert (quantizer.dim, inner.dim, inner.codebook_size) == (512, 16, 8192)
    assert (inner.form, inner.update) == (Unit(), Frozen())
    assert quantizer.normalise
    assert not list(quantizer.parameters())
    before = inner.codebook.table.clone()
    z = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    inner.codebook.reset_(before)
    quantizer.update_(quantizer.train()(z))
    assert torch.equal(inner.codebook.table, before)
