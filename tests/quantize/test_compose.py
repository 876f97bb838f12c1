"""Quantizers made of quantizers: what they add up to, what reaches what, and the contract."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from zoo import dac_like, shared_residual, vq

from codebound.errors import InputError
from codebound.quantize import (
    FSQ,
    LFQ,
    Product,
    Projected,
    Quantized,
    Quantizer,
    Residual,
    Scaled,
    UpdateReport,
    codebook_parameters,
    quantizers,
)
from codebound.quantize.assign import Cosine
from codebound.quantize.estimator import Gumbel, StopGradient
from codebound.quantize.init import Sample
from codebound.quantize.revival import Never
from codebound.quantize.update import Gradient

# Residual


def data(tokens: int = 600, dim: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(tokens, dim, generator=torch.Generator().manual_seed(seed))


def ready(quantizer: Quantizer, z: Tensor) -> Quantizer:
    quantizer.init_(z)
    return quantizer


def distortion(z: Tensor, z_q: Tensor) -> float:
    return float((z - z_q).square().sum(-1).mean())


def test_one_stage_is_that_stage() -> None:
    z = data()
    stage = vq()
    residual = Residual([copy.deepcopy(stage)])
    ready(stage, z)
    ready(residual, z)
    one, other = z.clone().requires_grad_(), z.clone().requires_grad_()
    wanted, got = stage(one), residual(other)
    assert torch.equal(got.z_q, wanted.z_q)
    assert torch.equal(got.indices, wanted.indices)
    assert torch.equal(got.loss, wanted.loss)
    assert torch.equal(got.losses["0.commitment"], wanted.losses["commitment"])
    for result in (wanted, got):
        (result.z_q.square().sum() + result.loss).backward()
    assert one.grad is not None
    assert other.grad is not None
    assert torch.equal(one.grad, other.grad)
    stage.update_(wanted)
    residual.update_(got)
    for name, tensor in stage.state_dict().items():
        assert torch.equal(residual.state_dict()[f"members.0.{name}"], tensor)


def test_distortion_falls_with_depth_and_the_losses_say_so() -> None:
    z = data(2000)
    residual = ready(Residual([vq(size=32, seed=s) for s in range(4)]), z).train()
    result = residual(z)
    by_depth = []
    for depth in range(1, 5):
        indices = residual.encode(z, depth=depth)
        assert torch.equal(indices, result.indices[:, :depth])
        by_depth.append(distortion(z, residual.decode(indices)))
        assert by_depth[-1] == pytest.approx(float(result.losses[f"{depth - 1}.commitment"]), rel=1e-5)
    assert all(b < 0.8 * a for a, b in pairwise(by_depth))


def test_the_commitment_of_every_stage_reaches_the_encoder() -> None:
    z = data()
    residual = ready(Residual([vq(seed=s) for s in range(3)]), z).train()
    leaf = z.clone().requires_grad_()
    result = residual(leaf)
    for q in range(3):
        (gradient,) = torch.autograd.grad(result.losses[f"{q}.commitment"], leaf, retain_graph=True)
        left = z - residual.decode(result.indices[:, : q + 1])
        assert torch.allclose(gradient, 2 * left / len(z), atol=1e-7)
        assert float(gradient.abs().max()) > 1e-4


def test_with_their_own_estimators_later_commitments_do_not_reach_it() -> None:
    z = data()
    residual = ready(Residual([vq(seed=s) for s in range(2)], estimator=None), z).train()
    leaf = z.clone().requires_grad_()
    result = residual(leaf)
    (gradient,) = torch.autograd.grad(result.losses["1.commitment"], leaf, retain_graph=True)
    assert float(gradient.abs().max()) == 0.0  # why that is not the default
    (through,) = torch.autograd.grad(result.z_q.sum(), leaf)
    assert torch.equal(through, torch.ones_like(z))


def test_own_estimators_train_the_projections() -> None:
    quantizer = ready(dac_like(), data()).train()
    result = quantizer(data())
    result.z_q.square().sum().backward()
    for name, parameter in quantizer.named_parameters():
        if "weight" in name:
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("width", [2, 4])
def test_beam_is_never_worse_than_greedy(width: int) -> None:
    z = data(1000)
    greedy = ready(Residual([vq(seed=s) for s in range(4)]), z).eval()
    beam = Residual([vq(seed=s) for s in range(4)], beam_width=width).eval()
    beam.load_state_dict(greedy.state_dict())
    for depth in range(1, 5):
        one = greedy.decode(greedy.encode(z, depth=depth))
        best = beam.decode(beam.encode(z, depth=depth))
        worse = (z - best).square().sum(-1) - (z - one).square().sum(-1)
        assert float(worse.max()) < 1e-5
        if depth == 1:
            assert torch.equal(one, best)
    assert distortion(z, best) < 0.97 * distortion(z, one)  # and worth its cost
    assert torch.equal(beam.train()(z).indices, beam.encode(z))


def test_depth_dropout_leaves_stages_out_of_everything() -> None:
    z = data(3000)
    residual = ready(Residual([vq(seed=s) for s in range(4)], depth_dropout=0.8), z).train()
    result = residual(z)
    used = result.indices >= 0
    depths = used.sum(1)
    assert torch.equal(used, torch.arange(4) < depths.unsqueeze(1))  # always the first ones
    share = depths.bincount(minlength=5)[1:] / len(z)
    # cut with probability 0.8, uniformly to 1 … 4
    assert torch.allclose(share, torch.tensor([0.2, 0.2, 0.2, 0.4]), atol=0.03)
    for q, stats in enumerate(result.stats):
        assert int(stats.hits.sum()) == int(used[:, q].sum())
    for depth in range(1, 5):
        at = depths == depth
        wanted = residual.decode(result.indices[at, :depth])
        assert torch.equal(result.z_q[at], wanted)
    last = (z - result.z_q)[depths == 4].square().sum(-1).mean()
    assert float(result.losses["3.commitment"]) == pytest.approx(float(last), rel=1e-4)
    again = residual(z)
    assert torch.equal(again.indices, result.indices)  # a recomputation draws the same
    residual.update_(result)
    assert not torch.equal(residual(z).indices >= 0, used)  # the next step does not
    assert bool((residual.eval()(z).indices >= 0).all())


def test_depth_is_one_draw_for_a_sample() -> None:
    z = data(40 * 10).view(40, 10, 8)
    residual = ready(Residual([vq(seed=s) for s in range(4)], depth_dropout=1.0), z).train()
    mask = torch.ones(40, 10, dtype=torch.bool)
    mask[:, 7:] = False
    padded = torch.where(mask.unsqueeze(-1), z, 123.0)
    indices = residual(padded, mask=mask).indices
    used = (indices >= 0).sum(-1)[:, :7]
    assert bool((used == used[:, :1]).all())
    assert len(used[:, 0].unique()) == 4
    assert torch.equal(indices[:, :7], residual(z[:, :7]).indices)  # what padding holds does not matter


def test_a_dropped_stage_keeps_its_codewords() -> None:
    z = data()
    residual = ready(Residual([vq(seed=s) for s in range(2)], depth_dropout=1.0), z).train()
    for seed in range(100):  # a batch of one sample: sooner or later its second stage is left out
        residual.salt.fill_(seed)
        result = residual(z.view(1, -1, 8))
        if bool((result.indices[..., 1] == -1).all()):
            break
    before = [stage.codebook.table.clone() for stage in residual.stages]
    residual.update_(result)
    assert not torch.equal(residual.stages[0].codebook.table, before[0])
    assert torch.allclose(residual.stages[1].codebook.table, before[1], atol=1e-4)


def test_masks_reach_all_stages() -> None:
    z = data()
    residual = ready(Residual([vq(seed=s) for s in range(3)]), z).train()
    mask = torch.arange(len(z)) % 2 == 0
    result = residual(z, mask=mask)
    assert bool((result.indices[~mask] == -1).all())
    assert all(int(stats.hits.sum()) == int(mask.sum()) for stats in result.stats)
    alone = residual(z[mask])
    assert torch.equal(result.z_q[mask], alone.z_q)
    assert float(result.loss) == pytest.approx(float(alone.loss), rel=1e-6)


def test_a_shared_codebook_is_stored_and_updated_once() -> None:
    z = data()
    residual = ready(shared_residual(), z).train()
    assert isinstance(residual, Residual)
    assert len(residual.members) == 1
    assert residual.stages[0] is residual.stages[2]
    assert len(residual.codebook_sizes) == len(residual(z).stats) == 3
    result = residual(z)
    single = copy.deepcopy(residual.stages[0])
    left, inputs = z, []
    for q in range(3):
        inputs.append(left)
        left = left - single.decode(result.indices[:, q : q + 1])
    single.update_(single(torch.cat(inputs)))
    report = residual.update_(result)
    assert (report.tokens, report.non_finite) == (len(z), 0)
    assert len(report.window_usage) == 1
    assert int(residual.members[0].codebook.step) == 1
    assert torch.equal(residual.members[0].codebook.table, single.codebook.table)


def test_sharing_has_to_be_meant() -> None:
    with pytest.raises(InputError, match="share=True"):
        Residual([vq()] * 2)
    inner = vq(4)
    with pytest.raises(InputError, match="inside"):
        Product([Projected(inner, 3), Projected(inner, 3)], share=True)


def test_a_stage_in_eval_is_frozen() -> None:
    z = data()
    residual = ready(Residual([vq(), vq(seed=1)]), z).train()
    residual.stages[0].eval()
    before = residual.stages[0].codebook.table.clone()
    result = residual(z)
    report = residual.update_(result)
    assert report.tokens == len(z)
    assert torch.equal(residual.stages[0].codebook.table, before)
    assert int(residual.stages[1].codebook.step) == 1


def test_residual_refuses() -> None:
    for call, word in (
        (lambda: Residual([]), "stages"),
        (lambda: Residual([vq(4), vq(5)]), "dim"),
        (lambda: Residual([vq()], depth_dropout=1.5), "depth_dropout"),
        (lambda: Residual([vq()], beam_width=0), "beam_width"),
        (lambda: Residual([vq(assign=Cosine())], beam_width=2), "beam_width"),
        (lambda: Residual([LFQ(3)], beam_width=2), "beam_width"),
        (lambda: Residual([vq()], estimator=Gumbel()), "estimator"),
        (lambda: Residual([Projected(vq(4), 8)]), "estimator"),
        (lambda: Residual([Residual([vq()], depth_dropout=0.5)]), "depth_dropout"),
    ):
        with pytest.raises(InputError, match=word):
            call()
    residual = ready(Residual([vq(), Product([vq(4), vq(4)])]), data()).eval()
    with pytest.raises(InputError, match="depth"):
        residual.encode(data(), depth=3)
    indices = residual.encode(data())
    assert residual.decode(indices[:, :1]).shape == (600, 8)
    with pytest.raises(InputError, match="indices"):
        residual.decode(indices[:, :2])  # half a stage
    with pytest.raises(InputError, match="indices"):
        residual.decode(indices - 17)


@pytest.mark.parametrize("kind", ["FSQ", "LFQ"])
def test_scalar_stages_refine(kind: str) -> None:
    z = data(1000, 4) * 0.3
    stages = [Scaled(FSQ([5] * 4), 4.0**-q) if kind == "FSQ" else LFQ(4, scale=0.5**q) for q in range(4)]
    residual = Residual(stages).eval()
    by_depth = [distortion(z, residual.decode(residual.encode(z, depth=d))) for d in range(1, 5)]
    assert all(b < 0.5 * a for a, b in pairwise(by_depth))


# Product, Projected, Scaled


def test_product_is_its_parts_on_the_slices() -> None:
    z = data()
    parts = [vq(3), vq(5, 9, seed=1)]
    product = ready(Product(parts), z).train()
    alone = [copy.deepcopy(part) for part in parts]
    for part, piece in zip(alone, z.split([3, 5], dim=1), strict=True):
        fresh = vq(part.dim, part.codebook_size, part.seed)
        fresh.init_(piece)
        assert torch.equal(fresh.codebook.table, part.codebook.table)
    result = product(z)
    wanted = [part(piece) for part, piece in zip(alone, z.split([3, 5], dim=1), strict=True)]
    assert torch.equal(result.indices, torch.cat([w.indices for w in wanted], dim=1))
    assert torch.equal(result.z_q, torch.cat([w.z_q for w in wanted], dim=1))
    assert float(result.loss) == pytest.approx(float(wanted[0].loss + wanted[1].loss))


def test_shared_heads_learn_from_all_slices() -> None:
    z = data()
    head = vq(4)
    product = ready(Product([head] * 2, share=True), z).train()
    alone = vq(4)
    alone.init_(torch.stack(z.split(4, dim=1), dim=1).view(-1, 4))
    assert torch.equal(alone.codebook.table, head.codebook.table)
    report = product.update_(product(z))
    alone.update_(alone(torch.cat(z.split(4, dim=1))))
    assert torch.equal(alone.codebook.table, head.codebook.table)
    assert report.tokens == len(z)


def test_an_orthogonal_projection_turns_the_inner_quantizer() -> None:
    z = data()
    inner = vq(8, init=Sample())
    projected = ready(Projected(inner, 8, frozen=True, seed=3), z).eval()
    turn = projected.weight_in
    assert torch.allclose(turn @ turn.T, torch.eye(8), atol=1e-6)
    result, wanted = projected(z), inner(z @ turn.T)
    assert torch.equal(result.indices, wanted.indices)
    assert torch.allclose(result.z_q, wanted.z_q @ turn, atol=1e-6)
    # Turned codewords in the outer space find the same.
    outer = vq(8).eval()
    outer.codebook.reset_(inner.codebook.table @ turn)
    assert torch.equal(outer.encode(z), result.indices)
    assert not list(projected.parameters())


def test_trained_projections_get_gradients_and_normalise() -> None:
    z = data(100, 9)
    projected = ready(Projected(vq(4, update=Gradient()), 9, normalise=True), z).train()
    seen: list[Tensor] = []
    projected.inner.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    result = projected(z)
    assert torch.allclose(seen[0].norm(dim=-1), torch.ones(100), atol=1e-6)
    result.z_q.square().sum().backward()
    for name in ("weight_in", "bias_in", "weight_out", "bias_out"):
        assert float(getattr(projected, name).grad.abs().max()) > 0
    frozen = ready(Projected(vq(4), 9, normalise=True, frozen=True), z).train()
    leaf = torch.zeros(5, 9, requires_grad=True)
    frozen(leaf).z_q.sum().backward()
    assert leaf.grad is not None
    assert float(leaf.grad.abs().max()) < 100  # not 1/ε at a vector without direction


def test_a_projected_token_does_not_depend_on_its_company() -> None:
    """Bit for bit, where a float32 product's last bits depend on the number of rows; gradients are F.linear's."""
    z = data(500, 200).requires_grad_()
    projected = Projected(vq(7, update=Gradient()), 200)
    whole, naive = projected._into(z), nn.functional.linear(z, projected.weight_in, projected.bias_in)
    for rows in (1, 2, 3, 17, 250):
        assert torch.equal(projected._into(z[:rows]), whole[:rows])
    assert torch.allclose(whole, naive, atol=1e-5)
    direction = data(500, 7, seed=1)
    leaves = (z, projected.weight_in, projected.bias_in)
    got = torch.autograd.grad(whole.mul(direction).sum(), leaves)
    wanted = torch.autograd.grad(naive.mul(direction).sum(), leaves)
    for a, b in zip(got, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_scaled() -> None:
    z = data(50, 3)
    scale = (0.5, 2.0, 4.0)
    inner, scaled = FSQ([5, 5, 5]).eval(), Scaled(FSQ([5, 5, 5]), scale).eval()
    assert torch.equal(scaled.encode(z), inner.encode(z / torch.tensor(scale)))
    assert torch.equal(scaled(z).z_q, inner(z / torch.tensor(scale)).z_q * torch.tensor(scale))
    for bad in (0.0, -1.0, (1.0, 2.0), float("nan")):
        with pytest.raises(InputError, match="scale"):
            Scaled(FSQ([5, 5, 5]), bad)


class Halves(Quantizer):
    """From outside, without statistics: rounds to halves in [0, 1.5]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim, self.codebook_sizes = dim, (4,) * dim

    def forward(self, z, *, mask=None, generator=None) -> Quantized:
        self.check_input(z, mask)
        valid = z.isfinite().all(-1) if mask is None else z.isfinite().all(-1) & mask
        indices = self.encode(torch.where(valid.unsqueeze(-1), z, 0.0))
        indices = torch.where(valid.unsqueeze(-1), indices, -1)
        z_q = torch.where(valid.unsqueeze(-1), indices / 2, 0.0).to(z.dtype)
        return Quantized(z_q, indices, z.new_zeros(()), {}, ())

    def encode(self, z: Tensor) -> Tensor:
        indices = (2 * z).round().clamp(0, 3).nan_to_num().long()
        return torch.where(z.isfinite().all(-1, keepdim=True), indices, -1)

    def decode(self, indices: Tensor, *, mask: Tensor | None = None, dtype=None) -> Tensor:
        self.check_indices(indices, mask)
        z_q = (indices / 2).to(self.decoded_dtype(dtype))
        return z_q if mask is None else torch.where(mask.unsqueeze(-1), z_q, 0.0)

    def init_(self, z: Tensor, *, generator=None) -> None: ...

    def update_(self, *results: Quantized) -> UpdateReport:
        return UpdateReport(0, 0, (), ())


