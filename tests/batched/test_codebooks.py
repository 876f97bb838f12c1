"""Batched training of codebooks: the closed form against autograd, one step at a time and over a run."""

import pytest
import torch

from codebound import VectorQuantizer
from codebound.batched.codebooks import Adam, Group, batch_order, train_codebooks
from codebound.nets.linear import PCA
from codebound.quantize.revival import Never
from codebound.quantize.update import EMA, Gradient
from codebound.tokenizers.linear import LinearVQVAE


def autograd_run(
    z: torch.Tensor, start: torch.Tensor, order: torch.Tensor, lr: float, cosine: bool
) -> torch.Tensor:
    """The same run by autograd through the whole linear-Gaussian VQ-VAE."""
    axes = torch.linalg.qr(torch.randn(20, z.shape[1], generator=torch.Generator().manual_seed(5))).Q
    model = LinearVQVAE(
        PCA(axes), VectorQuantizer(z.shape[1], len(start), update=Gradient(), revival=Never())
    )
    model.quantizer.codebook.reset_(start)
    x = model.network.decode(z)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(order)) if cosine else None
    for rows in order:
        loss = model(x[rows]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if schedule:
            schedule.step()
    return model.quantizer.codebook.codewords().detach()


@pytest.fixture
def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1000, 4, generator=generator)
    return z, z[:16].clone(), batch_order(1000, 64, 60, generator)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_batched_adam_follows_autograd(problem, schedule: str) -> None:
    z, start, order = problem
    rule = Adam(1e-2, schedule)  # pyright: ignore[reportArgumentType]
    batched = train_codebooks(z, [Group(rule, torch.stack([start, start + 0.1]))], order, lambda *_: None, 10)
    single = autograd_run(z, start, order, 1e-2, schedule == "cosine")
    assert (batched[0] - single).norm() / single.norm() < 1e-4
    assert (batched[0] - start).norm() / start.norm() > 0.05  # it did move


def test_batched_ema_follows_the_layer(problem) -> None:
    z, start, order = problem
    batched = train_codebooks(z, [Group(EMA(0.9), start[None].clone())], order, lambda *_: None, 10)
    quantizer = VectorQuantizer(4, 16, update=EMA(0.9), revival=Never())
    quantizer.codebook.reset_(start)
    for rows in order:
        quantizer.update_(quantizer(z[rows]))
    assert torch.equal(batched[0], quantizer.codebook.codewords())


def test_a_run_does_not_depend_on_what_is_trained_beside_it(problem) -> None:
    z, start, order = problem
    alone = train_codebooks(z, [Group(Adam(), start[None].clone())], order, lambda *_: None, 10)
    beside = [Group(Adam(), torch.stack([start, 2 * start])), Group(EMA(), start[None] - 1)]
    assert torch.equal(train_codebooks(z, beside, order, lambda *_: None, 10)[0], alone[0])


def test_evaluation_comes_before_the_first_step_and_after_the_last(problem) -> None:
    z, start, order = problem
    seen: list[tuple[int, torch.Tensor]] = []
    train_codebooks(
        z, [Group(Adam(), start[None].clone())], order, lambda s, b: seen.append((s, b.clone())), 25
    )
    assert [step for step, _ in seen] == [0, 25, 50, 60]
    assert torch.equal(seen[0][1][0], start)


def test_batches_are_permutations_of_the_samples() -> None:
    order = batch_order(100, 20, 12, torch.Generator().manual_seed(1))
    assert order.shape == (12, 20)
    for epoch in (order[:5], order[5:10]):
        assert sorted(epoch.flatten().tolist()) == list(range(100))
