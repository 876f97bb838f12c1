"""What is no argument of its kind is refused by an `InputError` that names it, everywhere."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from codebound import BSQ, FSQ, LFQ, Product, Projected, Residual, VectorQuantizer, quantizers
from codebound.errors import InputError
from codebound.metrics.code_usage import CodeUsage
from codebound.metrics.gap import Gap
from codebound.quantize import (
    Scaled,
    assign,
    estimator,
    from_spec,
    init,
    layout,
    load,
    nearest,
    objectives,
    revival,
    save,
    to_spec,
    update,
)

pytestmark = pytest.mark.untyped  # the annotations' hook would refuse most of it first
Z = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


def vq(**choices: Any) -> VectorQuantizer:
    made = VectorQuantizer(4, 8, **choices)
    made.init_(Z)
    return made


def tied() -> list[VectorQuantizer]:
    one, other = (vq(update=update.Gradient()) for _ in range(2))
    other.codebook.table = one.codebook.table
    return [one, other]


INDICES = torch.zeros(2, 1, dtype=torch.int64)
WRONG: list[tuple[str, Callable[[], object]]] = [
    # Quantizers
    ("dim", lambda: VectorQuantizer(True, 8)),
    ("dim", lambda: VectorQuantizer("4", 8)),
    ("codebook_size", lambda: VectorQuantizer(4, 8.0)),
    ("seed", lambda: vq(seed=2**70)),
    ("loss_weights", lambda: vq(loss_weights={"commitment": None})),
    ("loss_weights", lambda: vq(loss_weights=None)),
    ("loss_weights", lambda: vq(loss_weights=[1])),
    ("levels", lambda: FSQ(8)),
    ("levels", lambda: FSQ("88")),
    ("levels", lambda: FSQ([8.0, 5.0])),
    ("bits", lambda: LFQ(6.0)),
    ("scale", lambda: LFQ(6, scale="1")),
    ("entropy_weight", lambda: LFQ(6, entropy_weight=None)),
    ("temperature", lambda: LFQ(6, temperature=float("nan"))),
    ("bits", lambda: BSQ("4")),
    ("dim", lambda: Projected(vq(), "16")),
    ("dim", lambda: Projected(vq(), 16.0)),
    ("seed", lambda: Projected(vq(), 16, seed="a")),
    ("inner", lambda: Projected(None, 16)),
    ("inner", lambda: Scaled(None, 1.0)),
    ("scale", lambda: Scaled(vq(), "1")),
    ("scale", lambda: Scaled(vq(), None)),
    ("scale", lambda: Scaled(vq(), ["a"] * 4)),
    ("stages", lambda: Residual(vq())),
    ("stages", lambda: Residual(None)),
    ("parts", lambda: Product(vq())),
    ("one table", lambda: Product(tied())),
    ("depth_dropout", lambda: Residual([vq()], depth_dropout="0.5")),
    ("beam_width", lambda: Residual([vq(), vq()], beam_width=2.5)),
    ("estimator", lambda: Residual([vq()], estimator="ste")),
    ("seed", lambda: Residual([vq()], seed=1.5)),
    # Their methods
    ("indices", lambda: vq().decode([1, 2])),
    ("indices", lambda: FSQ([5, 5]).decode(None)),
    ("mask", lambda: vq().decode(INDICES, mask=[True, True])),
    ("mask", lambda: vq()(Z, mask=[True])),
    ("z", lambda: vq().encode([1.0, 2.0])),
    ("generator", lambda: vq()(Z, generator=3)),
    ("generator", lambda: Residual([vq()], depth_dropout=0.5)(Z, generator=3)),
    ("generator", lambda: LFQ(4, stochastic=True)(Z, generator=3)),
    ("generator", lambda: vq().init_(Z, generator=3)),
    ("depth", lambda: Residual([vq(), vq()]).encode(Z, depth=1.5)),
    ("depth", lambda: Residual([vq(), vq()]).encode(Z, depth="1")),
    *[
        ("update_", lambda q=q, r=r: q.update_(r))
        for q in (vq(), FSQ([5, 5]), Residual([vq()]))
        for r in (None, Z, [])
    ],
    # Choices
    ("decay", lambda: update.EMA(decay="0.9")),
    ("smoothing", lambda: update.EMA(smoothing=None)),
    ("hard_decay", lambda: update.BlahutArimoto(hard_decay=1.0)),
    ("jitter", lambda: update.BlahutArimoto(jitter="x")),
    ("iterations", lambda: init.KMeans(iterations=2.5)),
    ("seeding", lambda: init.KMeans(seeding="x")),
    ("std", lambda: init.Normal("1")),
    ("rule", lambda: init.RateDistortion("1")),
    ("iterations", lambda: init.Synthetic(iterations=2.5)),
    ("samples_per_codeword", lambda: init.Lattice(samples_per_codeword=2.5)),
    ("candidates", lambda: init.Best(init.Normal())),
    ("held_out", lambda: init.Best((init.Normal(),), held_out="x")),
    ("threshold", lambda: revival.Resample(threshold="x")),
    ("candidates", lambda: revival.Resample(candidates=2.5)),
    ("window", lambda: revival.Resample(window=None)),
    ("window", lambda: revival.Never(window="x")),
    ("spread", lambda: revival.Split(spread=-1.0)),
    ("temperature", lambda: assign.Stochastic("1")),
    ("scale", lambda: assign.Gumbel(None)),
    ("weight", lambda: assign.EntropyConstrained("1")),
    ("steps", lambda: assign.Soft(steps=2.5)),
    ("gamma", lambda: assign.Soft(gamma="x")),
    ("annealing", lambda: assign.Soft(annealing="x")),
    ("max_scale", lambda: estimator.Rotation("1")),
    ("std", lambda: estimator.DiVeQ("1")),
    ("start", lambda: estimator.Gumbel(start="1")),
    ("steps", lambda: estimator.Gumbel(steps=2.5)),
    ("temperature", lambda: estimator.SoftmaxAll("1")),
    # Functions
    ("z and codebook", lambda: nearest([1], [2])),
    ("model", lambda: quantizers(None)),
    ("spec", lambda: from_spec(None)),
    ("NoneType", lambda: to_spec(None)),
    ("path", lambda: load(3)),
    ("lengths", lambda: layout.length_mask(torch.tensor([1.5]))),
    ("lengths", lambda: layout.length_mask([1, 2])),
    ("z", lambda: layout.channel_first(vq(), [1])),
    ("quantizer", lambda: layout.channel_first(nn.Linear(2, 2), torch.randn(2, 4, 3))),
    ("z", lambda: objectives.assignment_entropy([1], Z)),
    ("temperature", lambda: objectives.assignment_entropy(Z, Z, temperature="1")),
    ("codewords", lambda: objectives.orthogonality([1])),
    # Metrics
    ("codebook_sizes", lambda: CodeUsage("16")),
    ("codebook_sizes", lambda: CodeUsage([16, 2.5])),
    ("indices", lambda: CodeUsage(16).update(torch.tensor([0.9, 1.9]))),
    ("indices", lambda: CodeUsage(16).update([1, 2])),
    ("indices", lambda: CodeUsage(2).update(torch.tensor([True]))),
    ("dim", lambda: Gap("4", [16])),
    ("codebook_sizes", lambda: Gap(4, 16)),
    ("z", lambda: Gap(4, [16]).update([1], [2])),
]


@pytest.mark.parametrize(("name", "call"), WRONG, ids=[f"{i}-{name}" for i, (name, _) in enumerate(WRONG)])
def test_it_is_named(name: str, call: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=name):
        call()


def test_one_table_under_two_names_is_no_file(tmp_path) -> None:
    parts = [vq(update=update.Gradient()), vq(update=update.Gradient())]
    product = Product(parts)
    parts[1].codebook.table = parts[0].codebook.table  # tied after it was made
    with pytest.raises(InputError, match="can't be written"):
        save(product, tmp_path / "tied.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [lambda: LFQ(4), lambda: BSQ(4)])
def test_huge_tokens_leave_the_loss_finite(make: Callable[[], LFQ | BSQ]) -> None:
    z = Z.clone()
    z[0] = 1e20
    result = make()(z)
    assert bool(result.loss.isfinite())
    assert bool(torch.stack([stat.squared_error for stat in result.stats]).isfinite().all())


def test_a_huge_token_of_lfq_keeps_its_code() -> None:
    z = Z.clone()
    z[0] = torch.tensor([1e20, -1e20, 3e38, 1.0])
    result = LFQ(4)(z.requires_grad_())
    assert int(result.indices[0]) == 0b1011
    result.loss.backward()
    assert z.grad is not None
    assert bool(z.grad.isfinite().all())


@pytest.mark.parametrize("group_bits", [1, 3, 6])
def test_second_derivatives_of_binary_losses(group_bits: int) -> None:
    quantizer = LFQ(6, temperature=2.0, group_bits=group_bits)
    z = torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()

    def loss(z: Tensor) -> Tensor:
        return quantizer(z).losses["entropy_codebook"]

    assert torch.autograd.gradgradcheck(loss, z)


def test_equal_tokens_share_their_draw_and_a_generator_gives_another() -> None:
    quantizer = vq(assign=assign.Stochastic(temperature=10.0))
    z = Z[:1].expand(1000, 4)
    assert len(quantizer(z).indices.unique()) == 1
    drawn = [int(quantizer(z, generator=torch.Generator().manual_seed(i)).indices[0]) for i in range(20)]
    assert len(set(drawn)) > 1