def test_a_class_from_outside_with_many_indices_and_no_statistics() -> None:
    z = data(600, 3)
    residual = ready(Residual([Halves(3), vq(3)]), z).train()
    result = residual(z)
    assert result.indices.shape == (600, 4)
    assert [len(stats.counts) for stats in result.stats] == [0, 0, 0, 16]  # one per index
    assert [float(stats.hits.sum()) for stats in result.stats] == [600] * 4  # each says how many tokens came
    report = residual.update_(result)
    assert report.tokens == 600
    assert len(report.window_usage) == 1
    assert int(residual.stages[1].codebook.step) == 1


# Finding


def test_quantizers_finds_the_outermost() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(8, 8), nn.ModuleList([Product([vq(4), vq(4, seed=1)])]))
            self.bottleneck = nn.ModuleDict({"rvq": Residual([vq()])})
            self.again = self.bottleneck["rvq"]

    model = Model()
    found = quantizers(model)
    assert list(found) == ["encoder.1.0", "bottleneck.rvq"]
    assert found["bottleneck.rvq"] is model.again
    assert list(quantizers(found["encoder.1.0"])) == [""]
    assert quantizers(nn.Linear(2, 2)) == {}


def test_codebook_parameters() -> None:
    inner = Residual([vq(4, update=Gradient(), revival=Never())] * 2, share=True, estimator=StopGradient())
    projected = Projected(inner, 8)
    (table,) = codebook_parameters(nn.ModuleList([projected, inner]))
    assert table is inner.stages[0].codebook.table
    assert projected.codebook_parameters() == inner.codebook_parameters() == [table]
    assert codebook_parameters(vq()) == []
