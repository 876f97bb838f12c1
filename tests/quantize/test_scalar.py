"""FSQ, LFQ and BSQ: brute force over all codes, gradients, memory."""

import copy
import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from zoo import SCALAR

from codebound import BSQ, FSQ, LFQ
from codebound.errors import InputError
from codebound.quantize import code_entropy

F64 = torch.float64


def normal(rows: int, dim: int, seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_no_state() -> None:
    assert all(make().state_dict() == {} for make in SCALAR.values())


# FSQ


def bounded_by_hand(x: float, level: int) -> float:
    h = (level - 1) * 1.001 / 2
    if level % 2:
        return math.tanh(x) * h
    shift = math.atanh(0.5 / h) if level > 2 else 0.0
    return math.tanh(x + shift) * h - 0.5


@pytest.mark.parametrize("levels", [[8, 5, 5, 5], [4, 4], [2, 3, 7], [9, 6]], ids=str)
def test_fsq_is_the_nearest_grid_point_after_bounding(levels: list[int]) -> None:
    quantizer = FSQ(levels).eval()
    z = normal(300, len(levels)) * 2
    codewords, result = quantizer.codewords().double(), quantizer(z)
    bounded = torch.tensor(
        [[bounded_by_hand(float(x), level) for x, level in zip(row, levels, strict=True)] for row in z],
        dtype=F64,
    )
    half_width = torch.tensor([level // 2 for level in levels])
    distances = torch.cdist(bounded, codewords * half_width)
    assert torch.equal(result.indices[:, 0], distances.argmin(-1))
    assert torch.equal(result.z_q, codewords[distances.argmin(-1)])


@pytest.mark.parametrize("levels", [[2, 2, 2], [3, 4, 5], [7, 6, 8, 9], [2001], [64, 1001]], ids=str)
def test_fsq_reaches_every_code(levels: list[int]) -> None:
    quantizer = FSQ(levels)
    codewords = quantizer.codewords()
    assert codewords.shape == (math.prod(levels), len(levels))
    assert codewords.abs().max() <= 1
    assert len(codewords.unique(dim=0)) == len(codewords)
    # Invert the bounding in float64; a little inwards, where an outer code lies at its very end.
    level = torch.tensor(levels, dtype=F64)
    half, offset = (level - 1) * 1.001 / 2, torch.where(level % 2 == 0, 0.5, 0.0)
    shift = torch.where(level > 2, offset / half, 0.0).atanh()
    tanh = (codewords.double() * (level // 2) + offset) / half
    z = tanh.clamp(-1 + 1e-9, 1 - 1e-9).atanh() - shift
    assert torch.equal(quantizer.encode(z)[:, 0], torch.arange(math.prod(levels)))
    for far, wanted in ((1e30, level - 1), (-1e30, level * 0)):
        index = quantizer.encode(torch.full((len(levels),), far))
        digits = (quantizer.decode(index) * (level // 2) + level // 2).round()
        assert torch.equal(digits.double(), wanted)


def test_fsq_by_hand() -> None:
    quantizer = FSQ([8, 5, 5, 5])
    assert quantizer.codebook_sizes == (1000,)
    far = torch.tensor([[9.0, 9, 9, 9], [9, -9, -9, -9], [-9, 9, -9, -9], [-9, -9, -9, 9], [0, 0, 0, 0]])
    wanted = [999, 7, 4 * 8, 4 * 200, 4 + 8 * (2 + 5 * 2 + 25 * 2)]
    assert quantizer.encode(far)[:, 0].tolist() == wanted
    assert quantizer.decode(torch.tensor([[7]])).tolist() == [[0.75, -1.0, -1.0, -1.0]]
    assert quantizer(torch.zeros(4)).z_q.tolist() == [0.0] * 4  # the shift is there for this
    # 5 levels: thresholds where tanh(z)·2.002 is 0.5 and 1.5, at z = 0.2551 and 0.9729.
    z = torch.tensor([0.25, 0.26, 0.97, 0.975]).unsqueeze(-1)
    assert FSQ([5])(z).z_q.flatten().tolist() == [0.0, 0.5, 0.5, 1.0]
    assert FSQ([2])(torch.tensor([[-0.1], [0.1]])).z_q.flatten().tolist() == [-1.0, 0.0]


@pytest.mark.parametrize("levels", [[8, 5, 5], [2, 3]], ids=str)
def test_fsq_gradient_is_that_of_the_bounding(levels: list[int]) -> None:
    quantizer, z = FSQ(levels), normal(40, len(levels)).requires_grad_()
    (gradient,) = torch.autograd.grad(quantizer(z).z_q.sum(), z)
    step = 1e-6
    plus, minus = quantizer.bound(z.detach() + step), quantizer.bound(z.detach() - step)
    half_width = torch.tensor([level // 2 for level in levels])
    assert torch.allclose(gradient, (plus - minus) / (2 * step) / half_width, atol=1e-8)
    assert gradient.abs().max() > 0.1


# LFQ and BSQ


@pytest.mark.parametrize("quantizer", [LFQ(8), LFQ(8, scale=0.3), BSQ(8)], ids=str)
def test_binary_codes_are_the_nearest(quantizer: LFQ | BSQ) -> None:
    z = normal(500, 8)
    z[0] = 0.0
    codewords, result = quantizer.codewords(), quantizer.eval()(z)
    assert len(codewords.unique(dim=0)) == 256
    nearest = torch.cdist(z[1:], codewords.double()).argmin(-1)
    assert torch.equal(result.indices[1:, 0], nearest)
    assert torch.equal(result.z_q, codewords.double()[result.indices[:, 0]])
    assert result.indices[0].item() == 0  # sign(0) is −1
    assert torch.equal(quantizer.encode(codewords)[:, 0], torch.arange(256))  # every code is reached
    first = quantizer.decode(torch.tensor([[128]]))[0]
    assert first.sign().tolist() == [1.0] + [-1.0] * 7  # the first coordinate is the highest bit
    lengths = codewords.norm(dim=-1)
    assert torch.allclose(lengths, lengths[0])
    if isinstance(quantizer, BSQ):
        assert lengths[0].item() == pytest.approx(1.0, rel=1e-6)


def soft_codes(quantizer: LFQ | BSQ, z: Tensor) -> Tensor:
    """p(c|z) of all codes by their definition."""
    y = z / z.norm(dim=-1, keepdim=True) if isinstance(quantizer, BSQ) else z
    codewords = quantizer.codewords().double()
    squares = (y.unsqueeze(1) - codewords).square().sum(-1)
    return (-squares / quantizer.temperature).softmax(-1)


def entropy(p: Tensor) -> Tensor:
    return torch.special.xlogy(p, p).sum(-1).neg()


def marginals(p: Tensor, sizes: list[int]) -> list[Tensor]:
    """Of groups of adjacent bits, from the distribution of all codes."""
    p, found = p.view([2**size for size in sizes]), []
    for kept in range(len(sizes)):
        others = [axis for axis in range(len(sizes)) if axis != kept]
        found.append(p.sum(others) if others else p)
    return found


@pytest.mark.parametrize(
    ("quantizer", "groups"),
    [
        (LFQ(8, temperature=2.0), [8]),
        (LFQ(8, temperature=0.3), [8]),
        (LFQ(7, temperature=1.0, scale=0.5), [7]),
        (LFQ(8, temperature=2.0, group_bits=3), [3, 3, 2]),
        (LFQ(8, temperature=2.0, group_bits=1), [1] * 8),
        (BSQ(8), [1] * 8),
        (BSQ(8, temperature=0.1, group_bits=8), [8]),
        (BSQ(9, temperature=0.1, group_bits=4), [3, 3, 3]),
    ],
    ids=str,
)
def test_entropies_by_enumeration(quantizer: LFQ | BSQ, groups: list[int]) -> None:
    z = (normal(60, quantizer.bits) + 0.3).requires_grad_()
    mask = torch.arange(60) % 4 != 1
    losses = quantizer.train()(z, mask=mask).losses
    p = soft_codes(quantizer, z[mask])
    wanted = {
        "entropy_sample": entropy(p).mean(),
        "entropy_codebook": torch.stack([entropy(m.flatten()) for m in marginals(p.mean(0), groups)]).sum(),
    }
    for name, value in wanted.items():
        # The layer's scale is float64 and the listed codewords float32: 1/√8 agrees to 1e-8.
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-6), name
        (gradient,) = torch.autograd.grad(losses[name], z, retain_graph=True)
        (right,) = torch.autograd.grad(value, z, retain_graph=True)
        assert torch.allclose(gradient, right, rtol=1e-5, atol=1e-8), name
        assert gradient.abs().max() > 1e-4


def test_groups_bound_the_joint_entropy_from_above() -> None:
    logits = normal(500, 9) @ normal(9, 9, seed=1)  # dependent bits
    weights = torch.full((500,), 1 / 500, dtype=F64)
    values = [code_entropy.codebook_entropy(logits, weights, bits).item() for bits in (1, 3, 5, 9)]
    assert values[0] > values[1] > values[3] + 0.05
    assert values[2] > values[3]
    assert values[0] < 9 * math.log(2)


def test_mean_probabilities_gradient_by_finite_differences() -> None:
    logits = normal(5, 5).requires_grad_()
    weights = torch.tensor([0.3, 0.0, 0.2, 0.4, 0.1], dtype=F64)
    assert torch.autograd.gradcheck(lambda x: code_entropy.mean_probabilities(x, weights), logits)
    assert torch.autograd.gradcheck(lambda x: code_entropy.codebook_entropy(x, weights, 5), logits)
    assert torch.autograd.gradcheck(lambda x: code_entropy.sample_entropy(x, weights), logits)


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_mean_probabilities_do_not_depend_on_chunks(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, weights = normal(50, bits).requires_grad_(), torch.full((50,), 0.02, dtype=F64)
    found = []
    for chunk in (2**18, 100):
        monkeypatch.setattr(code_entropy, "CHUNK", chunk)
        mean = code_entropy.mean_probabilities(logits, weights)
        (gradient,) = torch.autograd.grad(code_entropy.codebook_entropy(logits, weights, 20), logits)
        found.append((mean.detach(), gradient))
    assert mean.sum().item() == pytest.approx(1.0)
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("quantizer", [LFQ(18), LFQ(8), BSQ(8, temperature=0.01, group_bits=8)], ids=str)
def test_saturated_and_tiny_latents_have_finite_gradients(quantizer: LFQ | BSQ) -> None:
    z = normal(12, quantizer.dim, dtype=torch.float32)
    scales = torch.tensor([0.0, 1e-38, 1e-30, 1e-8, 1e-4, 1.0, 1e4, 1e8, 1e15, 1e16, 1e17, 1e18])
    z = (z * scales.unsqueeze(-1)).requires_grad_()
    result = quantizer.train()(z)
    (gradient,) = torch.autograd.grad(result.z_q.square().sum() + result.loss, z)
    assert result.loss.isfinite()
    assert gradient.isfinite().all()
    assert torch.equal(result.z_q, quantizer.decode(result.indices))


def test_bsq_at_the_ends_of_float32() -> None:
    quantizer = BSQ(4)
    rows = [[0.0, 0, 0, 0], [1e-40, -1e-40, 0, 0], [3e38, -3e38, 3e38, 3e38], [3e38, 1e-10, -1e-10, 0]]
    z = torch.tensor(rows, requires_grad=True)
    result = quantizer(z)
    assert torch.equal(result.z_q > 0, z > 0)
    (gradient,) = torch.autograd.grad(result.z_q[:, 0].sum(), z)
    assert (gradient[:2] == 0).all()
    assert gradient.isfinite().all()


def test_gradients_of_the_reproduction() -> None:
    direction = normal(40, 6, seed=3)
    z = normal(40, 6).requires_grad_()
    (gradient,) = torch.autograd.grad((LFQ(6)(z).z_q * direction).sum(), z)
    assert torch.equal(gradient, direction)  # straight through
    (gradient,) = torch.autograd.grad((BSQ(6)(z).z_q * direction).sum(), z)
    (wanted,) = torch.autograd.grad((z / z.norm(dim=-1, keepdim=True) * direction).sum(), z)
    assert torch.allclose(gradient, wanted)
    (wanted,) = torch.autograd.grad(
        (z / z.norm(dim=-1, keepdim=True) - z.sign().detach() / math.sqrt(6)).square().sum(), z
    )
    quantizer = BSQ(6, entropy_weight=0.0, commitment_weight=40.0)
    (gradient,) = torch.autograd.grad(quantizer(z).loss, z)
    assert torch.allclose(gradient, wanted, rtol=1e-5, atol=1e-6)


def test_losses_and_weights() -> None:
    z = normal(30, 5)
    quantizer = LFQ(5, entropy_weight=0.2, diversity=3.0, commitment_weight=0.5)
    result = quantizer(z)
    assert quantizer.loss_weights == pytest.approx(
        {"commitment": 0.5, "entropy_sample": 0.2, "entropy_codebook": -0.6}
    )
    assert result.losses["commitment"].item() == pytest.approx((z - z.sign()).square().sum(-1).mean().item())
    total = sum(quantizer.loss_weights[name] * value.item() for name, value in result.losses.items())
    assert result.loss.item() == pytest.approx(total)
    assert set(quantizer.eval()(z).losses) == {"commitment"}
    assert set(LFQ(5, entropy_weight=0.0)(z).losses) == {"commitment"}
    assert set(LFQ(5, diversity=0.0)(z).losses) == {"commitment", "entropy_sample"}
    assert FSQ([3, 3])(z[:, :2]).losses == {}


@pytest.mark.parametrize("kind", [LFQ, BSQ])
def test_the_entropy_loss_spreads_codes(kind: type) -> None:
    """Latents that all begin at one code take many."""
    quantizer = kind(5, temperature=1.0, group_bits=5, commitment_weight=0.0, entropy_weight=1.0)
    z = (0.5 + 0.1 * normal(200, 5)).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    before = quantizer(z)
    assert len(before.indices.unique()) == 1
    for _ in range(60):
        optimizer.zero_grad()
        quantizer(z).loss.backward()
        optimizer.step()
    after = quantizer(z)
    assert len(after.indices.unique()) > 20
    assert after.losses["entropy_codebook"] > 3.3  # of 5 ln 2 = 3.466


def test_random_bits() -> None:
    quantizer = LFQ(4, stochastic=True, temperature=4.0)
    z = torch.tensor([-2.0, -0.5, 0.0, 1.0]).expand(20_000, -1).clone().requires_grad_()
    result = quantizer(z, generator=torch.Generator().manual_seed(0))
    frequency = (result.z_q > 0).double().mean(0)
    assert torch.allclose(frequency, z[0].detach().double().sigmoid(), atol=0.015)  # four deviations
    (gradient,) = torch.autograd.grad(result.z_q.sum(), z)
    assert (gradient == 1).all()
    again = quantizer(z, generator=torch.Generator().manual_seed(0))
    other = quantizer(z, generator=torch.Generator().manual_seed(1))
    assert torch.equal(result.indices, again.indices)
    assert not torch.equal(result.indices, other.indices)
    assert (quantizer.encode(z) == 0b0001).all()
    assert (quantizer.eval()(z).indices == 0b0001).all()
    masked = quantizer.train()(z[:9], mask=torch.arange(9) > 2)
    assert (masked.indices[:3] == -1).all()
    assert (masked.z_q[:3] == 0).all()


# What all of them share


def test_report_and_window() -> None:
    quantizer = FSQ([2, 2])
    a = torch.tensor([[-1.0, -1], [-1, -1], [1, -1], [float("nan"), 0]])
    report = quantizer.update_(quantizer(a))
    assert (report.tokens, report.non_finite) == (3, 1)
    assert report.window_usage == (0.5,)
    assert report.window_perplexity[0] == pytest.approx(3 / 2 ** (2 / 3))
    quantizer.eval()(a)
    quantizer.train()
    both = quantizer.update_(quantizer(torch.ones(2, 2)), quantizer(torch.ones(1, 2)))
    assert (both.tokens, both.window_usage) == (3, (0.75,))  # the window holds all six
    assert quantizer.window_counts.tolist() == [2, 1, 0, 3]
    quantizer.update_(quantizer(torch.ones(194, 2)))  # the window of 4·50 tokens is full
    assert quantizer.update_(quantizer(torch.ones(1, 2))).window_usage == (0.25,)
    with pytest.raises(InputError, match="training"):
        quantizer.update_(quantizer.eval()(a))
    with pytest.raises(InputError, match="training"):
        quantizer.update_()


def test_too_many_codes_to_count() -> None:
    for quantizer in (LFQ(19, group_bits=1), FSQ([65] * 3), BSQ(62)):
        z = normal(7, quantizer.dim, dtype=torch.float32)
        z[2] = float("inf")
        result = quantizer(z)
        assert result.stats[0].hits.tolist() == [6.0]
        report = quantizer.update_(result, quantizer(z))
        assert (report.tokens, report.non_finite) == (12, 2)
        assert math.isnan(report.window_usage[0])
        assert math.isnan(report.window_perplexity[0])
        with pytest.raises(InputError, match=r"codewords"):
            quantizer.codewords()
    assert len(LFQ(18).codewords()) == 2**18


def test_half_precision_modules_keep_their_codes() -> None:
    for name, make in SCALAR.items():
        quantizer = make()
        z = normal(50, quantizer.dim).bfloat16()
        wanted = quantizer(z)
        module = torch.nn.Sequential(copy.deepcopy(quantizer)).bfloat16()
        got = module(z)
        assert torch.equal(got.indices, wanted.indices), name
        assert torch.equal(got.z_q, wanted.z_q)
        assert got.z_q.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: FSQ([]), "levels"),
        (lambda: FSQ([8, 1]), "levels"),
        (lambda: FSQ([8, 2**61]), "2\\^62"),
        (lambda: LFQ(0), "bits"),
        (lambda: LFQ(63), "bits"),
        (lambda: BSQ(63), "bits"),
        (lambda: BSQ(0), "bits"),
        (lambda: LFQ(8, temperature=0.0), "temperature"),
        (lambda: LFQ(8, scale=-1.0), "scale"),
        (lambda: LFQ(8, scale=math.inf), "scale"),
        (lambda: LFQ(8, entropy_weight=-0.1), "entropy_weight"),
        (lambda: LFQ(8, diversity=math.nan), "diversity"),
        (lambda: BSQ(8, commitment_weight=-1.0), "commitment_weight"),
        (lambda: LFQ(30, group_bits=21), "group_bits"),
        (lambda: BSQ(8, group_bits=0), "group_bits"),
    ],
)
def test_arguments_out_of_range(make, named: str) -> None:
    with pytest.raises(InputError, match=named):
        make()


MEMORY = """
import resource, torch
torch.set_num_threads(1)
from codebound import LFQ

def step(quantizer, tokens):
    z = torch.randn(tokens, quantizer.dim, requires_grad=True)
    for _ in range(2):
        result = quantizer(z)
        (result.z_q.sum() + result.loss).backward()
        quantizer.update_(result)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

step(LFQ(4), 8)  # libraries load and threads start
quantizer, before = LFQ(18), peak()
step(quantizer, 4096)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in kilobytes on Linux")
def test_memory_of_the_entropy_at_18_bits() -> None:
    """16 MB beyond 12 arrays of the latents' size and 8 of a float64 per code; N·2^18 floats are 4.3 GB."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16e6 + 12 * (4096 * 18 * 4) + 8 * (2**18 * 8)
