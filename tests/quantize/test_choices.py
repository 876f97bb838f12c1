"""The choices beyond nearest, straight-through and EMA, each against its definition."""

import math

import pytest
import torch
from zoo import NEVER, VECTOR

from codebound import VectorQuantizer
from codebound.errors import InputError
from codebound.quantize import assign, estimator, form, revival, update
from codebound.quantize.noise import gumbel, normal, token_keys, uniform
from codebound.quantize.update import Memory


def memory(codebook_size: int, **values) -> Memory:
    start = Memory(
        torch.ones(codebook_size),
        torch.tensor(0),
        torch.tensor(0.0),
        torch.tensor(12345),
        torch.tensor(False),
    )
    return start._replace(**values)


def latents(n: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Noise


def test_noise_has_its_distribution_and_depends_on_the_token_alone() -> None:
    z = latents(4000, 3)
    keys = token_keys(z, torch.tensor(7))
    u, g, n = uniform(keys, 25), gumbel(keys, 25), normal(keys, 25)
    assert float(u.mean()) == pytest.approx(0.5, abs=0.004)
    assert float(u.var()) == pytest.approx(1 / 12, abs=0.002)
    assert float(g.mean()) == pytest.approx(0.5772, abs=0.02)
    assert float(g.var()) == pytest.approx(math.pi**2 / 6, rel=0.03)
    assert float(n.mean()) == pytest.approx(0.0, abs=0.015)
    assert float(n.var()) == pytest.approx(1.0, abs=0.02)
    assert float(torch.corrcoef(n.T).fill_diagonal_(0).abs().max()) < 0.08
    order = torch.randperm(4000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(uniform(token_keys(z[order], torch.tensor(7)), 25), u[order])
    assert not torch.equal(uniform(token_keys(z, torch.tensor(8)), 25), u)


# Estimators


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-6])
def test_rotation_is_safe_near_the_origin(scale: float) -> None:
    quantizer = VectorQuantizer(4, 8, estimator=estimator.Rotation(), **NEVER)
    quantizer.codebook.reset_(latents(8, 4) + 1)
    z = (latents(32, 4, seed=1) * scale).requires_grad_()
    q = quantizer(z)
    assert torch.equal(q.z_q, quantizer.codebook.codewords()[q.indices.squeeze(-1)])
    q.z_q.sum().backward()
    assert z.grad is not None
    assert z.grad.norm(dim=-1).max() <= 2.0 + 1e-5  # |(1, 1, 1, 1)|: unchanged


def test_rotation_takes_the_token_to_its_codeword() -> None:
    z, c = latents(64, 5, dtype=torch.float64), latents(64, 5, seed=1, dtype=torch.float64)
    rotation = estimator.Rotation(max_scale=1e9)
    jacobian = rotation.jacobian(z, c, estimator.Choice(c, memory(64)))
    assert torch.allclose((jacobian @ z.unsqueeze(-1)).squeeze(-1), c, atol=1e-9)
    gram = jacobian.transpose(1, 2) @ jacobian
    scale = (c.norm(dim=-1) / z.norm(dim=-1)).square()
    assert torch.allclose(gram, scale[:, None, None] * torch.eye(5, dtype=torch.float64), atol=1e-8)


def test_rotation_of_opposite_vectors_passes_the_gradient() -> None:
    z = torch.tensor([[1.0, 0.0]], requires_grad=True)
    out = estimator.Rotation()(z, -z.detach(), estimator.Choice(z.detach(), memory(1)))
    assert torch.equal(out, -z.detach())
    out.sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, torch.ones(1, 2))


def test_nsvq_is_as_far_from_the_token_as_the_codeword() -> None:
    z, c = latents(200, 6), latents(200, 6, seed=1)
    out = estimator.NSVQ()(z, c, estimator.Choice(c, memory(200)))
    assert torch.allclose((out - z).norm(dim=-1), (c - z).norm(dim=-1), rtol=1e-4)
    assert (out - c).norm(dim=-1).min() > 0.1


def test_diveq_comes_to_the_codeword_without_noise() -> None:
    z, c = latents(200, 6), latents(200, 6, seed=1)
    out = estimator.DiVeQ(std=0.0)(z, c, estimator.Choice(c, memory(200)))
    assert torch.allclose(out, c, atol=1e-5)


