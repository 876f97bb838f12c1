"""Updates: by hand, against k-means, and against autograd."""

import math

import pytest
import torch
from torch import Tensor

from codebound import VectorQuantizer
from codebound.errors import InputError
from codebound.quantize.init import KMeans, Sample
from codebound.quantize.revival import Never
from codebound.quantize.update import EMA, CodebookState, Frozen, Gradient, codebook_gradient
from codebound.search import assignment_sums, distortion, nearest
from codebound.theory.lloyd import lloyd


def normal(rows: int, dim: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def test_one_ema_step_by_hand() -> None:
    state = CodebookState(
        torch.tensor([[1.0], [5.0]]), torch.tensor([4.0, 2.0]), torch.tensor([[4.0], [10.0]])
    )
    counts, sums = torch.tensor([2.0, 0.0]).double(), torch.tensor([[6.0], [0.0]]).double()
    new = EMA(decay=0.5, smoothing=0.0).step(state, counts, sums)
    assert torch.equal(new.counts, torch.tensor([3.0, 1.0]))  # ½·4 + ½·2, ½·2
    assert torch.equal(new.sums, torch.tensor([[5.0], [5.0]]))  # ½·4 + ½·6, ½·10
    assert torch.allclose(new.codewords, torch.tensor([[5 / 3], [5.0]]))
    smooth = EMA(decay=0.5, smoothing=0.001).step(state, counts, sums)
    total = 4.0
    wanted = [5 / ((n + 0.001) * total / (total + 0.002)) for n in (3.0, 1.0)]
    assert torch.allclose(smooth.codewords, torch.tensor(wanted).unsqueeze(1))
    assert torch.equal(smooth.counts, new.counts)  # smoothing shows in the codewords only


def test_updates_work_on_many_runs_at_once() -> None:
    codewords, z = normal(15, 2, seed=1).view(3, 5, 2), normal(50, 2)
    counts, sums = assignment_sums(z, nearest(z, codewords), 5)
    for update in (EMA(0.9), Gradient(), Frozen()):
        joint = update.step(CodebookState.fresh(codewords), counts, sums)
        for run in range(3):
            single = update.step(CodebookState.fresh(codewords[run]), counts[run], sums[run])
            for a, b in zip(joint, single, strict=True):
                assert torch.equal(a[run], b)


def test_frozen_stays() -> None:
    quantizer = VectorQuantizer(8, 16, update=Frozen(), revival=Never())
    quantizer.init_(normal(200))
    before = quantizer.codebook.table.clone()
    for seed in range(5):
        quantizer.update_(quantizer(normal(100, seed=seed)))
    assert torch.equal(quantizer.codebook.table, before)


def test_ema_converges_to_a_fixed_point_of_lloyd() -> None:
    z = normal(2000, 4)
    quantizer = VectorQuantizer(4, 32, update=EMA(0.8), revival=Never(), init=Sample())
    quantizer.init_(z)
    for _ in range(300):
        quantizer.update_(quantizer(z))
    codewords = quantizer.codebook.table
    after = lloyd(z, codewords, iterations=1, empty="keep")
    assert float(after.distortion) == pytest.approx(float(distortion(z, codewords)), rel=2e-3)
    kmeans = KMeans()(z, 32, torch.Generator().manual_seed(0))
    assert float(distortion(z, codewords)) == pytest.approx(float(distortion(z, kmeans)), rel=0.05)


def test_no_laplace_trap() -> None:
    """Plain smoothing drags a codeword that is never hit to the origin after ln(N₀/ε)/(−ln γ) steps."""
    update = EMA(decay=0.9)
    steps = math.ceil(math.log(1.0 / update.smoothing) / -math.log(update.decay))
    state = CodebookState.fresh(torch.tensor([[0.0, 0.0], [7.0, -7.0]]))
    counts, sums = torch.tensor([64.0, 0.0]).double(), torch.zeros(2, 2).double()
    for _ in range(20 * steps):
        state = update.step(state, counts, sums)
        assert torch.allclose(state.codewords[1], torch.tensor([7.0, -7.0]), rtol=0.02)
        assert all(bool(part.isfinite().all()) for part in state)
    # And when it is hit at last, it follows at once.
    hit = update.step(
        state, torch.tensor([63.0, 1.0]).double(), torch.tensor([[0.0, 0.0], [3.0, 3.0]]).double()
    )
    assert torch.allclose(hit.codewords[1], torch.tensor([3.0, 3.0]), rtol=1e-3)


def test_sgd_on_the_codebook_loss_with_the_right_rate_is_a_lloyd_step() -> None:
    """c − η·2(N c − m)/B with η = B/(2N) is m/N."""
    z = normal(3000, 4)
    quantizer = VectorQuantizer(4, 32, update=Gradient(), revival=Never())
    quantizer.init_(z, generator=torch.Generator().manual_seed(1))
    codewords = quantizer.codebook.table
    before = codewords.detach().clone()
    counts, _ = assignment_sums(z, nearest(z, before), 32)
    quantizer(z).losses["codebook"].backward()
    assert codewords.grad is not None
    rate = 3000 / (2 * counts).unsqueeze(-1)
    stepped = before - rate * codewords.grad
    wanted = lloyd(z, before, iterations=1, tolerance=0.0, empty="keep").codebook
    assert torch.allclose(stepped.float(), wanted, atol=1e-5)


def test_gradient_of_the_codebook_loss_in_closed_form() -> None:
    z = normal(500, 4)
    quantizer = VectorQuantizer(4, 32, update=Gradient(), revival=Never())
    result = quantizer(z)
    result.losses["codebook"].backward()
    found = quantizer.codebook.table.grad
    assert found is not None
    assert float(found.abs().max()) > 1e-3
    wanted = codebook_gradient(
        quantizer.codebook.table.detach(), result.stats[0].counts, result.stats[0].sums
    )
    assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_the_straight_through_output_gives_the_codebook_no_gradient() -> None:
    """The mistake of printed examples: the loss on z_q instead of on the codeword."""
    z = normal(500, 4).requires_grad_()
    quantizer = VectorQuantizer(4, 32, update=Gradient(), revival=Never())
    result = quantizer(z)
    wrong = (z.detach() - result.z_q).square().sum()
    assert torch.autograd.grad(wrong, quantizer.codebook.table, retain_graph=True, allow_unused=True) == (
        None,
    )
    (commitment,) = torch.autograd.grad(
        result.losses["commitment"], quantizer.codebook.table, allow_unused=True, retain_graph=True
    )
    assert commitment is None
    (by_z,) = torch.autograd.grad(result.losses["codebook"], z, allow_unused=True)
    assert by_z is None


def test_gradient_training_with_adam_lowers_the_distortion() -> None:
    z = normal(4000, 4)
    quantizer = VectorQuantizer(4, 32, update=Gradient(), revival=Never(), init=Sample())
    quantizer.init_(z)
    start = float(distortion(z, quantizer.codebook.table.detach()))
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=1e-2)
    for seed in range(200):
        result = quantizer(z[torch.randperm(4000, generator=torch.Generator().manual_seed(seed))[:512]])
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        quantizer.update_(result)
    kmeans = float(distortion(z, KMeans()(z, 32, torch.Generator().manual_seed(0))))
    end = float(distortion(z, quantizer.codebook.table.detach()))
    assert end < 0.95 * start
    assert end == pytest.approx(kmeans, rel=0.05)


@pytest.mark.parametrize("wrong", [{"decay": 1.0}, {"decay": -0.1}, {"smoothing": -1.0}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        EMA(**wrong)


def stream_ema(steps: int) -> float:
    """Fresh distortion at (8, 256) after EMA .99 on a stream of 1,024 tokens per step."""
    quantizer = VectorQuantizer(8, 256, init=KMeans(1, "sample"))
    quantizer.init_(normal(10_000, seed=1))
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        quantizer.update_(quantizer(torch.randn(1024, 8, generator=generator)))
    return float(distortion(normal(200_000, seed=3), quantizer.codebook.table))


@pytest.mark.slow
def test_streaming_ema_is_on_its_way() -> None:
    assert stream_ema(800) == pytest.approx(2.60, abs=0.015)  # seeds 0–2 at 1,000 steps: 2.594 to 2.600


@pytest.mark.slow
def test_streaming_ema_reaches_its_reference() -> None:
    """The laboratory's 5,000 steps; it goes on falling slowly (2.565 at 10,000)."""
    assert stream_ema(5_000) == pytest.approx(2.574, abs=0.006)
