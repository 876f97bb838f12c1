"""Linear autoencoders in batches: manual gradients, autograd and NumPy agree; what each gradient is in theory."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.autograd.gradcheck import GradcheckError

from codebound.batched import linear, linear_numpy
from codebound.batched.codebooks import batch_order
from codebound.batched.linear import (
    LinearRuns,
    Rule,
    autograd_gradients,
    closed_form_gradients,
    numpy_gradients,
    train_linear,
)
from codebound.errors import InputError
from codebound.nets.linear import Stiefel, polar, qr
from codebound.quantize.estimator import Projection, Rotation, StopGradient, StraightThrough
from codebound.quantize.update import Gradient
from codebound.quantize.vector import VectorQuantizer
from codebound.tokenizers.linear import LinearVQVAE

RULES = (
    Rule(),
    Rule(commitment=0, codebook_weight=0.5),
    Rule(Rotation(), commitment=0.7),
    Rule(Projection()),
    Rule(StopGradient()),
    Rule(commitment=1),
)


def draw(seed: int = 0, n: int = 4096, d: int = 12, k: int = 3, size: int = 8, runs: int = len(RULES)):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.linspace(2, 0.3, d, dtype=torch.float64)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64) * scale
    encoder = qr(torch.randn(runs, d, k, generator=generator, dtype=torch.float64))
    codebook = torch.randn(runs, size, k, generator=generator, dtype=torch.float64)
    return x, LinearRuns(encoder, codebook)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def order(steps: int, n: int = 4096, batch: int = 256) -> torch.Tensor:
    return batch_order(n, batch, steps, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("way", [closed_form_gradients, numpy_gradients])
def test_manual_and_autograd_agree_at_each_of_100_steps(way) -> None:
    rules = RULES if way is closed_form_gradients else (RULES[0], RULES[1], RULES[5])
    x, start = draw(runs=len(rules))
    worst, paths = [], {"own": [], "automatic": []}

    def both(batch, runs, rules):
        own, automatic = way(batch, runs, rules), autograd_gradients(batch, runs, rules)
        worst.append(
            max(apart(a[m], b[m]) for a, b in zip(own, automatic, strict=True) for m in range(len(a)))
        )
        return own

    for name, gradients in (("own", both), ("automatic", autograd_gradients)):
        train_linear(
            x, start, rules, order(100), gradients=gradients,
            evaluate=lambda step, runs, name=name: paths[name].append(runs),
        )  # fmt: skip
    assert len(worst) == 100
    assert max(worst) < 1e-10
    for own, automatic in zip(paths["own"], paths["automatic"], strict=True):
        assert max(apart(a, b) for a, b in zip(own, automatic, strict=True)) < 1e-8
    moved = [apart(a, b) for a, b in zip(paths["own"][-1], start, strict=True)]
    assert min(moved) > 0.01  # or the trajectories would agree for nothing


def test_the_gradients_are_exact_off_the_manifold_too() -> None:
    x, runs = draw()
    runs = runs._replace(encoder=runs.encoder * 1.3 + 0.05)
    own, automatic = closed_form_gradients(x, runs, RULES), autograd_gradients(x, runs, RULES)
    assert max(apart(a, b) for a, b in zip(own, automatic, strict=True)) < 1e-12


def test_gradcheck_where_the_loss_is_a_function() -> None:
    """Without an estimator (and α = 0) nothing that the encoder moves is detached: numerical differences apply."""
    x, runs = draw(n=40, runs=1)
    rules = [Rule(StopGradient(), codebook_weight=0)]
    leaf = runs.encoder.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: linear.loss(x, LinearRuns(w, runs.codebook), rules), (leaf,))
    own = closed_form_gradients(x, runs, rules).encoder
    automatic = torch.autograd.grad(linear.loss(x, LinearRuns(leaf, runs.codebook), rules).sum(), leaf)[0]
    assert apart(own, automatic) < 1e-12
    leaf = runs.encoder.clone().requires_grad_()
    with pytest.raises(GradcheckError):  # straight-through's is not the loss's
        torch.autograd.gradcheck(lambda w: linear.loss(x, LinearRuns(w, runs.codebook), [Rule()]), (leaf,))


def test_the_codebook_gradient_is_that_of_the_distortion() -> None:
    x, runs = draw(runs=1, n=300)
    z, indices, _ = linear.assign(x, runs)
    own = closed_form_gradients(x, runs, [Rule()]).codebook[0]
    numeric, step = torch.zeros_like(own), 1e-6
    for i in range(own.shape[0]):
        for j in range(own.shape[1]):
            moved = [runs.codebook[0].clone() for _ in range(2)]
            moved[0][i, j] += step
            moved[1][i, j] -= step
            up, down = ((z[0] - c[indices[0]]).square().sum(-1).mean() for c in moved)
            numeric[i, j] = (up - down) / (2 * step)
    torch.testing.assert_close(own, numeric, atol=1e-7, rtol=1e-6)


def tangent(w: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """The part of g that moves along the manifold: g − W sym(Wᵀg)."""
    inner = w.mT @ g
    return g - w @ (inner + inner.mT) / 2


def test_beta_one_is_the_distortions_gradient_and_beta_zero_is_pca() -> None:
    x, runs = draw(runs=1)
    w, (z, _, q) = runs.encoder, linear.assign(x, runs)
    exact, pca = (-2 * x.T @ rows / len(x) for rows in (q[0], z[0]))
    for beta, expected in ((1, exact), (0, pca), (0.25, 0.25 * exact + 0.75 * pca)):
        found = closed_form_gradients(x, runs, [Rule(commitment=beta)]).encoder
        assert apart(tangent(w, found)[0], tangent(w, expected.unsqueeze(0))[0]) < 1e-12
    assert apart(tangent(w, exact.unsqueeze(0)), tangent(w, pca.unsqueeze(0))) > 0.05


def test_beta_one_follows_the_measured_distortion() -> None:
    """A small step along the exact gradient lowers the true error by what the gradient promises."""
    x, runs = draw(runs=1, n=20_000)
    g = closed_form_gradients(x, runs, [Rule(commitment=1)]).encoder
    slope = float((tangent(runs.encoder, g) * tangent(runs.encoder, g)).sum())

    def error(step: float) -> float:
        moved = runs._replace(encoder=polar(runs.encoder - step * tangent(runs.encoder, g)))
        _, _, q = linear.assign(x, moved)
        return float((x - q[0] @ moved.encoder[0].T).square().sum(-1).mean())

    h = 1e-4
    assert (error(h) - error(-h)) / (2 * h) == pytest.approx(-slope, rel=1e-3)


@pytest.mark.parametrize("estimator", [StraightThrough(), Rotation(), Projection()])
def test_one_step_equals_the_tokenizers(estimator) -> None:
    """The study's runs are `LinearVQVAE` with `Stiefel` and the package's own quantizer."""
    x, runs = draw(runs=1, n=512)
    x, runs = x.float(), LinearRuns(*(t.float() for t in runs))
    network = Stiefel(runs.encoder[0])
    quantizer = VectorQuantizer(
        3, 8, estimator=estimator, update=Gradient(), loss_weights={"commitment": 0.25, "codebook": 1.0}
    )
    quantizer.init_(x[:100] @ runs.encoder[0])
    parameter = next(quantizer.parameters())
    with torch.no_grad():
        parameter.copy_(runs.codebook[0])
    model = LinearVQVAE(network, quantizer).train()
    model(x).loss.backward()
    own = closed_form_gradients(x, runs, [Rule(estimator)])
    assert apart(network.axes.grad, own.encoder[0]) < 1e-4
    assert apart(parameter.grad, own.codebook[0]) < 1e-4
    with torch.no_grad():
        network.axes -= 0.08 * network.axes.grad
    network.retract_()
    assert apart(network.axes.detach(), polar(runs.encoder - 0.08 * own.encoder)[0]) < 1e-5


def test_runs_do_not_touch_one_another() -> None:
    x, start = draw()
    together = train_linear(x, start, RULES, order(20))
    for i, rule in enumerate(RULES):
        alone = train_linear(x, LinearRuns(*(t[i : i + 1] for t in start)), [rule], order(20))
        assert max(apart(a[i], b[0]) for a, b in zip(together, alone, strict=True)) < 1e-11


def test_columns_stay_orthonormal_with_either_retraction() -> None:
    x, start = draw()
    ends = [train_linear(x, start, RULES, order(50), retraction=r) for r in ("polar", "qr")]
    for end in ends:
        torch.testing.assert_close(
            end.encoder.mT @ end.encoder, torch.eye(3, dtype=torch.float64).expand(len(RULES), 3, 3)
        )


def test_a_cosine_stands_still_after_its_horizon() -> None:
    x, start = draw(runs=1)
    seen = {}
    rule = Rule(schedule="cosine")
    train_linear(
        x, start, [rule], order(30), horizon=20, evaluate=lambda step, runs: seen.setdefault(step, runs)
    )
    assert torch.equal(seen[20].codebook, seen[30].codebook)
    assert not torch.equal(seen[19].codebook, seen[20].codebook)
    torch.testing.assert_close(seen[20].encoder, seen[30].encoder, rtol=0, atol=1e-13)


def test_training_from_a_random_encoder_finds_the_principal_subspace() -> None:
    x, start = draw(runs=1, d=8)
    end = train_linear(x, start, [Rule(lr_encoder=0.05)], order(300))
    values, axes = torch.linalg.eigh(x.T @ x / len(x))
    kept = torch.einsum("dk,de,ek->", end.encoder[0], x.T @ x / len(x), end.encoder[0])
    assert float(kept) > 0.995 * float(values[-3:].sum())
    assert axes.shape == (8, 8)


def test_the_numpy_file_imports_numpy_and_nothing_else() -> None:
    tree = ast.parse(Path(linear_numpy.__file__).read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"numpy", "typing", "__future__"}


def test_the_numpy_step_is_one_step_of_training() -> None:
    x, start = draw(runs=1)
    rows = order(1)
    state = linear_numpy.State(*(t[0].numpy() for t in start))
    after = linear_numpy.step(x[rows[0]].numpy(), state, 0.08, 0.2, 0.25, 1.0)
    end = train_linear(x, start, [Rule()], rows)
    np.testing.assert_allclose(after.encoder, end.encoder[0], atol=1e-13)
    np.testing.assert_allclose(after.codebook, end.codebook[0], atol=1e-13)


def test_the_lowest_index_wins_a_tie_in_numpy_as_in_torch() -> None:
    codebook = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert linear_numpy.nearest(np.array([[2.0, 1.0], [0.0, 3.0]]), codebook).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Rule(commitment=-0.1), r"commitment is -0.1"),
        (lambda: Rule(lr_encoder=float("nan")), r"lr_encoder is nan"),
        (lambda: train_linear(*draw(runs=2), [Rule()], order(1)), r"must be as many; got 1, 2 and 2"),
        (lambda: numpy_gradients(*draw(runs=1), [Rule(Rotation())]), r"straight-through.*Rotation"),
        (lambda: Stiefel(torch.ones(2, 3)), r"shape \[2, 3\]"),
        (lambda: Stiefel(torch.ones(3, 2), retraction="cayley"), r"'cayley'; accepted: polar, qr"),
    ],
)
def test_bad_input_is_refused_by_name(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