@pytest.mark.parametrize("kind", [estimator.NSVQ(), estimator.DiVeQ(), estimator.SoftmaxAll()])
def test_the_codebook_learns_from_the_task_alone(kind) -> None:
    quantizer = VectorQuantizer(4, 8, estimator=kind, update=update.Gradient(), **NEVER)
    quantizer.codebook.reset_(latents(8, 4))
    quantizer(latents(64, 4, seed=1)).z_q.square().sum().backward()
    assert quantizer.codebook.table.grad is not None
    assert quantizer.codebook.table.grad.abs().max() > 0


def test_a_token_on_its_codeword_has_a_finite_gradient() -> None:
    for kind in (estimator.NSVQ(), estimator.DiVeQ(), estimator.Rotation()):
        quantizer = VectorQuantizer(3, 4, estimator=kind, update=update.Gradient(), **NEVER)
        quantizer.codebook.reset_(latents(4, 3))
        z = quantizer.codebook.codewords().detach().clone().requires_grad_()
        quantizer(z).z_q.sum().backward()
        assert z.grad is not None
        assert z.grad.isfinite().all()


@pytest.mark.parametrize("noisy", [False, True])
def test_soft_codeword_is_the_naive_formula_with_its_gradients(noisy: bool, monkeypatch) -> None:
    monkeypatch.setattr(estimator, "CHUNK", 40)  # several chunks
    z = latents(33, 3, dtype=torch.float64).requires_grad_()
    c = latents(7, 3, seed=1, dtype=torch.float64).requires_grad_()
    keys = token_keys(z, torch.tensor(3)) if noisy else None
    direction = latents(33, 3, seed=2, dtype=torch.float64)
    out = estimator.soft_codeword(z, c, keys, 0.7, torch.tensor(0.5))
    got = torch.autograd.grad((out * direction).sum(), (z, c))
    noise = 0.0 if keys is None else gumbel(keys, 7).double()
    weights = ((-torch.cdist(z, c).square() / 0.7 + noise) / 0.5).softmax(-1)
    wanted = torch.autograd.grad((weights @ c * direction).sum(), (z, c))
    assert torch.allclose(out, weights @ c, atol=1e-9)
    for a, b in zip(got, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_gumbel_draws_what_it_differentiates() -> None:
    z, c = latents(500, 3), latents(6, 3, seed=1)
    chosen = assign.Gumbel(0.8)(z, c, memory(6))
    noise = gumbel(token_keys(z, memory(6).salt), 6)
    weights = -torch.cdist(z, c).square() / 0.8 + noise
    assert torch.equal(chosen, weights.argmax(-1))


def test_gumbel_temperature_falls_over_the_steps() -> None:
    kind = estimator.Gumbel(start=2.0, end=0.5, steps=100)
    taus = [float(kind.temperature(memory(2, step=torch.tensor(t)))) for t in (0, 50, 100, 1000)]
    assert taus == pytest.approx([2.0, 1.0, 0.5, 0.5])


# Assignments


def test_stochastic_codes_follow_the_boltzmann_distribution() -> None:
    c = torch.tensor([[0.0], [1.0], [2.0]])
    z = 0.4 + 1e-4 * latents(30_000, 1)  # nearly the same token, with noise of its own each
    chosen = assign.Stochastic(0.7)(z, c, memory(3))
    share = torch.bincount(chosen, minlength=3).double() / len(z)
    wanted = (-(0.4 - c.squeeze(-1)).square() / 0.7).softmax(0).double()
    assert torch.allclose(share, wanted, atol=0.01)


def test_stochastic_is_nearest_in_eval() -> None:
    quantizer = VECTOR["stochastic"]().eval()
    z = latents(100, 4)
    assert torch.equal(quantizer(z).indices.squeeze(-1), quantizer.distances(z).argmin(-1))


def test_a_generator_redraws_the_noise() -> None:
    quantizer, z = VECTOR["stochastic"](), latents(500, 4)
    first, again = quantizer(z).indices, quantizer(z).indices
    assert torch.equal(first, again)  # forward is pure
    other = quantizer(z, generator=torch.Generator().manual_seed(1)).indices
    assert not torch.equal(first, other)


def test_cosine_ignores_lengths() -> None:
    z, c = latents(300, 4), latents(20, 4, seed=1)
    lengths = torch.rand(20, 1, generator=torch.Generator().manual_seed(2)) + 0.1
    wanted = torch.nn.functional.cosine_similarity(z.unsqueeze(1), c, dim=-1).argmax(-1)
    assert torch.equal(assign.Cosine().encode(z, c * lengths, memory(20)), wanted)


def test_entropy_constrained_minimises_distortion_plus_rate() -> None:
    z, c = latents(400, 3), latents(10, 3, seed=1)
    counts = torch.arange(1.0, 11.0)
    length = (counts.sum() / counts).log2()
    wanted = (torch.cdist(z.double(), c.double()).square() + 0.3 * length).argmin(-1)
    assert torch.equal(assign.EntropyConstrained(0.3).encode(z, c, memory(10, counts=counts)), wanted)
    plain = assign.Nearest().encode(z, c, memory(10))
    assert torch.equal(assign.EntropyConstrained(0.0).encode(z, c, memory(10, counts=counts)), plain)


# Blahut–Arimoto


def test_soft_statistics_are_the_definition() -> None:
    z, c = latents(100, 4), latents(6, 4, seed=1)
    counts = torch.arange(1.0, 7.0)
    kind = assign.Soft(steps=100, start=0.5, end=4.0, annealing=0.5, gamma=0.8)
    now = memory(6, counts=counts, step=torch.tensor(25), distortion=torch.tensor(1.5))
    slope = 0.5 * 8**0.5 * 4 / (2 * 1.5)  # κ = .5·8^(25/50)
    assert float(kind.slope(now, 4)) == pytest.approx(slope)
    unscaled = assign.Soft(steps=100, start=0.5, end=4.0, annealing=0.5, scaled=False)
    assert float(unscaled.slope(now, 4)) == pytest.approx(0.5 * 8**0.5)  # whatever the distortion
    q = (0.8 * (counts / 21).log() - slope * torch.cdist(z, c).square()).softmax(-1).double()
    indices = torch.zeros(100, dtype=torch.int64)
    got = kind.statistics(z, c, indices, now)
    assert torch.allclose(got[0], q.sum(0), atol=1e-4)
    assert torch.allclose(got[1], q.T @ z.double(), atol=1e-4)
    indices[30:] = -1  # have no part in the sums, whatever is in them
    z[30:] = math.nan
    got = kind.statistics(z, c, indices, now)
    assert torch.allclose(got[1], q[:30].T @ z[:30].double(), atol=1e-4)


def test_after_annealing_the_statistics_are_hard() -> None:
    kind, z, c = assign.Soft(steps=10, annealing=0.5), latents(50, 2), latents(4, 2, seed=1)
    late = memory(4, step=torch.tensor(5), distortion=torch.tensor(1.0))
    chosen = kind.encode(z, c, late)
    assert not bool(kind.is_soft(late))
    assert torch.equal(kind.statistics(z, c, chosen, late)[0], torch.bincount(chosen, minlength=4).double())


def test_the_report_has_the_slope_and_the_critical_one() -> None:
    quantizer = VectorQuantizer(4, 32, assign=assign.Soft(steps=50), update=update.BlahutArimoto(), **NEVER)
    z = latents(4000, 4) * torch.tensor([2.0, 1.0, 1.0, 1.0])
    quantizer.init_(z)
    reports = [quantizer.update_(quantizer(z)) for _ in range(50)]
    assert reports[0].slope is None  # no distortion was seen yet
    assert reports[1].critical_slope == pytest.approx(1 / (2 * 4), rel=0.1)
    assert reports[30].slope > reports[1].slope
    assert reports[40].slope is None  # hard phase


def clusters(seed: int, n: int = 4096) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(50, 8, generator=generator)
    spread = torch.randn(n, 8, generator=generator) * 0.3
    return centres[torch.randint(50, (n,), generator=generator)] + spread


def held_out_distortion(quantizer: VectorQuantizer, steps: int = 300) -> float:
    z = clusters(0, 40_000)
    quantizer.codebook.reset_(latents(quantizer.codebook_size, 8) / 10)  # a poor start, the same for all
    for step in range(steps):
        quantizer.update_(
            quantizer(z[torch.randint(36_000, (1024,), generator=torch.Generator().manual_seed(step))])
        )
    fresh = z[36_000:]
    return float((fresh - quantizer.eval()(fresh).z_q).square().sum(-1).mean())


@pytest.mark.slow
def test_blahut_arimoto_beats_plain_ema_and_loses_to_ema_with_revival_on_clusters() -> None:
    plain = held_out_distortion(VectorQuantizer(8, 128, **NEVER))
    soft = held_out_distortion(
        VectorQuantizer(8, 128, assign=assign.Soft(steps=300), update=update.BlahutArimoto(), **NEVER)
    )
    revived = held_out_distortion(VectorQuantizer(8, 128, revival=revival.Resample(window=10.0)))
    assert soft < 0.9 * plain
    assert revived < plain


# Forms


def test_a_linear_form_moves_every_codeword_at_once() -> None:
    quantizer = VECTOR["simvq"]()
    quantizer.init_(latents(200, 4))
    before = quantizer.codebook.codewords().detach().clone()
    optimizer = torch.optim.SGD(quantizer.codebook_parameters(), lr=0.5)
    quantizer(latents(3, 4, seed=5)).loss.backward()
    optimizer.step()
    moved = (quantizer.codebook.codewords().detach() - before).norm(dim=-1)
    assert (moved > 0).all()
    assert not quantizer.codebook.table.requires_grad


def test_unit_codewords_have_length_one() -> None:
    quantizer = VECTOR["unit"]()
    quantizer.init_(3 * latents(200, 4))
    assert torch.allclose(quantizer(latents(9, 4)).z_q.norm(dim=-1), torch.ones(9))


def test_a_frozen_codebook_stays() -> None:
    quantizer = VectorQuantizer(4, 16)
    z = latents(500, 4)
    quantizer.init_(z)
    quantizer.freeze_()
    before = quantizer.codebook.codewords().clone()
    quantizer.update_(quantizer(z + 1))
    assert torch.equal(quantizer.codebook.codewords(), before)
    quantizer.unfreeze_()
    quantizer.update_(quantizer(z + 1))
    assert not torch.equal(quantizer.codebook.codewords(), before)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"assign": assign.Gumbel()}, "need each other"),
        ({"estimator": estimator.Gumbel()}, "need each other"),
        ({"assign": assign.Soft()}, "need each other"),
        ({"update": update.BlahutArimoto()}, "need each other"),
        ({"form": form.Linear()}, "update=Gradient"),
        ({"form": form.Linear(), "update": update.Gradient(), "revival": revival.Split()}, "revival=Never"),
        ({"update": update.Frozen(), "revival": revival.Resample()}, "revival=Never"),
        ({"loss_weights": {"commitment": float("nan")}}, "commitment"),
        ({"loss_weights": {"codebook": -1.0}}, "codebook"),
        ({"loss_weights": {"comitment": 1.0}}, "comitment"),
    ],
)
def test_choices_that_need_each_other_are_refused_apart(choices: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        VectorQuantizer(4, 16, **choices)


def test_revival_is_off_by_default_where_no_codeword_moves_alone() -> None:
    assert VectorQuantizer(4, 16).revival == revival.Resample()
    assert VectorQuantizer(4, 16, update=update.Frozen()).revival == revival.Never()
    assert VectorQuantizer(4, 16, form=form.Linear(), update=update.Gradient()).revival == revival.Never()


@pytest.mark.parametrize(
    "bad",
    [
        lambda: assign.Stochastic(0.0),
        lambda: assign.Gumbel(-1.0),
        lambda: assign.EntropyConstrained(-1.0),
        lambda: assign.Soft(annealing=0.0),
        lambda: estimator.Rotation(0.5),
        lambda: estimator.DiVeQ(-1.0),
        lambda: estimator.Gumbel(end=0.0),
        lambda: estimator.SoftmaxAll(0.0),
        lambda: update.BlahutArimoto(decay=1.0),
        lambda: update.BlahutArimoto(jitter=-1.0),
    ],
)
def test_values_out_of_range_are_refused(bad) -> None:
    with pytest.raises(InputError, match="must be"):
        bad()
